//! Old generations are bounded: the oldest gives way, its clients are closed one by one, and no upgrade waits.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use control::Role;
use harness::host::Host;
use harness::successors::another_lb;
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
    host.set_supervisor_config("bake = \"50ms\"\nmax_draining = 2\n");
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
