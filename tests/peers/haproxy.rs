//! HAProxy in master-worker mode, as Debian's unit runs it: SIGUSR2 makes the master execute itself anew, and its new
//! worker takes the listening sockets over (`expose-fd listeners`, HAProxy's management guide, section 4).

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use harness::{proc, wait};
use rustix::process::Signal;

use crate::site::{Layer, Site};
use crate::{Contender, processes, until_answering};

pub(crate) struct Haproxy {
    layer: Layer,
    master: Child,
    log: PathBuf,
}

impl Haproxy {
    pub(crate) async fn start(site: &Site) -> Self {
        let file = site.path().join("haproxy.cfg");
        std::fs::write(&file, config(site)).expect("written");
        let log = site.path().join("haproxy.log");
        let file = file.display().to_string();
        let master = processes::start("/usr/sbin/haproxy", &["-W", "-f", &file], &log);
        let haproxy = Self {
            layer: site.layer,
            master,
            log,
        };
        until_answering(site).await;
        haproxy
    }

    fn workers(&self) -> Vec<u32> {
        let children = proc::children(self.master.id()).into_iter();
        children
            .filter(|(_, is_zombie)| !is_zombie)
            .map(|(pid, _)| pid)
            .collect()
    }
}

fn config(site: &Site) -> String {
    let mode = match site.layer {
        Layer::Four => "tcp",
        Layer::Seven => "http",
    };
    let mut text = format!(
        "global\n  maxconn 9500\n  stats socket {} mode 600 level admin expose-fd listeners\n\
         defaults\n  mode {mode}\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  timeout tunnel 1h\n",
        site.path().join("haproxy.sock").display()
    );
    let mut listen = |name: &str, address: SocketAddr, origins: &[SocketAddr]| {
        let _ = writeln!(
            text,
            "listen {name}\n  bind {address}\n  balance roundrobin"
        );
        for (number, origin) in origins.iter().enumerate() {
            let _ = writeln!(text, "  server {name}{number} {origin}");
        }
    };
    listen("web", site.web(), &site.web_origins());
    if site.layer == Layer::Four {
        listen("echo", site.echo(), &site.echo_origins());
    }
    text
}

impl Contender for Haproxy {
    fn name(&self) -> String {
        match self.layer {
            Layer::Four => "HAProxy 2.6, mode tcp, reload".to_owned(),
            Layer::Seven => "HAProxy 2.6, mode http, reload".to_owned(),
        }
    }

    async fn swap(&mut self) -> bool {
        let before = self.workers();
        proc::signal(self.master.id(), Signal::USR2);
        let log = &self.log;
        let told = || std::fs::read_to_string(log).unwrap_or_default();
        wait::until("a new worker", Duration::from_secs(20), || async {
            let is_new = self.workers().iter().any(|pid| !before.contains(pid));
            (is_new || told().contains("ALERT")).then_some(())
        })
        .await;
        assert!(!told().contains("ALERT"), "{}", told());
        true
    }

    fn processes(&self) -> Vec<u32> {
        processes::of_session(self.master.id())
    }

    fn expected(&self) -> usize {
        2
    }

    async fn stop(mut self) {
        processes::end_session(self.master.id());
        self.master.wait().expect("our child");
    }
}
