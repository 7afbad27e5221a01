//! A proxy of the Pingora framework: the next one is started with `--upgrade` and takes the listening sockets over a Unix
//! socket when the one before gets SIGQUIT (Pingora's user guide, "Graceful restart and shutdown").

use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::{proc, wait};
use rustix::process::Signal;

use crate::site::Site;
use crate::{Contender, processes, until_answering};

pub(crate) struct Pingora {
    binary: PathBuf,
    args: Vec<String>,
    pid_file: PathBuf,
    log: PathBuf,
}

/// `target/pingora/release/pingora-peer`, when `scripts/compare-reliability pingora` has built it.
pub(crate) fn built() -> Option<PathBuf> {
    let path = std::env::var_os("PINGORA_PEER").map(PathBuf::from)?;
    path.is_file().then_some(path)
}

impl Pingora {
    pub(crate) async fn start(site: &Site, built: &Path) -> Self {
        // A file of its own: its processes are known by it.
        let binary = site.path().join("pingora-peer");
        std::fs::copy(built, &binary).expect("copied");
        let path = site.path().display();
        let conf = site.path().join("pingora.yaml");
        let text = format!(
            "---\nversion: 1\nthreads: 1\npid_file: {path}/pingora.pid\nerror_log: {path}/pingora.log\nupgrade_sock: {path}/upgrade.sock\n"
        );
        std::fs::write(&conf, text).expect("written");
        let mut args = vec![
            "--conf".to_owned(),
            conf.display().to_string(),
            "--daemon".to_owned(),
        ];
        args.push(site.web().to_string());
        args.extend(site.web_origins().iter().map(ToString::to_string));
        let pingora = Self {
            binary,
            args,
            pid_file: site.path().join("pingora.pid"),
            log: site.path().join("start.log"),
        };
        pingora.launch(&[]);
        until_answering(site).await;
        pingora
    }

    fn launch(&self, more: &[&str]) {
        let args: Vec<&str> = self
            .args
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        let mut starter = processes::start(&self.binary.display().to_string(), &args, &self.log);
        let status = starter.wait().expect("our child");
        let told = std::fs::read_to_string(&self.log).unwrap_or_default();
        assert!(status.success(), "{status}: {told}");
    }

    fn pid(&self) -> Option<u32> {
        std::fs::read_to_string(&self.pid_file)
            .ok()?
            .trim()
            .parse()
            .ok()
    }
}

impl Contender for Pingora {
    fn name(&self) -> String {
        "Pingora 0.8, --upgrade and SIGQUIT".to_owned()
    }

    async fn swap(&mut self) -> bool {
        let old = self.pid().expect("it runs");
        // The order of the guide: the old one offers its sockets, the new one comes for them.
        proc::signal(old, Signal::QUIT);
        self.launch(&["--upgrade"]);
        let new = wait::until("another process", Duration::from_secs(20), || async {
            self.pid().filter(|new| *new != old)
        })
        .await;
        // It sends its sockets and goes on for five seconds of its own.
        wait::until("the sockets' arrival", Duration::from_secs(20), || async {
            let has = proc::listens(new);
            (has || !proc::is_alive(new)).then_some(())
        })
        .await;
        assert!(
            proc::is_alive(new),
            "{}",
            std::fs::read_to_string(&self.log).unwrap_or_default()
        );
        true
    }

    fn processes(&self) -> Vec<u32> {
        processes::of_binary(&self.binary)
    }

    fn expected(&self) -> usize {
        1
    }

    async fn stop(self) {
        for pid in processes::of_binary(&self.binary) {
            proc::signal(pid, Signal::KILL);
        }
    }
}
