//! Any language: programs that know only the systemd conventions are swapped under load, and only what a generation
//! itself answers at the health URL counts for it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use bench::ledger::{Class, Ledger};
use bench::load::{IdleClose, Load, Running, Shape};
use bench::target::Target;
use control::Status;
use harness::host::{Host, incumbent};
use harness::ports::free_ports;
use harness::programs::{Program, node};
use harness::raw::Raw;
use harness::{proc, wait};

/// A program under a supervisor that asks it for its health.
fn host(program: Program, dir: &Path, port: u16) -> Host {
    let args = program.args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let listen = format!("web=127.0.0.1:{port}");
    let url = format!("http://127.0.0.1:{port}/health");
    let first = program.version(dir, 1);
    Host::with_program(first, &args, &["--listen", &listen, "--health-url", &url])
}

fn load(port: u16, shape: Shape, connections: usize) -> Running {
    let url = format!("http://127.0.0.1:{port}/bytes/3000");
    let target = Target::parse(&url).expect("a target");
    let mut load = Load::new(target, shape, connections);
    load.pause = Duration::from_millis(10);
    // Between two requests a server may end a connection, and one that leaves does (RFC 9112, section 9.5).
    load.idle_close = IdleClose::Allowed;
    load.start().expect("starts")
}

fn loads(program: Program, port: u16) -> Vec<Running> {
    let mut loads = vec![load(port, Shape::Short, 8)];
    if program.keeps_connections() {
        loads.push(load(port, Shape::KeepAlive, 8));
    }
    loads
}

async fn finish(loads: Vec<Running>) -> Ledger {
    let mut whole: Option<Ledger> = None;
    for running in loads {
        let part = running.finish().await;
        match &mut whole {
            Some(whole) => whole.merge(&part),
            None => whole = Some(part),
        }
    }
    whole.expect("a load")
}

/// One GET on a connection of its own; its whole answer.
fn get(port: u16, path: &str, patience: Duration) -> String {
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    let mut raw = Raw::open(address, None);
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
    let seen = raw.read_until(patience, |_| false);
    String::from_utf8_lossy(&seen.bytes).into_owned()
}

/// A request that is under way while the version that accepted it leaves.
fn slow_request(port: u16) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || get(port, "/slow/2500", Duration::from_secs(30)))
}

