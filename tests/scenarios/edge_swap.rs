//! Swaps of `edge` under mixed load over TLS cost no request; tunnels and tickets outlive them.

use std::time::{Duration, Instant};

use harness::clients::{Talk, python};
use harness::edge::Site;
use harness::host::Host;
use harness::successors::another_edge;

use crate::edge_resumption::openssl;

/// Every kind of traffic that must have passed.
const KINDS: [&str; 6] = ["http1", "http2", "rpc", "websocket", "download", "upload"];

/// Longer than the slowest transfer and the longest tunnel of the load.
const DRAIN: &str = "drain_timeout = \"20s\"\n";

/// The running `mixed_load.py`.
struct MixedLoad(Talk);

impl MixedLoad {
    fn start(site: &Site, port: u16) -> Self {
        let mut command = python("mixed_load.py");
        command.arg(port.to_string()).arg(site.authority.file());
        Self(Talk::start(&mut command))
    }

    /// Waits until each kind had an answer more, as the account of now on shows.
    fn flows(&mut self) {
        self.0.latest();
        let before = self.account();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let now = self.account();
            let behind: Vec<&str> = KINDS
                .into_iter()
                .filter(|kind| now[kind]["ok"].as_u64() <= before[kind]["ok"].as_u64())
                .collect();
            if behind.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{behind:?} do not flow: {now:#}");
        }
    }

    fn account(&mut self) -> serde_json::Value {
        let line = self.0.line_with("{");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Ends it; what failed, by kind and reason, and the whole account.
    fn finish(self) -> (Vec<String>, serde_json::Value) {
        let last = self.0.finish();
        let account: serde_json::Value = serde_json::from_str(&last).expect("an account");
        let failed = account
            .as_object()
            .into_iter()
            .flatten()
            .flat_map(|(kind, entry)| {
                let reasons = entry["failed"].as_object().cloned().unwrap_or_default();
                reasons
                    .into_iter()
                    .map(move |(reason, count)| format!("{kind}: {count} × {reason}"))
            })
            .collect();
        (failed, account)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_swaps_under_mixed_tls_load_fail_no_request() {
    let site = Site::start();
    let (ports, config) = site.config_on_own_ports("", "");
    let mut host = Host::with_edge(&config);
    host.set_supervisor_config(DRAIN);
    host.start().await;
    let mut load = MixedLoad::start(&site, ports[0]);
    load.flows();
    let other = another_edge(host.path(), "other");
    let original = harness::binaries::find("edge");
    for swap in 1..=20 {
        let binary = if swap % 2 == 1 { &other } else { &original };
        let outcome = host.upgrade(binary, &["--bake", "300ms"]).await;
        assert_eq!(outcome.code, 0, "swap {swap}: {}", outcome.output);
        if swap % 5 == 0 {
            load.flows();
        }
    }
    // Every old process ends while the load goes on: by closing at response boundaries, and by GOAWAY.
    host.status_where("one generation", |status| status.generations.len() == 1)
        .await;
    load.flows();
    let (failed, account) = load.finish();
    println!("20 swaps: {account}");
    assert!(failed.is_empty(), "{failed:#?}\n{account}");
    for kind in KINDS {
        assert!(account[kind]["ok"].as_u64() > Some(5), "{kind}: {account}");
    }
    let moved = account["http2"]["connections"].as_u64();
    assert!(moved > Some(2), "HTTP/2 stays in old processes: {account}");
    assert_eq!(host.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_lives_on_in_the_old_process_until_its_bound() {
    let site = Site::start();
    let (ports, config) = site.config_on_own_ports("", "");
    let mut host = Host::with_edge(&config);
    // Under a supervisor, its bound counts.
    host.set_supervisor_config("drain_timeout = \"15s\"\n");
    host.start().await;
    let mut client = python("websocket_client.py");
    client
        .args(["tunnel", &ports[0].to_string()])
        .arg(site.authority.file());
    let mut tunnel = Talk::start(&mut client);
    tunnel.line_with("ready");
    let old = host.incumbent().await.pid;
    let other = another_edge(host.path(), "other");
    let outcome = host.upgrade(&other, &["--bake", "300ms"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let swapped = Instant::now();
    while swapped.elapsed() < Duration::from_secs(5) {
        tunnel.say("through the old process\n");
        tunnel.line_with("ok");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_ne!(host.incumbent().await.pid, old);
    assert!(harness::proc::is_alive(old), "the tunnel's process");
    host.status_where("the old process ends at its bound", |status| {
        status.generations.len() == 1
    })
    .await;
    let took = swapped.elapsed();
    assert!(
        took > Duration::from_secs(10),
        "ended already after {took:?}"
    );
    assert!(took < Duration::from_secs(25), "ended only after {took:?}");
    assert_eq!(host.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_from_before_the_swap_resumes_after_it() {
    let site = Site::start();
    let (ports, config) = site.config_on_own_ports("", "");
    let mut host = Host::with_edge(&config);
    host.start().await;
    let authority = site.authority.file();
    let sessions = ["-tls1_2", "-tls1_3"].map(|version| {
        let file = site.path().join(format!("session{version}"));
        (version, file.display().to_string())
    });
    for (version, file) in &sessions {
        let first = openssl(ports[0], &authority, &[version, "-sess_out", file]);
        assert!(first.contains("\nNew, TLSv1."), "{first}");
    }
    let old = host.incumbent().await.pid;
    let other = another_edge(host.path(), "other");
    let outcome = host.upgrade(&other, &["--bake", "300ms"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    host.status_where("the old process left", |status| {
        status.generations.len() == 1
    })
    .await;
    assert_ne!(host.incumbent().await.pid, old);
    for (version, file) in &sessions {
        let again = openssl(ports[0], &authority, &[version, "-sess_in", file]);
        assert!(again.contains("\nReused, TLSv1."), "{version}: {again}");
    }
    assert_eq!(host.stop().await, Some(0));
}
