//! Envoy's hot restart: the next process is started with the next epoch, takes the listening sockets over, and the one before
//! drains and is ended after `--parent-shutdown-time-s` (Envoy's documentation, "Hot restart"). Layer 4.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use harness::wait;
use serde_json::{Value, json};

use crate::site::Site;
use crate::{Contender, processes, until_answering};

/// Where `scripts/setup peers` puts it.
const BINARY: &str = "/var/cache/zeitwork-peers/bin/envoy";

/// When the old process ends whatever it holds. Envoy's default is 900 s; so long is no test.
const PARENT_SHUTDOWN_S: u32 = 15;

pub(crate) struct Envoy {
    file: PathBuf,
    scratch: PathBuf,
    admin: SocketAddr,
    epochs: Vec<Child>,
}

/// It is installed.
pub(crate) fn is_installed() -> bool {
    Path::new(BINARY).exists()
}

fn address(of: SocketAddr) -> Value {
    json!({ "socket_address": { "address": of.ip().to_string(), "port_value": of.port() } })
}

fn config(site: &Site) -> String {
    let filter = |cluster: &str| {
        json!({
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": cluster, "cluster": cluster,
            },
        })
    };
    let listener = |name: &str, at: SocketAddr| json!({ "name": name, "address": address(at), "filter_chains": [{ "filters": [filter(name)] }] });
    let cluster = |name: &str, backends: Vec<SocketAddr>| {
        let endpoints = backends.into_iter();
        let endpoints: Vec<Value> = endpoints
            .map(|one| json!({ "endpoint": { "address": address(one) } }))
            .collect();
        json!({
            "name": name, "type": "STATIC", "connect_timeout": "2s",
            "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
            // Without it Envoy refuses beyond 1,024.
            "circuit_breakers": { "thresholds": [{ "max_connections": 100_000, "max_requests": 100_000, "max_pending_requests": 100_000 }] },
        })
    };
    json!({
        "admin": { "address": address(site.admin()) },
        "static_resources": {
            "listeners": [listener("web", site.web()), listener("echo", site.echo())],
            "clusters": [cluster("web", site.web_origins()), cluster("echo", site.echo_origins())],
        },
    })
    .to_string()
}

impl Envoy {
    pub(crate) async fn start(site: &Site) -> Self {
        let file = site.path().join("envoy.json");
        std::fs::write(&file, config(site)).expect("written");
        let mut envoy = Self {
            file,
            scratch: site.path().to_owned(),
            admin: site.admin(),
            epochs: Vec::new(),
        };
        envoy.launch();
        until_answering(site).await;
        envoy
    }

    fn launch(&mut self) {
        let epoch = self.epochs.len().to_string();
        let log = self.scratch.join(format!("envoy-{epoch}.log"));
        let (file, shutdown) = (
            self.file.display().to_string(),
            PARENT_SHUTDOWN_S.to_string(),
        );
        let base = (std::process::id() % 10_000).to_string();
        let args = [
            "-c",
            &file,
            "--restart-epoch",
            &epoch,
            "--base-id",
            &base,
            "--concurrency",
            "2",
            "--drain-time-s",
            "10",
            "--parent-shutdown-time-s",
            &shutdown,
            "--log-level",
            "error",
        ];
        self.epochs.push(processes::start(BINARY, &args, &log));
    }

    /// The epoch that answers at the admin port.
    fn serving(&self) -> Option<u64> {
        let (_, text) = harness::edge::get(self.admin, "/server_info");
        let info: Value = serde_json::from_str(&text).ok()?;
        (info["state"] == "LIVE").then_some(())?;
        info["command_line_options"]["restart_epoch"].as_u64()
    }
}

impl Contender for Envoy {
    fn name(&self) -> String {
        "Envoy, hot restart".to_owned()
    }

    async fn swap(&mut self) -> bool {
        let wanted = u64::try_from(self.epochs.len()).expect("few");
        self.launch();
        wait::until("the next epoch serves", Duration::from_secs(20), || async {
            let scratch = std::panic::AssertUnwindSafe(|| self.serving());
            // Between two epochs nobody may answer.
            let epoch = std::panic::catch_unwind(scratch).ok().flatten();
            (epoch == Some(wanted)).then_some(())
        })
        .await;
        true
    }

    fn processes(&self) -> Vec<u32> {
        let sessions = self.epochs.iter().map(Child::id);
        sessions.flat_map(processes::of_session).collect()
    }

    fn expected(&self) -> usize {
        1
    }

    async fn stop(mut self) {
        for child in &mut self.epochs {
            processes::end_session(child.id());
            let _ = child.wait();
        }
    }
}
