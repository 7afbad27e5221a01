//! Level 1: a program that knows only LISTEN_FDS and NOTIFY_SOCKET, and a worker directly under a
//! service manager.

use std::path::PathBuf;
use std::time::Duration;

use bench::ledger::Class;
use harness::host::Host;
use harness::ports::free_ports;
use harness::service_manager::ServiceManager;
use harness::successors::{another_lb, executable};
use harness::traffic::Site;
use harness::{proc, wait};
use rustix::process::Signal;

/// Accepts on descriptor 3, echoes, and on SIGTERM finishes what it holds. Needs only a stock Python.
const PROGRAM: &str = r#"#!/usr/bin/env python3
import os, signal, socket, sys, threading
if "--version" in sys.argv:
    print("echo 1.0")
    sys.exit(0)
assert os.environ["LISTEN_PID"] == str(os.getpid()), "LISTEN_PID is not this process"
assert os.environ["LISTEN_FDNAMES"] == "web", os.environ["LISTEN_FDNAMES"]
listener = socket.socket(fileno=3)
listener.settimeout(0.05)
threads, stopping = [], threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopping.set())
def echo(client):
    with client:
        client.settimeout(30)
        while data := client.recv(65536):
            client.sendall(data)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.sendto(b"READY=1\nSTATUS=echoing", os.environ["NOTIFY_SOCKET"])
while not stopping.is_set():
    try:
        client, _ = listener.accept()
    except TimeoutError:
        continue
    thread = threading.Thread(target=echo, args=(client,))
    thread.start()
    threads.append(thread)
for thread in threads:
    thread.join()
"#;

fn version(host_dir: &std::path::Path, number: u32) -> PathBuf {
    let text = format!("{PROGRAM}# version {number}\n");
    executable(host_dir, &format!("echo-{number}"), text.as_bytes())
}

fn load(port: u16) -> bench::load::Running {
    let address = ([127, 0, 0, 1], port).into();
    let shape = bench::load::Shape::Short;
    let mut load = bench::load::Load::new(bench::target::Target::tcp(address), shape, 20);
    load.pause = Duration::from_millis(40);
    load.start().expect("starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_knows_only_the_systemd_conventions_is_swapped_under_load() {
    let scratch = tempfile::tempdir().expect("scratch");
    let port = free_ports(1)[0];
    let listen = format!("web=127.0.0.1:{port}");
    let first = version(scratch.path(), 1);
    let mut host = Host::with_program(first, &[], &["--listen", &listen]);
    host.start().await;
    let running = load(port);
    for number in 2..=4 {
        let binary = version(scratch.path(), number);
        let outcome = host.upgrade(&binary, &["--bake", "300ms"]).await;
        assert_eq!(outcome.code, 0, "{}", outcome.output);
    }
    // The supervisor dies; the program serves on, and the next supervisor takes its socket back from it.
    let pid = host.incumbent().await.pid;
    host.kill_supervisor();
    host.start().await;
    assert_eq!(host.incumbent().await.pid, pid);
    assert_eq!(
        host.upgrade(&version(scratch.path(), 5), &["--bake", "300ms"])
            .await
            .code,
        0
    );
    let ledger = running.finish().await;
    assert!(
        ledger.is_clean() && ledger.exchanges.count(Class::Ok) > 100,
        "{:#?}",
        ledger.examples
    );
    assert_eq!(ledger.count(Class::Refused), 0);
    wait::until("the old versions left", Duration::from_secs(10), || async {
        (proc::children(host.supervisor_pid()).len() <= 1).then_some(())
    })
    .await;
    assert_eq!(host.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_manager_hears_everything_and_its_store_survives_the_death_of_all() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    let manager = ServiceManager::listen(host.path());
    host.set_variable("NOTIFY_SOCKET", &manager.path().display().to_string());
    host.set_variable("WATCHDOG_USEC", "1000000");
    host.start().await;
    let heard = |what: &'static str, count: usize| {
        let manager = &manager;
        wait::until(what, Duration::from_secs(10), move || async move {
            (manager.count(what) >= count).then_some(())
        })
    };
    heard("READY=1", 1).await;
    heard("WATCHDOG=1", 2).await;
    heard("STATUS=", 2).await;
    let status = manager.last("STATUS=").expect("a status");
    assert!(status.contains("serves 0 connections"), "{status}");
    let members = |name: &str| {
        (0..16)
            .map(|member| format!("{name}.{member}"))
            .collect::<Vec<_>>()
    };
    let mut expected = vec!["admin.0".to_owned()];
    expected.extend(members("echo"));
    expected.extend(members("http"));
    expected.sort();
    assert_eq!(manager.stored(), expected);
    assert_eq!(manager.stored_without_poll(), 0);

    let ready = manager.count("READY=1");
    assert_eq!(host.command(&["reload"]).await.code, 0);
    heard("RELOADING=1", 1).await;
    heard("READY=1", ready + 1).await;

    // Supervisor and worker die at once; only the store is left, as after a crash under systemd.
    let traffic = site.passing_load(40);
    traffic.flows(100).await;
    let worker = host.incumbent().await.pid;
    host.kill_supervisor();
    proc::signal(worker, Signal::KILL);
    wait::until("the worker's death", Duration::from_secs(10), || async {
        (!proc::is_alive(worker)).then_some(())
    })
    .await;
    assert_eq!(
        proc::listening_sockets(site.echo_port),
        16,
        "held by the store"
    );
    host.inherit(manager.duplicates());
    host.start().await;
    let listeners = host.status().await.listeners;
    assert_eq!(listeners.iter().map(|one| one.sockets).sum::<usize>(), 33);
    assert_eq!(
        proc::listening_sockets(site.echo_port),
        16,
        "the same sockets"
    );
    traffic.flows(100).await;
    let ledger = traffic.finish().await;
    for class in [
        Class::Refused,
        Class::Hung,
        Class::ConnectTimedOut,
        Class::WrongBytes,
    ] {
        assert_eq!(ledger.count(class), 0, "{class:?}: {:#?}", ledger.examples);
    }
    assert_eq!(host.stop().await, Some(0));
    heard("STOPPING=1", 1).await;
}

/// As systemd does with the sockets of a socket unit, whenever it starts the service again: O_NONBLOCK belongs to the
/// socket, not to the process, and a worker that serves on has the same one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_manager_that_makes_the_sockets_blocking_holds_nobody_up() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    let sockets = [("echo", site.echo_port), ("http", site.http_port)];
    let sockets = sockets.map(|(name, port)| {
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("bound");
        (name.to_owned(), listener)
    });
    let duplicate = |(name, socket): &(String, std::net::TcpListener)| {
        (
            name.clone(),
            socket.try_clone().expect("a descriptor").into(),
        )
    };
    host.inherit(sockets.iter().map(duplicate).collect());
    host.start().await;
    let traffic = site.passing_load(20);
    traffic.flows(50).await;
    for (_, socket) in &sockets {
        socket.set_nonblocking(false).expect("a socket");
    }
    traffic.flows(200).await;
    let next = another_lb(host.path(), "next");
    let outcome = host.upgrade(&next, &["--bake", "200ms"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    traffic.flows(50).await;
    let ledger = traffic.finish_clean().await;
    let longest = ledger.longest_stall().map(|stall| stall.lasted);
    assert!(longest < Some(Duration::from_secs(2)), "{longest:?}");
    assert_eq!(host.stop().await, Some(0));
}
