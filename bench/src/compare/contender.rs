//! Who is compared: our proxies, one of them a second time as a control, and the peers that are installed.
//!
//! Holds  everybody does the same work: one worker, kept connections to the origin, the same header fields added, TLS 1.3 with
//!        the same certificate, group and cipher, session tickets, no access log.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::pinning::Cores;
use super::process::Process;
use super::{CompareError, Scenario, Settings, set_up};
use crate::certificates::Certificates;
use crate::trust::Trust;

pub(crate) mod configuration;
mod others;

/// Where `scripts/setup peers` puts what Debian does not have.
const OTHERS: &str = "/var/cache/zeitwork-peers/bin";

/// Somebody to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Haproxy,
    Nginx,
    Envoy,
    Caddy,
    Traefik,
}

impl Peer {
    /// All that are known.
    pub const ALL: [Self; 5] = [
        Self::Haproxy,
        Self::Nginx,
        Self::Envoy,
        Self::Caddy,
        Self::Traefik,
    ];

    /// Those that are measured unless somebody asks for others.
    pub const USUAL: [Self; 2] = [Self::Haproxy, Self::Nginx];

    /// As it is typed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Caddy => "caddy",
            Self::Traefik => "traefik",
        }
    }

    /// For a person.
    const fn title(self) -> &'static str {
        match self {
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Envoy => "Envoy",
            Self::Caddy => "Caddy",
            Self::Traefik => "Traefik",
        }
    }

    /// Its binary, where it is installed.
    fn program(self) -> Option<PathBuf> {
        let places = match self {
            Self::Haproxy | Self::Nginx => vec![PathBuf::from("/usr/sbin")],
            _ => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let own = std::iter::once(PathBuf::from(OTHERS));
                own.chain(std::env::split_paths(&path)).collect()
            }
        };
        let files = places.into_iter().map(|place| place.join(self.name()));
        files.into_iter().find(|file| file.is_file())
    }

    /// What to do where it is not.
    const fn needs(self) -> &'static str {
        match self {
            Self::Haproxy | Self::Nginx => "scripts/setup bench",
            Self::Envoy | Self::Caddy | Self::Traefik => "scripts/setup peers",
        }
    }

    /// Caddy speaks HTTP only.
    fn can(self, scenario: Scenario) -> bool {
        match self {
            Self::Caddy => !scenario.is_l4(),
            Self::Nginx if scenario.is_l4() => Path::new(configuration::NGINX_STREAM).is_file(),
            _ => true,
        }
    }
}

/// How long a proxy may take to let somebody in.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Everything around the proxies.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) directory: PathBuf,
    pub(crate) origin: SocketAddr,
    pub(crate) certificates: Certificates,
    pub(crate) cores: Cores,
    pub(crate) access_log: bool,
    pub(super) third: Cell<Option<NonZeroU32>>,
}

impl Site {
    /// The fixed rate of the scenario under way.
    pub(super) fn rate(&self) -> &Cell<Option<NonZeroU32>> {
        &self.third
    }
}

/// A proxy that runs.
#[derive(Debug)]
pub(crate) struct Contender {
    title: String,
    pub(crate) process: Process,
    pub(super) clear: SocketAddr,
    tls: SocketAddr,
}

/// Where clients go.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) clear: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) trust: Trust,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ours,
    /// The same binary and configuration: what its ratio is not 1 by is noise.
    Again,
    Peer(Peer),
}

impl Kind {
    /// For a person.
    const fn title(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Again => "ours again (control)",
            Self::Peer(peer) => peer.title(),
        }
    }
}

impl Contender {
    pub(crate) fn name(&self) -> String {
        self.title.clone()
    }

    pub(crate) fn entry(&self, site: &Site) -> io::Result<Entry> {
        Ok(Entry {
            clear: self.clear,
            tls: self.tls,
            trust: Trust::authority(&site.certificates.authority)?,
        })
    }

    /// What is said when it does not do what it must.
    pub(crate) fn fault(&self, scenario: &'static str, why: String) -> CompareError {
        CompareError::Answers {
            who: self.name(),
            scenario,
            why,
            log: self.process.log(),
        }
    }

    /// Ends it.
    pub(crate) fn stop(self) {
        drop(self.process);
    }
}

/// Starts everybody that can take part in a scenario; ours is the first.
pub(super) async fn start_all(
    site: &Site,
    scenario: Scenario,
    settings: &Settings,
) -> Result<Vec<Contender>, CompareError> {
    site.third.set(None);
    let mut contenders = Vec::new();
    let peers = settings.peers.iter().copied().map(Kind::Peer);
    for kind in [Kind::Ours, Kind::Again].into_iter().chain(peers) {
        let Some(program) = program(kind, scenario, settings)? else {
            continue;
        };
        contenders.push(start(site, scenario, kind, &program).await?);
    }
    Ok(contenders)
}

