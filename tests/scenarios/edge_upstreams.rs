//! What stands behind `edge`, and what it remembers: backends over TLS in both versions, a dead backend that
//! costs no client, clients behind a PROXY header, rate limits that a swap does not forget.

use std::net::TcpListener;
use std::time::Duration;

use harness::clients::{program, succeed};
use harness::edge::{Edge, Site};
use harness::host::Host;
use harness::raw::Raw;
use harness::recorder::Recorder;
use harness::successors::another_edge;

/// Statuses of so many requests, one connection each.
fn statuses(url: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|_| {
            let mut curl = program(&["curl"]);
            curl.args([
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--max-time",
                "20",
                url,
            ]);
            succeed(&mut curl).trim().to_owned()
        })
        .collect()
}

#[test]
fn backends_over_tls_are_verified_and_spoken_to_in_both_versions() {
    let site = Site::start();
    let mut behind = site.edge("", "");
    let tls = behind.port("https");
    let authority = site.authority.file().display().to_string();
    let dir = tempfile::tempdir().expect("scratch");
    for (protocol, upload) in [
        ("http1", "1.1"),
        ("http2", "1.1"),
        ("http1", "2"),
        ("http2", "2"),
    ] {
        let config = format!(
            "[[listener]]\nname = \"front\"\naddress = \"127.0.0.1:0\"\n[[route]]\nupstream = \"app\"\n\
             [upstream.app]\nbackends = [\"127.0.0.1:{tls}\"]\nprotocol = \"{protocol}\"\n\
             [upstream.app.tls]\nca = \"{authority}\"\nserver_name = \"localhost\"\n"
        );
        let file = dir.path().join("front.toml");
        std::fs::write(&file, config).expect("written");
        let mut front = Edge::configured(&file);
        let address = front.address("front");
        let version = match upload {
            "2" => "--http2-prior-knowledge",
            _ => "--http1.1",
        };
        let mut curl = program(&["curl"]);
        curl.args([
            "-sS",
            version,
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{size_download}",
        ]);
        curl.arg(format!("http://{address}/bytes/3000000"));
        let said = succeed(&mut curl);
        assert_eq!(
            said.trim(),
            "200 3000000",
            "{protocol} behind HTTP/{upload}"
        );
    }
    // Without the authority nothing of the request leaves.
    let config = format!(
        "[[listener]]\nname = \"front\"\naddress = \"127.0.0.1:0\"\n[[route]]\nupstream = \"app\"\n\
         [upstream.app]\nbackends = [\"127.0.0.1:{tls}\"]\n[upstream.app.tls]\nserver_name = \"localhost\"\n"
    );
    let file = dir.path().join("front.toml");
    std::fs::write(&file, config).expect("written");
    let mut front = Edge::configured(&file);
    let url = format!("http://{}/bytes/10", front.address("front"));
    assert_eq!(statuses(&url, 1), ["502"]);
}

#[test]
fn a_dead_backend_costs_no_client() {
    let site = Site::start();
    // Bound and closed again: connecting is refused.
    let dead = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port");
    let more = format!(
        "[upstream.pair]\nbackends = [\"{dead}\", \"127.0.0.1:{}\"]\n\
         [[route]]\nhosts = [\"127.0.0.1\"]\nupstream = \"pair\"\n",
        site.origin.http
    );
    let mut edge = site.edge("", &more);
    let url = format!("http://{}/bytes/10", edge.address("http"));
    assert!(statuses(&url, 30).iter().all(|status| status == "200"));
    let (_, metrics) = edge.admin("/metrics");
    let retries = metrics
        .lines()
        .find(|line| line.starts_with("edge_retries_total"));
    assert!(
        retries.is_some_and(|line| !line.ends_with(" 0")),
        "{retries:?}"
    );
    let (_, backends) = edge.admin("/api/v1/backends");
    assert!(backends.contains("\"status\":\"ejected\""), "{backends}");
}

