//! Through `edge` in clear: WebSockets and idle connections move to the successor. What speaks TLS or HTTP/2 drains.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bench::ledger::Class;
use bench::load::{IdleClose, Load, Shape};
use bench::origin::{Kind, Origin};
use bench::target::Target;
use control::Verdict;
use harness::clients::{Talk, python};
use harness::edge::Site as TlsSite;
use harness::host::Host;
use harness::ports::free_ports;
use harness::successors::another_edge;
use harness::traffic::Traffic;

const SWAPS: u32 = 20;

/// One origin behind a listener in clear; answers and WebSockets.
fn config(ports: &[u16], origin: &Origin) -> String {
    format!(
        "[admin]\nlisten = \"127.0.0.1:{}\"\n[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:{}\"\n\
         [[route]]\npath_prefix = \"/\"\nupstream = \"app\"\n[upstream.app]\nbackends = [\"{}\"]\n",
        ports[1],
        ports[0],
        origin.address()
    )
}

fn origin() -> Origin {
    Origin::start(Kind::Http, "127.0.0.1:0".parse().expect("an address")).expect("starts")
}

/// Nobody may end these: a connection that is closed between two requests is a loss, too.
fn strict(port: u16, path: &str, shape: Shape, connections: usize, pause: Duration) -> Traffic {
    let mut load = Load::new(
        Target::http(([127, 0, 0, 1], port).into(), path),
        shape,
        connections,
    );
    load.pause = pause;
    load.trickle = pause;
    load.exchanges_per_connection = u64::MAX;
    load.idle_close = IdleClose::IsCut;
    Traffic::of(vec![load.start().expect("the load starts")])
}

