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

/// Port of the streams' listener of `lb`: of no socket unit, so it is there from the first start on.
const STREAMS_PORT: u16 = 7001;

/// How long a client's connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clients {
    /// One request, or twenty: right where the service stops, which waits for them.
    Passing,
    /// Also streams that stay for the whole load, with numbered blocks both ways.
    WithStreams,
}

/// Everything outside of the host.
#[derive(Debug)]
pub(crate) struct Site {
    kind: Kind,
    origins: Vec<Origin>,
    /// In no configuration until a reload adds it.
    spare: Origin,
    echo: Origin,
    /// Whoever signed the certificate of `edge`.
    scratch: TempDir,
}

impl Site {
    /// Starts the origins and writes the service's configuration into the product.
    ///
    /// # Panics
    /// When an origin does not start.
    pub(crate) fn start(kind: Kind, product: &TempDir) -> Self {
        let start = |kind| Origin::start(kind, SocketAddr::new(OUTSIDE, 0)).expect("an origin");
        let site = Self {
            kind,
            origins: vec![start(origin::Kind::Http), start(origin::Kind::Http)],
            spare: start(origin::Kind::Http),
            echo: start(origin::Kind::Echo),
            scratch: tempfile::tempdir().expect("scratch"),
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
                "[admin]\nlisten = \"127.0.0.1:8082\"\n[[listener]]\nname = \"web\"\naddress = \"0.0.0.0:7000\"\nupstream = \"app\"\n\
                 [[listener]]\nname = \"streams\"\naddress = \"0.0.0.0:{STREAMS_PORT}\"\nupstream = \"echo\"\n\
                 [upstream.echo]\nbackends = [\"{}\"]\n{upstream}",
                self.echo.address()
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

    /// The configuration with one more backend.
    pub(crate) fn with_spare(&self, config: &str) -> String {
        let first = self.origins.first().expect("two").address();
        let from = format!("\"{first}\"");
        assert!(config.contains(&from), "{config}");
        config.replace(&from, &format!("{from}, \"{}\"", self.spare.address()))
    }

    /// Requests that the backend of [`Site::with_spare`] has had.
    pub(crate) fn requests_of_spare(&self) -> u64 {
        self.spare.requests()
    }

    /// Clients with a connection for each request, clients that keep theirs, and streams.
    ///
    /// # Panics
    /// When the load is wrongly described.
    pub(crate) fn load(&self, clients: Clients) -> Traffic {
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
        let mut loads: Vec<Running> = shapes.collect();
        if clients == Clients::WithStreams {
            loads.push(match self.kind {
                Kind::Lb => {
                    let target = Target::tcp(SocketAddr::new(HOST, STREAMS_PORT));
                    self.clients(target, Shape::LongLived)
                }
                Kind::Edge => {
                    let target = Target::http(SocketAddr::new(HOST, 80), "/websocket");
                    self.clients(target, Shape::WebSocket)
                }
            });
        }
        Traffic::of(loads)
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
