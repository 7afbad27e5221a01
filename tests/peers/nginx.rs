//! nginx: a new binary by SIGUSR2, then QUIT to the old master (nginx.org, "Upgrading Executable on the Fly"), or a reload
//! of the same one by SIGHUP.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::{proc, wait};
use rustix::process::Signal;

use crate::site::Site;
use crate::{Contender, processes, until_answering};

/// How it goes from one version to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Another binary; old workers stay as long as their clients.
    Binary,
    /// Another binary; old workers end after a second (`worker_shutdown_timeout`).
    BinaryWithin,
    /// The same binary, other workers.
    Reload,
}

pub(crate) const WAYS: [Way; 3] = [Way::Binary, Way::BinaryWithin, Way::Reload];

/// How long the old master may take to go before a swap counts as not possible.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct Nginx {
    way: Way,
    pid_file: PathBuf,
    session: u32,
}

impl Nginx {
    pub(crate) async fn start(site: &Site, way: Way) -> Self {
        let file = site.path().join("nginx.conf");
        std::fs::write(&file, config(site, way)).expect("written");
        let file = file.display().to_string();
        let log = site.path().join("nginx.log");
        // It becomes a daemon: without, it ignores SIGUSR2.
        let mut starter = processes::start("/usr/sbin/nginx", &["-c", &file], &log);
        let status = starter.wait().expect("our child");
        let told = std::fs::read_to_string(&log).unwrap_or_default();
        assert!(status.success(), "{told}");
        let pid_file = site.path().join("nginx.pid");
        until_answering(site).await;
        let master = read(&pid_file).expect("a master");
        let session = processes::session_of(master).expect("it lives");
        Self {
            way,
            pid_file,
            session,
        }
    }

    async fn replace_binary(&self) -> bool {
        // A master ignores the signal while the one before it lives.
        let before = self.pid_file.with_extension("pid.oldbin");
        let deadline = Instant::now() + PATIENCE;
        while before.exists() {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let old = read(&self.pid_file).expect("a master");
        proc::signal(old, Signal::USR2);
        wait::until("a new master", Duration::from_secs(20), || async {
            let new = read(&self.pid_file).filter(|new| *new != old)?;
            (!proc::children(new).is_empty()).then_some(())
        })
        .await;
        proc::signal(old, Signal::QUIT);
        true
    }

    async fn reload(&self) -> bool {
        let master = read(&self.pid_file).expect("a master");
        let before = proc::children(master);
        proc::signal(master, Signal::HUP);
        wait::until("new workers", Duration::from_secs(20), || async {
            let now = proc::children(master);
            now.iter()
                .any(|child| !before.contains(child))
                .then_some(())
        })
        .await;
        true
    }
}

fn read(pid_file: &std::path::Path) -> Option<u32> {
    std::fs::read_to_string(pid_file).ok()?.trim().parse().ok()
}

fn config(site: &Site, way: Way) -> String {
    let servers: String = site
        .web_origins()
        .iter()
        .map(|origin| format!("server {origin}; "))
        .collect();
    let within = match way {
        Way::BinaryWithin => "worker_shutdown_timeout 1s;",
        Way::Binary | Way::Reload => "",
    };
    let path = site.path().display();
    format!(
        "worker_processes 1; {within} pid {path}/nginx.pid; error_log {path}/error.log; daemon on;\n\
         events {{ worker_connections 16384; }}\n\
         http {{ access_log off; keepalive_requests 1000000; client_body_temp_path {path}; proxy_temp_path {path};\n\
         fastcgi_temp_path {path}; uwsgi_temp_path {path}; scgi_temp_path {path};\n\
         upstream web {{ {servers} keepalive 64; }}\n\
         map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}\n\
         server {{ listen {}; location / {{ proxy_pass http://web; proxy_http_version 1.1; proxy_read_timeout 1h;\n\
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; }} }} }}\n",
        site.web()
    )
}

impl Contender for Nginx {
    fn name(&self) -> String {
        match self.way {
            Way::Binary => "nginx 1.22, USR2 and QUIT".to_owned(),
            Way::BinaryWithin => "nginx 1.22, USR2 and QUIT, worker_shutdown_timeout 1s".to_owned(),
            Way::Reload => "nginx 1.22, reload (same binary)".to_owned(),
        }
    }

    async fn swap(&mut self) -> bool {
        match self.way {
            Way::Reload => self.reload().await,
            Way::Binary | Way::BinaryWithin => self.replace_binary().await,
        }
    }

    fn processes(&self) -> Vec<u32> {
        processes::of_session(self.session)
    }

    fn expected(&self) -> usize {
        2
    }

    async fn stop(self) {
        processes::end_session(self.session);
    }
}
