//! Every step of a swap × who is hit × how: whatever happens, the service serves, nobody is refused, and what is
//! told, remembered and on disk agree.
//!
//! Holds  the steps come from the supervisor itself (`supervisor steps`): one that no case reaches fails the test.

use std::process::Command;
use std::time::Duration;

use bench::ledger::Class;
use control::Verdict;
use harness::host::{Host, Outcome};
use harness::successors::another_lb;
use harness::traffic::{Site, Traffic};
use harness::{binaries, proc, wait};
use rustix::process::Signal;

/// What the supervisor logs when a fault strikes.
const STRUCK: &str = "a fault of the tests strikes";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Supervisor,
    Incumbent,
    Successor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Kill,
    Stop,
    Slow,
    Close,
}

fn steps() -> Vec<String> {
    let output = Command::new(binaries::find("supervisor"))
        .arg("steps")
        .output()
        .expect("runs");
    let text = String::from_utf8(output.stdout).expect("words");
    let steps: Vec<String> = text.lines().map(str::to_owned).collect();
    assert!(steps.len() >= 13, "{steps:?}");
    steps
}

/// True when there is somebody to hit: nothing but the incumbent runs while a binary is staged, and the incumbent
/// is gone where it is replaced.
fn has(step: &str, who: Who) -> bool {
    !matches!(
        (step, who),
        ("staging", Who::Successor) | ("replacing", Who::Incumbent)
    )
}

fn faults(step: &str, who: Who, how: How) -> String {
    let fault = format!("{step}:{who:?}:{how:?}").to_lowercase();
    match step {
        // Reached only when the incumbent dies on its way back.
        "replacing" => format!("restoring:incumbent:kill,{fault}"),
        _ => fault,
    }
}

async fn upgrade(host: &Host, next: &str, step: &str) -> Outcome {
    let undone = matches!(step, "restoring" | "replacing");
    let bake = if undone { "60s" } else { "300ms" };
    let args = [
        "upgrade",
        "--json",
        "--binary",
        next,
        "--canary",
        "50",
        "--step",
        "300ms",
        "--bake",
        bake,
        "--ready-timeout",
        "3s",
    ];
    let upgrading = host.command(&args);
    if !undone {
        return upgrading.await;
    }
    let aborting = async {
        host.status_where("baking", |status| status.phase == "baking")
            .await;
        // The supervisor may be struck before it answers.
        let _ = host.client().ask("abort").await;
    };
    tokio::join!(upgrading, aborting).0
}

/// A supervisor that stands still is not missed; then it goes on.
async fn wake_up(host: &Host, traffic: &Traffic, how: How, who: Who) {
    if (who, how) != (Who::Supervisor, How::Stop) {
        return;
    }
    let pid = host.supervisor_pid();
    wait::until(
        "the supervisor stands still",
        Duration::from_secs(30),
        || async {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(')')
                .is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
                .then_some(())
        },
    )
    .await;
    traffic.flows(20).await;
    proc::signal(pid, Signal::CONT);
}

async fn case(step: &str, who: Who, how: How) {
    let what = format!("{step} × {who:?} × {how:?}");
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.set_supervisor_config("hang_timeout = \"3s\"\n");
    host.set_variable("ZEITWORK_FAULTS", &faults(step, who, how));
    host.start().await;
    let traffic = site.passing_load(16);
    traffic.flows(30).await;
    let old = host.status().await.committed.expect("committed").sha256;
    let next = another_lb(host.path(), "next").display().to_string();
    let (outcome, ()) = tokio::join!(
        upgrade(&host, &next, step),
        wake_up(&host, &traffic, how, who)
    );
    assert!(host.log().contains(STRUCK), "{what}: no case reaches it");
    if (who, how) == (Who::Supervisor, How::Kill) {
        assert_eq!(outcome.code, 1, "{what}: {}", outcome.output);
        traffic.flows(20).await;
        host.kill_supervisor();
        host.clear_variable("ZEITWORK_FAULTS");
        host.launch();
    }
    let status = host.serving().await;
    traffic.flows(30).await;
    let committed = status.committed.expect("committed").sha256;
    match outcome.code {
        0 => assert_ne!(committed, old, "{what}"),
        3..=7 => assert_eq!(committed, old, "{what}: {}", outcome.output),
        code => assert_eq!((who, how, code), (Who::Supervisor, How::Kill, 1), "{what}"),
    }
    let record = host.path().join("state/load-balancer/record.json");
    let record = std::fs::read_to_string(record).expect("a record");
    let record: serde_json::Value = serde_json::from_str(&record).expect("whole");
    assert_eq!(record["committed"]["sha256"], committed.as_str(), "{what}");
    let history = host.client().history().await.expect("history");
    let told = history.iter().rfind(|entry| entry.event == "upgrade");
    if let Some(verdict) = told.and_then(|entry| entry.verdict) {
        assert_eq!(
            verdict == Verdict::Committed,
            committed != old,
            "{what}: {history:?}"
        );
    }
    assert!(told.is_some() || outcome.code == 1, "{what}: {history:?}");
    let ledger = traffic.finish().await;
    assert_eq!(
        ledger.count(Class::Refused),
        0,
        "{what}: {:#?}",
        ledger.examples
    );
    assert_eq!(ledger.unaccounted(), 0, "{what}");
    // Where something is replaced the incumbent was killed, with what it held.
    if who == Who::Supervisor && step != "replacing" {
        assert!(ledger.is_clean(), "{what}: {:#?}", ledger.examples);
    }
}

async fn every_step(who: Who, how: How) {
    // To look at one step: ZEITWORK_STEP=baking cargo nextest run -p tests crash_matrix
    let only = std::env::var("ZEITWORK_STEP").ok();
    for step in steps() {
        if has(&step, who) && only.as_ref().is_none_or(|only| *only == step) {
            case(&step, who, how).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_supervisor_is_killed_in_every_step() {
    every_step(Who::Supervisor, How::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_supervisor_stands_still_in_every_step() {
    every_step(Who::Supervisor, How::Stop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_supervisor_is_slow_in_every_step() {
    every_step(Who::Supervisor, How::Slow).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_incumbent_is_killed_in_every_step() {
    every_step(Who::Incumbent, How::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_incumbent_hangs_in_every_step() {
    every_step(Who::Incumbent, How::Stop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_incumbent_is_slow_in_every_step() {
    every_step(Who::Incumbent, How::Slow).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_successor_is_killed_in_every_step() {
    every_step(Who::Successor, How::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_successor_hangs_in_every_step() {
    every_step(Who::Successor, How::Stop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_successor_is_slow_in_every_step() {
    every_step(Who::Successor, How::Slow).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_supervisor_loses_its_channels_in_every_step() {
    every_step(Who::Supervisor, How::Close).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_incumbent_loses_its_channel_in_every_step() {
    every_step(Who::Incumbent, How::Close).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_successor_loses_its_channel_in_every_step() {
    every_step(Who::Successor, How::Close).await;
}
