//! Clients and origins outside of the host, the configuration between them, and what is told of each event.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bench::ledger::{Class, Ledger};
use bench::load::{IdleClose, Limits, Load, Running, Shape};
use bench::origin::{self, Origin};
use bench::target::Target;
use bench::trust::Trust;
use harness::authority::Authority;
use harness::traffic::Traffic;
use tempfile::TempDir;

use crate::network::{HOST, OUTSIDE};

/// Which service a host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Lb,
    Edge,
}

impl Kind {
    /// For names of things that must be short.
    pub(crate) fn short(self) -> &'static str {
        match self {
            Self::Lb => "lb",
            Self::Edge => "edge",
        }
    }

    /// As its supervisor calls it; its files in /etc/zeitwork, too.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lb => "load-balancer",
            Self::Edge => "edge-proxy",
        }
    }

    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Lb => "zeitwork-load-balancer",
            Self::Edge => "zeitwork-edge-proxy",
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Lb => "zeitwork-load-balancer.service",
            Self::Edge => "zeitwork-edge-proxy.service",
        }
    }

    pub(crate) fn sockets(self) -> &'static [&'static str] {
        match self {
            Self::Lb => &["zeitwork-load-balancer.socket"],
            Self::Edge => &[
                "zeitwork-edge-proxy.socket",
                "zeitwork-edge-proxy-http.socket",
            ],
        }
    }
}

/// Everything outside of the host.
#[derive(Debug)]
pub(crate) struct Site {
    kind: Kind,
    origins: Vec<Origin>,
    /// Whoever signed the certificate of `edge`.
    scratch: TempDir,
}

impl Site {
    /// Starts the origins and writes the service's configuration into the product.
    ///
    /// # Panics
    /// When an origin does not start.
    pub(crate) fn start(kind: Kind, product: &TempDir) -> Self {
        let start = |_| Origin::start(origin::Kind::Http, SocketAddr::new(OUTSIDE, 0));
        let origins: Vec<Origin> = (0..2).map(|at| start(at).expect("an origin")).collect();
        let scratch = tempfile::tempdir().expect("scratch");
        let site = Self {
            kind,
            origins,
            scratch,
        };
        let folder = product.path().join("etc/zeitwork");
        let file = folder.join(format!("{}.toml", kind.name()));
        std::fs::write(file, site.config(&folder)).expect("written");
        site
    }

    /// The listeners are those of the shipped samples and socket units.
    fn config(&self, folder: &Path) -> String {
        let backends: Vec<String> = self
            .origins
            .iter()
            .map(|origin| format!("\"{}\"", origin.address()))
            .collect();
        let upstream = format!(
            "[upstream.app]\nbackends = [{}]\n[upstream.app.health_check]\nkind = \"tcp\"\ninterval = \"2s\"\ntimeout = \"1s\"\n",
            backends.join(", ")
        );
        match self.kind {
            Kind::Lb => format!(
                "[admin]\nlisten = \"127.0.0.1:8082\"\n[[listener]]\nname = \"web\"\naddress = \"0.0.0.0:7000\"\nupstream = \"app\"\n{upstream}"
            ),
            Kind::Edge => {
                let authority = Authority::new(self.scratch.path());
                authority.issue("server", 1);
                for file in ["server.crt", "server.key"] {
                    std::fs::copy(self.scratch.path().join(file), folder.join(file))
                        .expect("copied");
                }
                format!(
                    "[admin]\nlisten = \"127.0.0.1:8083\"\n\
                     [[listener]]\nname = \"http\"\naddress = \"0.0.0.0:80\"\n\
                     [[listener]]\nname = \"https\"\naddress = \"0.0.0.0:443\"\n\
                     [[listener.certificate]]\ncertificate = \"/etc/zeitwork/server.crt\"\nkey = \"/etc/zeitwork/server.key\"\n\
                     [[route]]\nupstream = \"app\"\n{upstream}"
                )
            }
        }
    }

    /// Clients with a connection for each request, and clients that keep theirs.
    ///
    /// # Panics
    /// When the load is wrongly described.
    pub(crate) fn load(&self) -> Traffic {
        let path = "/bytes/2000";
        let targets = match self.kind {
            Kind::Lb => vec![Target::http(SocketAddr::new(HOST, 7000), path)],
            Kind::Edge => vec![
                Target::http(SocketAddr::new(HOST, 80), path),
                Target::https(SocketAddr::new(HOST, 443), "localhost", path),
            ],
        };
        let shapes = targets.iter().flat_map(|target| {
            [Shape::Short, Shape::KeepAlive].map(|shape| self.clients(target.clone(), shape))
        });
        Traffic::of(shapes.collect())
    }

    fn clients(&self, target: Target, shape: Shape) -> Running {
        let mut load = Load::new(target, shape, 8);
        load.pause = Duration::from_millis(30);
        load.exchanges_per_connection = 20;
        // What is measured is how long they wait; nobody else would wait so long.
        load.limits = Limits {
            connect: Duration::from_secs(20),
            stall: Duration::from_secs(20),
            exchange: Duration::from_secs(40),
        };
        if self.kind == Kind::Edge {
            let file = self.scratch.path().join("ca.pem");
            load.trust = Some(Trust::authority(&file).expect("an authority"));
            load.idle_close = IdleClose::Allowed;
        }
        load.start().expect("the load starts")
    }
}

/// One line for each event, for docs/reliability.md.
#[derive(Debug)]
pub(crate) struct Report {
    file: String,
    title: String,
    text: String,
}

impl Report {
    pub(crate) fn new(release: &str, systemd: u32, kind: Kind) -> Self {
        Self {
            file: format!("lab-{systemd}-{}.md", kind.short()),
            title: format!("{} on {release}, systemd {systemd}", kind.unit()),
            text: String::new(),
        }
    }

    /// What an event cost.
    pub(crate) fn row(&mut self, event: &str, ledger: &Ledger) {
        let longest = ledger.longest_stall().map(|stall| stall.lasted);
        let line = format!(
            "| {event} | {} | {} | {} | {:.0} ms |",
            ledger.exchanges.count(Class::Ok),
            ledger.count(Class::Refused),
            ledger.losses(),
            longest.unwrap_or_default().as_secs_f64() * 1000.0
        );
        let _ = writeln!(io::stdout(), "{line}");
        self.text.push_str(&line);
        self.text.push('\n');
    }

    /// Where `make lab` collects them.
    ///
    /// # Panics
    /// When the build's scratch folder cannot be written.
    pub(crate) fn write(&self) {
        let mut text = format!("\n**{}**\n\n", self.title);
        text.push_str("| event | requests | refused | lost | longest wait |\n| --- | --- | --- | --- | --- |\n");
        let _ = write!(text, "{}", self.text);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&self.file);
        std::fs::write(path, text).expect("written");
    }
}