/// The binary; `None`: it is not installed or cannot do this.
fn program(
    kind: Kind,
    scenario: Scenario,
    settings: &Settings,
) -> Result<Option<PathBuf>, CompareError> {
    match kind {
        Kind::Ours | Kind::Again => match scenario.is_l4() {
            true => our_program("lb", settings.lb.as_deref()).map(Some),
            false => our_program("edge", settings.edge.as_deref()).map(Some),
        },
        Kind::Peer(peer) if !peer.can(scenario) => Ok(None),
        Kind::Peer(peer) => match peer.program() {
            None if settings.peers_are_wanted => Err(set_up(
                format!("{} is not installed: {}", peer.title(), peer.needs()),
                io::ErrorKind::NotFound.into(),
            )),
            found => Ok(found),
        },
    }
}

/// One of our own binaries: the given one, or what is beside this program.
pub(crate) fn our_program(name: &str, given: Option<&Path>) -> Result<PathBuf, CompareError> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()
            .map_err(|source| set_up(name, source))?
            .with_file_name(name),
    };
    match path.is_file() {
        true => Ok(path),
        false => Err(set_up(
            format!("{} is not built: make build", path.display()),
            io::ErrorKind::NotFound.into(),
        )),
    }
}

async fn start(
    site: &Site,
    scenario: Scenario,
    kind: Kind,
    program: &Path,
) -> Result<Contender, CompareError> {
    let ports = free_ports().map_err(|source| set_up("ports", source))?;
    let who = match kind {
        Kind::Ours => "ours",
        Kind::Again => "again",
        Kind::Peer(peer) => peer.name(),
    };
    let name = format!("{who}-{}", scenario.name());
    // Envoy and Traefik tell a file's language by its ending.
    let ending = match kind {
        Kind::Peer(Peer::Envoy | Peer::Caddy) => "json",
        Kind::Peer(Peer::Traefik) => "yaml",
        _ => "conf",
    };
    let file = site.directory.join(format!("{name}.{ending}"));
    let text = configuration::text(kind, scenario, site, ports, &name);
    std::fs::write(&file, text).map_err(|source| set_up("a configuration", source))?;
    let args = arguments(kind, scenario, &file.display().to_string(), ports);
    let cpus = site.cores.of_proxies().to_string();
    let names = (name.as_str(), kind.title());
    launch(site, program, names, (&args, &cpus), ports).await
}

/// Starts one of our own programs on processors of its own choice, with a configuration that is made for its ports (in
/// clear, over TLS). `name` is that of its files, `title` is for a person.
pub(crate) async fn start_ours(
    site: &Site,
    program: &Path,
    (name, title): (&str, &str),
    cpus: &str,
    text: impl FnOnce(SocketAddr, SocketAddr) -> String,
) -> Result<Contender, CompareError> {
    let [clear, tls] = free_ports().map_err(|source| set_up("ports", source))?;
    let file = site.directory.join(format!("{name}.conf"));
    std::fs::write(&file, text(clear, tls)).map_err(|source| set_up("a configuration", source))?;
    let file = file.display().to_string();
    let args = ["run", "--config", &file].map(str::to_owned);
    launch(site, program, (name, title), (&args, cpus), [clear, tls]).await
}

/// Starts a program and waits until it lets somebody in.
async fn launch(
    site: &Site,
    program: &Path,
    (name, title): (&str, &str),
    (args, cpus): (&[String], &str),
    [clear, tls]: [SocketAddr; 2],
) -> Result<Contender, CompareError> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let process = Process::start(program, &args, cpus, (&site.directory, name))
        .map_err(|source| set_up(program.display().to_string(), source))?;
    let contender = Contender {
        title: title.to_owned(),
        process,
        clear,
        tls,
    };
    let deadline = Instant::now() + START_LIMIT;
    while tokio::net::TcpStream::connect(clear).await.is_err() {
        if Instant::now() > deadline {
            let mut what = contender.name();
            let _ = write!(what, " does not start: {}", contender.process.log());
            return Err(set_up(what, io::ErrorKind::TimedOut.into()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(contender)
}

fn arguments(kind: Kind, scenario: Scenario, file: &str, ports: [SocketAddr; 2]) -> Vec<String> {
    let words: &[&str] = match kind {
        Kind::Ours | Kind::Again => &["run", "--config", file],
        Kind::Peer(Peer::Haproxy) => &["-db", "-f", file],
        Kind::Peer(Peer::Nginx) => &["-c", file],
        Kind::Peer(Peer::Envoy) => &[
            "-c",
            file,
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "error",
        ],
        Kind::Peer(Peer::Caddy) => &["run", "--config", file],
        Kind::Peer(Peer::Traefik) => {
            return others::traefik_arguments(file, scenario.is_l4(), ports.into());
        }
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn free_ports() -> io::Result<[SocketAddr; 2]> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (first, second) = (TcpListener::bind(any)?, TcpListener::bind(any)?);
    Ok([first.local_addr()?, second.local_addr()?])
}
