//! Old generations are bounded: the oldest gives way, its clients are closed one by one, and no upgrade waits.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use control::Role;
use harness::edge::Site as EdgeSite;
use harness::host::Host;
use harness::successors::{another_edge, another_lb, rogue};
use harness::traffic::Site;

/// Clients that stay, each proved to be served.
fn clients(port: u16, count: usize) -> Vec<TcpStream> {
    (0..count)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
            stream
                .set_read_timeout(Some(Duration::from_secs(40)))
                .expect("a timeout");
            stream.write_all(b"x").expect("writes");
            stream
        })
        .collect()
}

/// When each of these connections ended.
fn ends(clients: Vec<TcpStream>) -> Vec<Instant> {
    let waiting = clients.into_iter().map(|mut client| {
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            loop {
                match client.read(&mut buffer) {
                    Ok(0) => return Instant::now(),
                    Ok(_) => {}
                    Err(error) => {
                        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "never closed");
                        return Instant::now();
                    }
                }
            }
        })
    });
    let waiting: Vec<_> = waiting.collect();
    let mut ends: Vec<Instant> = waiting
        .into_iter()
        .map(|thread| thread.join().expect("joins"))
        .collect();
    ends.sort();
    ends
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_of_too_many_gives_way_one_client_after_the_other() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.set_supervisor_config("bake = \"50ms\"\nmax_draining = 2\nmigrate = \"never\"\n");
    host.start().await;
    let first = clients(site.echo_port, 40);
    let mut others = Vec::new();
    for mark in ["a", "b", "c"] {
        let next = another_lb(host.path(), mark);
        let begun = Instant::now();
        let outcome = host.upgrade(&next, &[]).await;
        assert_eq!(outcome.code, 0, "{}", outcome.output);
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "no upgrade waits"
        );
        others.push(clients(site.echo_port, 5));
    }
    let ended = tokio::task::spawn_blocking(move || ends(first));
    let ended = ended.await.expect("joins");
    let spread = ended[ended.len() - 1] - ended[0];
    println!("40 connections of the oldest generation were closed over {spread:.1?}");
    assert!(spread >= Duration::from_secs(3), "a herd: {spread:?}");
    let status = host
        .status_where("two drain", |status| {
            let draining = status.generations.iter();
            draining.filter(|one| one.role == Role::Draining).count() == 2
        })
        .await;
    assert_eq!(status.generations.len(), 3);
    // The others are still served.
    for client in others.iter_mut().flatten() {
        client.write_all(b"y").expect("still open");
    }
    let history = host.client().history().await.expect("history");
    let retired: Vec<_> = history
        .iter()
        .filter(|entry| entry.event == "retired")
        .collect();
    assert_eq!(retired.len(), 1, "{retired:?}");
    let reason = retired[0].reason.as_deref().unwrap_or_default();
    assert!(reason.contains("3 generations drain, 2 may"), "{reason}");
}

/// Waits until only one generation lives; how long that took.
async fn until_alone(host: &Host) -> Duration {
    let begun = Instant::now();
    host.status_where("the old one's end", |status| status.generations.len() == 1)
        .await;
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_at_the_end_of_a_drain_is_closed_and_counted() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.set_supervisor_config("bake = \"50ms\"\ndrain_timeout = \"4s\"\nmigrate = \"never\"\n");
    host.start().await;
    let held = clients(site.echo_port, 20);
    let next = another_lb(host.path(), "next");
    let outcome = host.upgrade(&next, &[]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let ended = tokio::task::spawn_blocking(move || ends(held));
    let took = until_alone(&host).await;
    assert!(took < Duration::from_secs(7), "{took:?}");
    let ended = ended.await.expect("joins");
    // Over the second half of a short drain.
    let spread = ended[ended.len() - 1] - ended[0];
    assert!(spread >= Duration::from_millis(800), "a herd: {spread:?}");
    let history = host.client().history().await.expect("history");
    let drained = history.iter().find(|entry| entry.event == "drained");
    let outcomes = drained.and_then(|entry| entry.outcomes);
    assert!(
        outcomes.is_some_and(|outcomes| outcomes.cut == 20),
        "{history:?}"
    );
}

/// One that hoards is let go before its time, whatever it holds, and even when it does not hear that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_generations_that_hold_too_much_memory_give_way() {
    let meminfo = std::fs::read_to_string("/proc/meminfo").expect("proc");
    let total: u64 = meminfo
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("MemTotal comes first");
    assert!(
        total < 50 << 20,
        "one percent of this host is more than the hoarder takes"
    );
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.set_supervisor_config("max_draining_memory_percent = 1\ndrain_timeout = \"10m\"\n");
    host.start().await;
    let hoarder = rogue(host.path(), "leaks-memory");
    // Whoever asks for no bake gets no verdict.
    let outcome = host.upgrade(&hoarder, &["--bake", "0s"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let held = clients(site.echo_port, 3);
    let percent = total / 100;
    let hoards = |status: &control::Status| {
        let mut all = status.generations.iter();
        all.any(|one| one.version == "6.6.6" && one.resident_bytes > Some(percent << 10))
    };
    host.status_where("it hoards", hoards).await;
    let good = another_lb(host.path(), "good");
    let outcome = host.upgrade(&good, &["--bake", "0s"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let took = until_alone(&host).await;
    assert!(took < Duration::from_secs(25), "{took:?}");
    let history = host.client().history().await.expect("history");
    let retired = history.iter().find(|entry| entry.event == "retired");
    let reason = retired.and_then(|entry| entry.reason.clone());
    let reason = reason.expect("it is retired, and why is told");
    assert!(reason.contains("MiB"), "{reason}");
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_of_too_many_edges_gives_way_with_its_tunnels() {
    let site = EdgeSite::start();
    let (ports, config) = site.config_on_own_ports("", "");
    let mut host = Host::with_edge(&config);
    host.set_supervisor_config("bake = \"50ms\"\nmax_draining = 1\nmigrate = \"never\"\n");
    host.start().await;
    let tunnel = || {
        let mut client = TcpStream::connect(("127.0.0.1", ports[1])).expect("connects");
        client
            .set_read_timeout(Some(Duration::from_secs(40)))
            .expect("a timeout");
        client
            .write_all(b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
            .expect("writes");
        let mut head = [0; 12];
        client.read_exact(&mut head).expect("is answered");
        assert_eq!(&head, b"HTTP/1.1 101");
        client
    };
    let oldest = tunnel();
    let mut others = Vec::new();
    for mark in ["a", "b"] {
        let next = another_edge(host.path(), mark);
        let outcome = host.upgrade(&next, &[]).await;
        assert_eq!(outcome.code, 0, "{}", outcome.output);
        others.push(tunnel());
    }
    let begun = Instant::now();
    let ended = tokio::task::spawn_blocking(move || ends(vec![oldest]));
    let ended = ended.await.expect("joins");
    let after = ended[0].saturating_duration_since(begun);
    assert!(after < Duration::from_secs(20), "{after:?}");
    host.status_where("one drains", |status| status.generations.len() == 2)
        .await;
    // The younger ones go on: a ping is answered.
    for client in &mut others {
        client
            .write_all(&[0x89, 0x80, 0, 0, 0, 0])
            .expect("still open");
    }
}