/// Five swaps and a rollback, with long requests under way; the ledger of all that.
async fn swap_under_load(program: Program) {
    let scratch = tempfile::tempdir().expect("scratch");
    let port = free_ports(1)[0];
    let mut host = host(program, scratch.path(), port);
    host.start().await;
    let loads = loads(program, port);
    let begun = Instant::now();
    for number in 2..=6 {
        let slow = slow_request(port);
        let binary = program.version(scratch.path(), number);
        let outcome = host.upgrade(&binary, &["--bake", "1s"]).await;
        assert_eq!(outcome.code, 0, "{}", outcome.output);
        let status = host.status().await;
        let health = incumbent(&status).and_then(|one| one.health.clone());
        let health = health.expect("a health URL is set");
        assert!(
            health.healthy_total > 0 && health.unhealthy_total == 0,
            "{health:?}"
        );
        expect_slow(slow).await;
    }
    let slow = slow_request(port);
    let outcome = host.command(&["rollback", "--json"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    expect_slow(slow).await;
    wait::until("the old versions' end", Duration::from_secs(20), || async {
        let status = host.status().await;
        (status.generations.len() == 1 && status.left_behind.is_empty()).then_some(())
    })
    .await;
    let version = get(port, "/version", Duration::from_secs(5));
    assert!(version.ends_with("\r\n\r\n5"), "{version}");
    let ledger = finish(loads).await;
    report(program, &ledger, begun.elapsed());
    assert!(
        ledger.is_clean() && ledger.exchanges.count(Class::Ok) > 500,
        "{} losses: {:#?}",
        ledger.losses(),
        ledger.examples
    );
    assert_eq!(host.stop().await, Some(0));
    assert_eq!(proc::listening_sockets(port), 0, "nobody is left");
}

async fn expect_slow(slow: std::thread::JoinHandle<String>) {
    let joined = tokio::task::spawn_blocking(move || slow.join());
    let answer = joined.await.expect("joined").expect("no panic");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:?}");
    assert!(
        answer.ends_with(|last: char| last.is_ascii_digit()),
        "{answer:?}"
    );
}

#[expect(clippy::print_stdout, reason = "the figure of this test")]
fn report(program: Program, ledger: &Ledger, lasted: Duration) {
    println!(
        "{program:?}: 5 swaps and a rollback in {:.1} s: {} requests on {} connections, {} lost; {} kept connections ended between requests, {} requests asked again; longest {:?}",
        lasted.as_secs_f64(),
        ledger.exchanges.count(Class::Ok),
        ledger.connections.count(Class::Ok),
        ledger.losses(),
        ledger.idle_closes,
        ledger.retried,
        ledger.longest_stall().map(|stall| stall.lasted),
    );
}

/// Without any traffic it depends on the kernel alone who accepts a connection of ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_traffic_proves_itself_too() {
    for program in [
        Program::Gunicorn,
        Program::GunicornThreads,
        Program::Node,
        Program::Listenfd,
    ] {
        let scratch = tempfile::tempdir().expect("scratch");
        let port = free_ports(1)[0];
        let mut host = host(program, scratch.path(), port);
        host.start().await;
        for number in 2..=3 {
            let binary = program.version(scratch.path(), number);
            let outcome = host.upgrade(&binary, &["--bake", "3s"]).await;
            assert_eq!(outcome.code, 0, "{program:?}: {}", outcome.output);
            let health = host.incumbent().await.health.expect("a health URL is set");
            // Ready by its first; one a second in the bake.
            assert!(health.healthy_total >= 3, "{program:?}: {health:?}");
            assert_eq!(
                (health.unhealthy_total, health.absent_total > 3),
                (0, false),
                "{program:?}: {health:?}"
            );
        }
        assert_eq!(host.stop().await, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gunicorn_is_swapped_under_load() {
    swap_under_load(Program::Gunicorn).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gunicorn_with_threads_and_kept_connections_is_swapped_under_load() {
    swap_under_load(Program::GunicornThreads).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_is_swapped_under_load() {
    swap_under_load(Program::Node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rust_program_with_listenfd_and_sd_notify_is_swapped_under_load() {
    swap_under_load(Program::Listenfd).await;
}

/// The successor in this mode is refused for this reason, and the incumbent serves as before.
async fn roll_back(host: &mut Host, dir: &Path, mode: &str, reason: &str) {
    let before = host.incumbent().await.pid;
    let successor = node(dir, mode, "9", mode);
    let terms = ["--bake", "1s", "--ready-timeout", "5s"];
    let outcome = host.upgrade(&successor, &terms).await;
    assert_eq!(outcome.code, 4, "{mode}: {}", outcome.output);
    let told = outcome.reason();
    assert!(
        told.contains("did not become ready within 5s"),
        "{mode}: {told}"
    );
    assert!(told.contains(reason), "{mode}: {told}");
    let is_alone = |status: &Status| status.generations.len() == 1;
    let status = host.status_where("the successor left", is_alone).await;
    let serving = incumbent(&status).expect("an incumbent");
    assert_eq!((serving.pid, serving.accepting), (before, true));
}

fn expect_served(port: u16, requests: usize) {
    for _ in 0..requests {
        let version = get(port, "/version", Duration::from_secs(5));
        assert!(version.ends_with("\r\n\r\n1"), "{version:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_does_not_answer_well_itself_is_rolled_back() {
    let scratch = tempfile::tempdir().expect("scratch");
    let port = free_ports(1)[0];
    let mut host = host(Program::Node, scratch.path(), port);
    host.start().await;
    // Both accept from the same queue, so clients that such a successor accepts are lost: that is why there is no load.
    roll_back(
        &mut host,
        scratch.path(),
        "500",
        "it answers 500 at http://127.0.0.1",
    )
    .await;
    expect_served(port, 20);
    roll_back(
        &mut host,
        scratch.path(),
        "hang",
        "it accepts and does not answer within 2s",
    )
    .await;
    expect_served(port, 20);
    assert_eq!(host.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_incumbents_answers_prove_nothing_for_a_successor_that_never_accepts() {
    let scratch = tempfile::tempdir().expect("scratch");
    let port = free_ports(1)[0];
    let mut host = host(Program::Node, scratch.path(), port);
    host.start().await;
    let loads = loads(Program::Node, port);
    roll_back(&mut host, scratch.path(), "deaf", "it accepted none of ").await;
    let log = host.log();
    assert!(log.contains("accepted by other processes"), "{log}");
    expect_served(port, 20);
    let ledger = finish(loads).await;
    assert!(ledger.is_clean(), "{:#?}", ledger.examples);
    assert_eq!(host.stop().await, Some(0));
}

/// Ready and good for some seconds; then what it answers at the health URL ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_turns_bad_in_the_bake_is_rolled_back_with_what_it_answered() {
    let scratch = tempfile::tempdir().expect("scratch");
    let port = free_ports(1)[0];
    let mut host = host(Program::Node, scratch.path(), port);
    host.start().await;
    let before = host.incumbent().await.pid;
    for (mode, reason) in [
        ("sours", "unhealthy: it answers 500 at http://127.0.0.1"),
        (
            "slows",
            "half of its answers at the health URL take more than",
        ),
    ] {
        let successor = node(scratch.path(), mode, "9", mode);
        let outcome = host.upgrade(&successor, &["--bake", "50s"]).await;
        assert_eq!(outcome.code, 4, "{mode}: {}", outcome.output);
        let told = outcome.reason();
        assert!(told.contains(reason), "{mode}: {told}");
        let is_alone = |status: &Status| status.generations.len() == 1;
        let status = host.status_where("the successor left", is_alone).await;
        let serving = incumbent(&status).expect("an incumbent");
        assert_eq!((serving.pid, serving.accepting), (before, true));
        expect_served(port, 20);
    }
    assert_eq!(host.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_health_url_ready_is_waited_for_and_its_absence_named() {
    let scratch = tempfile::tempdir().expect("scratch");
    let port = free_ports(1)[0];
    let listen = format!("web=127.0.0.1:{port}");
    let first = Program::Listenfd.version(scratch.path(), 1);
    let mut host = Host::with_program(first, &[], &["--listen", &listen]);
    host.start().await;
    assert_eq!(host.incumbent().await.health, None);
    let next = Program::Listenfd.version(scratch.path(), 2);
    let outcome = host.upgrade(&next, &["--bake", "300ms"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    // Node serves, and never says READY=1.
    let silent = Program::Node.version(scratch.path(), 3);
    let outcome = host.upgrade(&silent, &["--ready-timeout", "2s"]).await;
    assert_eq!(outcome.code, 4, "{}", outcome.output);
    assert!(
        outcome.reason().contains("never said READY=1"),
        "{}",
        outcome.reason()
    );
    assert_eq!(host.stop().await, Some(0));
}