#[test]
fn a_client_behind_a_proxy_header_is_known_by_it_and_a_stranger_is_refused() {
    let recorder = Recorder::start();
    let dir = tempfile::tempdir().expect("scratch");
    let start = |trusted: &str| {
        let config = format!(
            "[[listener]]\nname = \"front\"\naddress = \"127.0.0.1:0\"\nproxy_protocol = true\n\
             trusted = [\"{trusted}\"]\n[[route]]\nupstream = \"app\"\n\
             [upstream.app]\nbackends = [\"{}\"]\n",
            recorder.address()
        );
        let file = dir.path().join("front.toml");
        std::fs::write(&file, config).expect("written");
        Edge::configured(&file)
    };
    let request = "GET /known HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n";
    let mut edge = start("127.0.0.0/8");
    let mut client = Raw::open(edge.address("front"), None);
    // The header in two pieces, the second one with the request behind it.
    client.send(b"PROXY TCP4 203.0.113.9 ");
    client.send(format!("192.0.2.1 4711 80\r\n{request}").as_bytes());
    let seen = client.read_until(Duration::from_secs(10), |bytes| {
        bytes.starts_with(b"HTTP/1.1 200")
    });
    assert!(seen.bytes.starts_with(b"HTTP/1.1 200"));
    let recorded = recorder.with("/known");
    let text = String::from_utf8_lossy(&recorded[0].bytes).to_ascii_lowercase();
    assert!(text.contains("x-forwarded-for: 203.0.113.9\r\n"), "{text}");
    assert!(
        !text.contains("1.2.3.4"),
        "a stranger's word was passed on: {text}"
    );
    let mut edge = start("10.0.0.0/8");
    let mut stranger = Raw::open(edge.address("front"), None);
    stranger.send(request.as_bytes());
    let seen = stranger.read_to_end(Duration::from_secs(10));
    assert!(seen.bytes.is_empty() && seen.closed_after.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_does_not_forget_who_has_used_up_its_rate() {
    let site = Site::start();
    let limit = "[rate_limit]\nrequests_per_minute = 1\nburst = 4\n";
    let (ports, config) = site.config_on_own_ports("", limit);
    let mut host = Host::with_edge(&config);
    host.start().await;
    let url = format!("http://127.0.0.1:{}/bytes/10", ports[1]);
    let before = statuses(&url, 8);
    assert_eq!(
        before.iter().filter(|status| *status == "200").count(),
        5,
        "{before:?}"
    );
    let other = another_edge(host.path(), "other");
    let outcome = host.upgrade(&other, &["--bake", "300ms"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let after = statuses(&url, 3);
    assert!(after.iter().all(|status| status == "429"), "{after:?}");
    assert_eq!(host.stop().await, Some(0));
}

/// A client that leaves while a backend hangs takes its request with it, in clear and over TLS; one that has asked twice
/// and waits does not.
#[test]
fn a_client_that_leaves_while_its_backend_hangs_holds_nothing() {
    let site = Site::start();
    // It accepts in the kernel only.
    let silent = TcpListener::bind("127.0.0.1:0").expect("bound");
    let at = silent.local_addr().expect("bound");
    let more = format!(
        "[[route]]\npath_prefix = \"/silent\"\nupstream = \"silent\"\n[upstream.silent]\nbackends = [\"{at}\"]\n"
    );
    let mut edge = site.edge("", &more);
    let (http, https) = (edge.address("http"), edge.address("https"));
    let trust = site.authority.client(&["http/1.1"]);
    let request = b"GET /silent HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut clients = vec![Raw::open(http, None), Raw::open(https, Some(&trust))];
    for client in &mut clients {
        client.send(request);
    }
    let mut patient = Raw::open(http, None);
    patient.send(&request.repeat(2));
    let held = |edge: &mut Edge, wanted: u64| {
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            let (_, text) = edge.admin("/health");
            let health: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let count = health["active_connections"].as_u64();
            // The question itself is none of them.
            if count == Some(wanted) {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{wanted}: {text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    held(&mut edge, 3);
    drop(clients);
    held(&mut edge, 1);
    drop(patient);
    drop(silent);
    held(&mut edge, 0);
}
