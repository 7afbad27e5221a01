//! What clients of the demo can connect to, and the configuration that makes it so.
//!
//! Room  origins, free ports, and the text of one configuration file.
//! In    which program, the demo's directory.
//! Out   origins, addresses, the file; for TLS also whom to trust.
//! Holds the two programs get the same origins; nothing outside the directory is written.

use std::fmt::Write;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use super::Program;
use crate::certificates::Certificates;
use crate::load::Drains;
use crate::origin::{Kind, Origin};
use crate::trust::Trust;

/// Any port of 127.0.0.1.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The name in the demo's certificate.
pub(super) const HOST: &str = "localhost";

/// The demo may run for hours with `--duration`, and the load balancer's long-lived connections with it: no drain
/// may end before.
const LB_DRAIN: Duration = Duration::from_secs(24 * 3600);

/// A WebSocket lives on in the old process until this bound: short, so that a demo shows it. Requests of the demo
/// take milliseconds.
const EDGE_DRAIN: Duration = Duration::from_secs(5);

/// Where clients connect.
#[derive(Clone, Debug)]
pub(super) enum Entries {
    /// Byte streams and HTTP/1.1 over L4.
    Lb { echo: SocketAddr, web: SocketAddr },
    /// HTTP in clear and over TLS.
    Edge {
        https: SocketAddr,
        http: SocketAddr,
        trust: Trust,
        drains: Drains,
    },
}

/// Entries with everything behind and around them.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) entries: Entries,
    pub(super) origins: Vec<Origin>,
    /// The program's configuration.
    pub(super) configuration: String,
    /// The supervisor's.
    pub(super) supervision: String,
}

/// Starts origins, chooses ports, writes certificates into `directory`.
pub(super) fn prepare(program: Program, directory: &Path) -> io::Result<Prepared> {
    let [first, second, admin] = free_ports()?;
    let (entries, origins, listeners, drain) = match program {
        Program::Lb => {
            let origins = start_origins(&[Kind::Echo, Kind::Echo, Kind::Http, Kind::Http])?;
            let text = lb_toml([("echo", first), ("web", second)], &origins);
            let (echo, web) = (first, second);
            (Entries::Lb { echo, web }, origins, text, LB_DRAIN)
        }
        Program::Edge => {
            let origins = start_origins(&[Kind::Http, Kind::Http])?;
            let certificates = Certificates::write(directory, &[HOST])?;
            let text = edge_toml(first, second, &certificates, &origins);
            let entries = Entries::Edge {
                https: first,
                http: second,
                trust: Trust::authority(&certificates.authority)?,
                drains: Drains::new(EDGE_DRAIN),
            };
            (entries, origins, text, EDGE_DRAIN)
        }
    };
    Ok(Prepared {
        entries,
        origins,
        configuration: format!("[admin]\nlisten = \"{admin}\"\n{listeners}"),
        supervision: format!(
            "drain_timeout = \"{}s\"\nstop_timeout = \"5s\"\n",
            drain.as_secs()
        ),
    })
}

impl Entries {
    /// For a person.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Lb { echo, web } => format!("echo {echo}, web {web}; 2 backends each"),
            Self::Edge { https, http, .. } => {
                format!("https {https}, http {http}; 2 backends; a drain lasts {EDGE_DRAIN:?}")
            }
        }
    }

    /// A swap committed just now: the old process drains.
    pub(super) fn drain_begins(&self) {
        if let Self::Edge { drains, .. } = self {
            drains.begin(std::time::Instant::now());
        }
    }
}

fn start_origins(kinds: &[Kind]) -> io::Result<Vec<Origin>> {
    kinds.iter().map(|kind| Origin::start(*kind, ANY)).collect()
}

/// Three ports that were free a moment ago. They are held together until all are known, so they differ. (Both
/// programs bind with SO_REUSEPORT, which would also succeed on a port of somebody else's such group.)
fn free_ports() -> io::Result<[SocketAddr; 3]> {
    let listeners = [
        TcpListener::bind(ANY)?,
        TcpListener::bind(ANY)?,
        TcpListener::bind(ANY)?,
    ];
    let [first, second, third] = &listeners;
    Ok([
        first.local_addr()?,
        second.local_addr()?,
        third.local_addr()?,
    ])
}

fn addresses(origins: &[Origin]) -> Vec<String> {
    origins
        .iter()
        .map(|origin| origin.address().to_string())
        .collect()
}

fn lb_toml(listeners: [(&str, SocketAddr); 2], origins: &[Origin]) -> String {
    let mut text = String::new();
    for ((name, address), backends) in listeners.into_iter().zip(origins.chunks(2)) {
        let backends = addresses(backends);
        // Writing to a String cannot fail.
        write!(
            text,
            "\n[[listener]]\nname = \"{name}\"\naddress = \"{address}\"\nupstream = \"{name}\"\n\n\
             [upstream.{name}]\nalgorithm = \"round-robin\"\nbackends = {backends:?}\n\
             [upstream.{name}.health_check]\nkind = \"tcp\"\ninterval = \"1s\"\ntimeout = \"500ms\"\n"
        )
        .unwrap_or_default();
    }
    text
}

fn edge_toml(
    https: SocketAddr,
    http: SocketAddr,
    certificates: &Certificates,
    origins: &[Origin],
) -> String {
    format!(
        "\n[[listener]]\nname = \"https\"\naddress = \"{https}\"\n\
         [[listener.certificate]]\ncertificate = {certificate:?}\nkey = {key:?}\n\n\
         [[listener]]\nname = \"http\"\naddress = \"{http}\"\n\n\
         [[route]]\npath_prefix = \"/\"\nupstream = \"web\"\n\n\
         [upstream.web]\nbackends = {backends:?}\n",
        certificate = certificates.certificate.display().to_string(),
        key = certificates.key.display().to_string(),
        backends = addresses(origins),
    )
}
