//! Faults in the middle of a move: at each step of the way between two generations one of them is killed, stopped or slow.
//! Nobody loses more than what the dead process had; no byte is lost, doubled or reordered for anybody else.

use std::time::Duration;

use bench::ledger::{Class, Ledger};
use bench::load::{Load, Shape};
use bench::target::Target;
use control::{Role, Verdict};
use harness::host::{Host, Outcome};
use harness::successors::another_lb;
use harness::traffic::{Site, Traffic};
use harness::{proc, wait};
use rustix::process::Signal;

/// Three batches, of which the second is struck.
const CONNECTIONS: u64 = 300;

/// Connections of one batch: its descriptors without the one for held bytes, two each.
const BATCH: u64 = 126;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Kill,
    Stop,
    Slow,
}

/// Blocks on long-lived connections; clients are patient, so that only a loss is one.
fn numbered(site: &Site) -> Traffic {
    let address = ([127, 0, 0, 1], site.echo_port).into();
    let connections = usize::try_from(CONNECTIONS).expect("few");
    let mut load = Load::new(Target::tcp(address), Shape::LongLived, connections);
    load.trickle = Duration::from_millis(500);
    load.limits.stall = Duration::from_secs(60);
    load.limits.exchange = Duration::from_secs(60);
    Traffic::of(vec![load.start().expect("the load starts")])
}

/// Whoever was stopped goes on, once the verdict is there.
fn wake(host: &Host, pids: &[u32]) {
    assert!(host.log().contains("over=true") || host.log().contains("still move"));
    pids.iter().for_each(|pid| proc::signal(*pid, Signal::CONT));
}

async fn strike(step: &str, how: How) -> (Outcome, Ledger) {
    let what = format!("{step} × {how:?}");
    let site = Site::start();
    let mut host = Host::with_lb(
        &site
            .config("")
            .replacen("[admin]", "workers = 1\n[admin]", 1),
    );
    host.set_supervisor_config("hang_timeout = \"60s\"\n");
    let fault = format!("{step}:2:{how:?}").to_lowercase();
    host.set_variable("ZEITWORK_PASSAGE_FAULT", &fault);
    host.start().await;
    let traffic = numbered(&site);
    wait::until(
        "all connections carry blocks",
        Duration::from_secs(30),
        || async {
            let ledger = traffic.snapshot();
            (ledger.connections.started() == CONNECTIONS
                && ledger.exchanges.count(Class::Ok) >= CONNECTIONS)
                .then_some(())
        },
    )
    .await;
    let incumbent = host.incumbent().await.pid;
    let next = another_lb(host.path(), "next");
    let outcome = host.upgrade(&next, &["--bake", "0s"]).await;
    if how == How::Stop {
        let status = host.status().await;
        let pids: Vec<u32> = status.generations.iter().map(|one| one.pid).collect();
        wake(&host, &pids);
    }
    traffic.flows(2 * CONNECTIONS).await;
    let status = host
        .status_where("one generation is left", |status| {
            status.generations.len() == 1 || how != How::Kill
        })
        .await;
    let serving = status
        .generations
        .iter()
        .find(|one| one.role == Role::Incumbent);
    let serves_old = serving.map(|one| one.pid) == Some(incumbent);
    assert_eq!(serves_old, outcome.code != 0, "{what}: {status:?}");
    // Whoever comes now is served.
    let late = site.passing_load(8);
    late.flows(40).await;
    late.finish_clean().await;
    let ledger = traffic.finish().await;
    (outcome, ledger)
}

fn lost(ledger: &Ledger) -> u64 {
    ledger.connections.lost()
}

fn committed(outcome: &Outcome) {
    let verdict = outcome.events.last().and_then(|event| event.verdict);
    assert_eq!(verdict, Some(Verdict::Committed), "{}", outcome.output);
}

/// Stopped for a while, or slow: the move is committed all the same, and nobody is lost.
async fn patience(step: &str) {
    for how in [How::Stop, How::Slow] {
        let (outcome, ledger) = strike(step, how).await;
        committed(&outcome);
        assert!(
            ledger.is_clean(),
            "{step} × {how:?}: {:#?}",
            ledger.examples
        );
        assert_eq!(
            ledger.connections.started(),
            CONNECTIONS,
            "{step} × {how:?}"
        );
    }
}

/// The giver: whom it still has when it dies, dies with it; the successor is committed and serves what it took.
async fn giver(step: &str, moved_at_least: u64) {
    let (outcome, ledger) = strike(step, How::Kill).await;
    committed(&outcome);
    assert!(
        lost(&ledger) <= CONNECTIONS - moved_at_least,
        "{step}: {:?}",
        ledger.connections
    );
    patience(step).await;
}

/// The taker: what it had acknowledged dies with it, and the incumbent is back with everybody else.
async fn taker(step: &str, taken: u64) {
    let (outcome, ledger) = strike(step, How::Kill).await;
    assert_eq!(outcome.code, 4, "{step}: {}", outcome.output);
    assert!(
        lost(&ledger) <= taken && lost(&ledger) > 0,
        "{step}: {:?}",
        ledger.connections
    );
    patience(step).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_giver_is_struck_with_a_frozen_batch() {
    giver("offering", BATCH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_giver_is_struck_before_it_hears_the_answer() {
    giver("offered", BATCH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_giver_is_struck_after_the_answer() {
    giver("answered", 2 * BATCH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_taker_is_struck_before_it_answers() {
    taker("arrived", BATCH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_taker_is_struck_after_its_answer() {
    taker("acknowledged", 2 * BATCH).await;
}
