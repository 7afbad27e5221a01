//! Everything around the play: directory, origins, configuration, supervisor.
//!
//! Room  building it and taking it down.
//! In    the programs to run.
//! Out   addresses to aim at, artifacts to swap in, a running supervisor.
//! Holds what is built here is taken down here, by number and path; nothing outside the directory is written.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::binaries::Binaries;
use super::processes::{self, Leftover};
use super::supervisor::Supervisor;
use super::{DemoError, artifacts};
use crate::origin::{Kind, Origin};

/// Any port of 127.0.0.1.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The demo may run for hours with `--duration`, and its long-lived connections with it: no drain may end before.
const SUPERVISOR_TOML: &str = "drain_timeout = \"24h\"\nstop_timeout = \"5s\"\n";

/// The stage is set.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) echo: SocketAddr,
    pub(super) web: SocketAddr,
    pub(super) original: PathBuf,
    pub(super) successor: PathBuf,
    pub(super) never_ready: PathBuf,
    pub(super) supervisor: Supervisor,
    origins: Vec<Origin>,
    directory: TempDir,
}

impl Scene {
    pub(super) fn set_up(binaries: &Binaries) -> Result<Self, DemoError> {
        let fault = |what: &'static str| move |source| DemoError::SetUp { what, source };
        let directory = tempfile::Builder::new()
            .prefix("zeitwork-demo-")
            .tempdir()
            .map_err(fault("a directory"))?;
        let path = directory.path();
        let successor = match &binaries.successor {
            Some(path) => path.clone(),
            None => artifacts::copy_with_trailer(&binaries.lb, path)
                .map_err(fault("another artifact"))?,
        };
        let never_ready =
            artifacts::write_never_ready(&binaries.lb, path).map_err(fault("the bad artifact"))?;
        let origins = start_origins().map_err(fault("the origins"))?;
        let [echo, web, admin] = free_ports().map_err(fault("free ports"))?;
        let configuration = path.join("lb.toml");
        let text = lb_toml(admin, [("echo", echo), ("web", web)], &origins);
        fs::write(&configuration, text).map_err(fault("lb.toml"))?;
        fs::write(path.join("supervisor.toml"), SUPERVISOR_TOML)
            .map_err(fault("supervisor.toml"))?;
        let supervisor =
            Supervisor::start(&binaries.supervisor, &binaries.lb, path, &configuration)
                .map_err(fault("the supervisor"))?;
        let original = binaries.lb.clone();
        Ok(Self {
            echo,
            web,
            original,
            successor,
            never_ready,
            supervisor,
            origins,
            directory,
        })
    }

    /// What runs where, for a person.
    pub(super) fn describe(&self, binaries: &Binaries) -> String {
        format!(
            "load balancer  {}\nsupervisor     {}\nsuccessor      {}\nlisteners      echo {}, web {}; 2 backends each",
            binaries.lb.display(),
            binaries.supervisor.display(),
            self.successor.display(),
            self.echo,
            self.web
        )
    }

    /// The artifact of the `number`th good swap, from 1: the two take turns.
    pub(super) fn artifact(&self, number: u32) -> &Path {
        if number % 2 == 1 {
            &self.successor
        } else {
            &self.original
        }
    }

    /// Stops everything and names what had to be killed.
    pub(super) async fn tear_down(mut self) -> Vec<Leftover> {
        self.supervisor.stop().await;
        let left = processes::end_all(self.directory.path()).await;
        for origin in self.origins {
            origin.stop().await;
        }
        left
    }
}

/// Two echo origins, then two HTTP origins.
fn start_origins() -> io::Result<Vec<Origin>> {
    [Kind::Echo, Kind::Echo, Kind::Http, Kind::Http]
        .into_iter()
        .map(|kind| Origin::start(kind, ANY))
        .collect()
}

/// Three ports that were free a moment ago. They are held together until all are known, so they differ. (The load
/// balancer binds with SO_REUSEPORT, which would also succeed on a port of somebody else's such group.)
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

fn lb_toml(admin: SocketAddr, listeners: [(&str, SocketAddr); 2], origins: &[Origin]) -> String {
    let mut text = format!("[admin]\nlisten = \"{admin}\"\n");
    for ((name, address), backends) in listeners.into_iter().zip(origins.chunks(2)) {
        let backends: Vec<_> = backends
            .iter()
            .map(|origin| origin.address().to_string())
            .collect();
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