/// So many WebSockets that speak, and so many connections that are idle most of the time.
fn tunnels_and_idle(port: u16, tunnels: usize, idle: usize) -> (Traffic, Traffic) {
    let ms = Duration::from_millis;
    (
        strict(port, "/websocket", Shape::WebSocket, tunnels, ms(50)),
        strict(port, "/bytes/1024", Shape::KeepAlive, idle, ms(400)),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_and_idle_connections_are_the_same_after_twenty_swaps() {
    let (ports, origin) = (free_ports(2), origin());
    let mut host = Host::with_edge(&config(&ports, &origin));
    host.start().await;
    let (tunnels, idle) = tunnels_and_idle(ports[0], 60, 200);
    tunnels.flows(200).await;
    idle.flows(400).await;
    let first = host.incumbent().await.pid;
    let other = another_edge(host.path(), "other");
    let original = harness::binaries::find("edge");
    let (mut moved, mut stall_max) = (0, 0.0_f64);
    for swap in 0..SWAPS {
        let binary = if swap % 2 == 0 { &other } else { &original };
        let outcome = host.upgrade(binary, &["--bake", "0s"]).await;
        assert_eq!(outcome.code, 0, "{}", outcome.output);
        let last = outcome.events.last().and_then(|event| event.moved.clone());
        let last = last.unwrap_or_else(|| panic!("nothing moved: {}", outcome.output));
        moved += last.connections;
        stall_max = stall_max.max(last.stall_max_ms);
        host.status_where("one generation", |status| status.generations.len() == 1)
            .await;
        tunnels.flows(60).await;
    }
    idle.flows(200).await;
    assert!(!harness::proc::is_alive(first));
    let tunnels = tunnels.finish_clean().await;
    let idle = idle.finish_clean().await;
    println!(
        "{SWAPS} swaps, {moved} connections moved, nobody unserved longer than {stall_max:.1} ms; a WebSocket's message p99 {:?}, most {:?}",
        tunnels.latency.quantile(0.99),
        tunnels.latency.max()
    );
    assert_eq!(tunnels.connections.started(), 60, "the same sessions");
    assert_eq!(idle.connections.started(), 200, "the same connections");
    assert!(tunnels.exchanges.count(Class::Ok) > 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_brings_tunnels_and_idle_connections_back() {
    let (ports, origin) = (free_ports(2), origin());
    let mut host = Host::with_edge(&config(&ports, &origin));
    host.start().await;
    let next = another_edge(host.path(), "next");
    let request = control::UpgradeRequest {
        binary: next,
        bake_ms: Some(60_000),
        ..control::UpgradeRequest::default()
    };
    let client = host.client();
    let upgrading = tokio::spawn(async move { client.upgrade(&request, |_| {}).await });
    host.status_where("baking", |status| status.phase == "baking")
        .await;
    // The successor accepts these.
    let (tunnels, idle) = tunnels_and_idle(ports[0], 20, 20);
    tunnels.flows(60).await;
    idle.flows(40).await;
    assert_eq!(host.command(&["abort"]).await.code, 0);
    let last = upgrading.await.expect("joins").expect("a verdict");
    assert_eq!(last.verdict, Some(Verdict::RolledBack));
    host.status_where("the successor is gone", |status| {
        status.generations.len() == 1
    })
    .await;
    tunnels.flows(60).await;
    idle.flows(40).await;
    assert_eq!(tunnels.finish_clean().await.connections.started(), 20);
    assert_eq!(idle.finish_clean().await.connections.started(), 20);
}

/// What cannot move is not cut for that: it drains, and the supervisor says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_speaks_tls_or_http2_drains_and_is_named() {
    let site = TlsSite::start();
    let (ports, config) = site.config_on_own_ports("", "");
    let mut host = Host::with_edge(&config);
    host.start().await;
    let mut client = python("websocket_client.py");
    let mut tls = Talk::start(
        client
            .args(["tunnel", &ports[0].to_string()])
            .arg(site.authority.file()),
    );
    tls.line_with("ready");
    let mut client = python("websocket_client.py");
    let mut clear = Talk::start(client.args(["tunnel", &ports[1].to_string(), "-"]));
    clear.line_with("ready");
    let old = host.incumbent().await.pid;
    let next = another_edge(host.path(), "next");
    let outcome = host.upgrade(&next, &["--bake", "0s"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let moved = outcome
        .events
        .last()
        .and_then(|event| event.moved.clone())
        .expect("told");
    assert_eq!(moved.connections, 1, "{moved:?}");
    let stayed: Vec<_> = moved.stayed.into_iter().collect();
    assert_eq!(stayed, [("speaks TLS".to_owned(), 1)]);
    for tunnel in [&mut tls, &mut clear] {
        tunnel.say("after the swap\n");
        tunnel.line_with("ok");
    }
    assert!(harness::proc::is_alive(old), "it serves the one over TLS");
    clear.finish();
    tls.finish();
    host.status_where("the old one's end", |status| status.generations.len() == 1)
        .await;
    let history = host.command(&["history"]).await.output;
    assert!(history.contains("1 did not move: speaks TLS"), "{history}");
}

/// A pipelined request behind an answer, a half request, a request under way: none of them is lost by a move.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_request_is_finished_where_it_began() {
    let (ports, origin) = (free_ports(2), origin());
    let mut host = Host::with_edge(&config(&ports, &origin));
    host.start().await;
    let mut half = TcpStream::connect(("127.0.0.1", ports[0])).expect("connects");
    half.set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a timeout");
    half.write_all(b"GET /bytes/10 HTTP/1.1\r\nHost: local")
        .expect("is sent");
    let old = host.incumbent().await.pid;
    let next = another_edge(host.path(), "next");
    let outcome = host.upgrade(&next, &["--bake", "0s"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    assert!(
        harness::proc::is_alive(old),
        "it waits for the rest of the head"
    );
    half.write_all(b"host\r\n\r\n").expect("is sent");
    let mut answer = [0; 12];
    half.read_exact(&mut answer).expect("is answered");
    assert_eq!(&answer, b"HTTP/1.1 200");
    drop(half);
    host.status_where("the old one's end", |status| status.generations.len() == 1)
        .await;
}
