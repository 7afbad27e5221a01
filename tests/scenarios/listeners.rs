//! Every number of sockets passes through the handoff; what nobody claims is closed everywhere.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use harness::host::Host;
use harness::ports::free_ports;
use harness::successors::another_lb;
use harness::{proc, wait};

/// `listeners` listeners with `sockets` sockets each.
fn config(ports: &[u16], sockets: usize) -> String {
    let mut text = String::from("[upstream.nowhere]\nbackends = [\"127.0.0.1:9\"]\n");
    for (index, port) in ports.iter().enumerate() {
        writeln!(
            text,
            "[[listener]]\nname = \"l{index}\"\naddress = \"127.0.0.1:{port}\"\nupstream = \"nowhere\"\nsockets = {sockets}"
        )
        .expect("to a string");
    }
    text
}

fn sockets_of(status: &control::Status) -> usize {
    status
        .listeners
        .iter()
        .map(|listener| listener.sockets)
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_sockets_survives_two_swaps() {
    // (listeners, sockets of each): 1, 33, 253, 254 and 600 sockets.
    for (listeners, sockets) in [(1, 1), (33, 1), (253, 1), (127, 2), (50, 12)] {
        let count = listeners * sockets;
        let ports = free_ports(listeners);
        let mut host = Host::with_lb(&config(&ports, sockets));
        host.start().await;
        assert_eq!(sockets_of(&host.status().await), count);
        let listening = proc::listening_sockets_of(&ports);
        let other = another_lb(host.path(), "other");
        for binary in [&other, &harness::binaries::find("lb")] {
            let outcome = host.upgrade(binary, &["--bake", "50ms"]).await;
            assert_eq!(outcome.code, 0, "{count} sockets: {}", outcome.output);
        }
        assert_eq!(sockets_of(&host.status().await), count);
        let now = proc::listening_sockets_of(&ports);
        assert_eq!((listening, now), (count, count), "the same sockets listen");
        assert_eq!(host.stop().await, Some(0));
        assert_eq!(proc::listening_sockets_of(&ports), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_the_new_configuration_lacks_is_closed_everywhere_after_the_commit() {
    let ports = free_ports(2);
    let mut host = Host::with_lb(&config(&ports, 16));
    host.start().await;
    assert_eq!(proc::listening_sockets(ports[1]), 16);
    // An old process with a connection must not keep the listener alive.
    let origin = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let backend = origin.local_addr().expect("bound");
    let with_backend = config(&ports, 16).replace("127.0.0.1:9\"", &format!("{backend}\""));
    std::fs::write(host.config_path(), &with_backend).expect("written");
    assert_eq!(host.command(&["reload"]).await.code, 0);
    let held = TcpStream::connect(("127.0.0.1", ports[0])).expect("connects");
    let _far_end = origin.accept().expect("reaches the origin");
    let fewer = config(&ports[..1], 16).replace("127.0.0.1:9\"", &format!("{backend}\""));
    std::fs::write(host.config_path(), fewer).expect("written");
    let outcome = host
        .upgrade(
            &another_lb(host.path(), "other"),
            &["--bake", "100ms", "--migrate", "never"],
        )
        .await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    wait::until(
        "the listener is closed",
        Duration::from_secs(10),
        || async { (proc::listening_sockets(ports[1]) == 0).then_some(()) },
    )
    .await;
    let status = host.status().await;
    assert_eq!(
        status.generations.len(),
        2,
        "the old one still holds its connection"
    );
    assert_eq!(
        status
            .listeners
            .iter()
            .filter(|one| one.name == "l1")
            .count(),
        0
    );
    assert!(
        TcpStream::connect(("127.0.0.1", ports[1])).is_err(),
        "nobody to hang at"
    );
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_the_new_configuration_adds_is_held_after_the_commit_and_not_after_a_rollback()
 {
    let ports = free_ports(2);
    let mut host = Host::with_lb(&config(&ports[..1], 4));
    host.start().await;
    std::fs::write(host.config_path(), config(&ports, 4)).expect("written");
    let dies = harness::successors::impostor(
        host.path(),
        "dies",
        "(sleep 1; kill -9 $$) & exec \"$LB\" \"$@\"",
    );
    let failed = host.upgrade(&dies, &["--bake", "20s"]).await;
    assert_eq!(failed.code, 4, "{}", failed.output);
    let status = host.status().await;
    assert_eq!(status.listeners.len(), 1, "{:?}", status.listeners);
    assert_eq!(proc::listening_sockets(ports[1]), 0);
    let outcome = host
        .upgrade(&another_lb(host.path(), "other"), &["--bake", "100ms"])
        .await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    assert_eq!(host.status().await.listeners.len(), 2);
    assert!(TcpStream::connect(("127.0.0.1", ports[1])).is_ok());
}
