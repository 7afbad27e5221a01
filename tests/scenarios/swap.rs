//! A swap costs no client anything, as often as it is done.

use std::time::Duration;

use control::Verdict;
use harness::host::Host;
use harness::successors::another_lb;
use harness::traffic::Site;
use harness::{proc, wait};

/// Long enough for a load to meet the swap, short enough for a hundred of them.
const BAKE: &str = "100ms";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_back_and_forth_lose_nothing_and_old_processes_leave() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.load(200);
    traffic.flows(300).await;
    let other = another_lb(host.path(), "other");
    let original = harness::binaries::find("lb");
    for round in 0..5 {
        let binary = if round % 2 == 0 { &other } else { &original };
        let outcome = host.upgrade(binary, &["--bake", "300ms"]).await;
        assert_eq!(outcome.code, 0, "{}", outcome.output);
        let last = outcome.events.last().expect("events");
        assert_eq!(last.verdict, Some(Verdict::Committed));
        traffic.flows(100).await;
    }
    let ledger = traffic.finish_clean().await;
    assert!(ledger.connections.started() > 200);
    // The long-lived connections are gone now: so must be the generations that held them.
    let status = host
        .status_where("one generation", |status| status.generations.len() == 1)
        .await;
    assert_eq!(status.generations[0].generation, 6);
    assert_eq!(host.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_of_two_upgrades_is_refused_with_what_is_running_and_since_when() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let other = another_lb(host.path(), "other");
    let client = host.client();
    let request = control::UpgradeRequest {
        binary: other.clone(),
        bake_ms: Some(60_000),
        ready_timeout_ms: None,
        ..control::UpgradeRequest::default()
    };
    let first = tokio::spawn(async move { client.upgrade(&request, |_| {}).await });
    host.status_where("baking", |status| status.phase == "baking")
        .await;
    let second = host.upgrade(&other, &[]).await;
    assert_eq!(second.code, 6, "{}", second.output);
    let reason = second.reason();
    assert!(reason.contains("running since 20"), "{reason}");
    assert!(
        reason.contains("baking") && reason.contains("lb-other"),
        "{reason}"
    );
    let aborted = host.command(&["abort"]).await;
    assert_eq!(aborted.code, 0, "{}", aborted.output);
    let last = first.await.expect("joins").expect("a verdict");
    assert_eq!(last.verdict, Some(Verdict::RolledBack));
    assert!(last.reason.expect("a reason").contains("aborted"));
    let again = host.command(&["abort"]).await;
    assert_eq!(again.code, 1, "nothing left to abort: {}", again.output);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollback_returns_to_the_previous_version_and_a_restart_runs_what_is_committed() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.passing_load(40);
    let before = host.status().await.committed.expect("committed").sha256;
    let other = another_lb(host.path(), "other");
    assert_eq!(host.upgrade(&other, &["--bake", BAKE]).await.code, 0);
    let upgraded = host.status().await;
    assert_eq!(upgraded.previous.expect("previous").sha256, before);
    let rolled_back = host.command(&["rollback", "--json"]).await;
    assert_eq!(rolled_back.code, 0, "{}", rolled_back.output);
    assert_eq!(
        host.status().await.committed.expect("committed").sha256,
        before
    );
    assert_eq!(host.upgrade(&other, &["--bake", BAKE]).await.code, 0);
    let committed = host.status().await.committed;
    traffic.flows(50).await;
    traffic.finish_clean().await;
    assert_eq!(host.stop().await, Some(0));
    // The unit still names the first binary: what is committed runs.
    host.start().await;
    let status = host.status().await;
    assert_eq!(status.committed, committed);
    assert_eq!(
        status.generations[0].sha256,
        committed.expect("committed").sha256
    );
    let history = host.client().history().await.expect("history");
    // Generations that drained have lines of their own, whenever they were done.
    let kinds: Vec<&str> = history
        .iter()
        .map(|entry| entry.event.as_str())
        .filter(|kind| *kind != "drained")
        .collect();
    assert_eq!(kinds, ["upgrade", "rollback", "upgrade"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_goes_on_when_the_person_who_asked_leaves() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let other = another_lb(host.path(), "other");
    let client = host.client();
    let request = control::UpgradeRequest {
        binary: other,
        bake_ms: Some(500),
        ready_timeout_ms: None,
        ..control::UpgradeRequest::default()
    };
    let asking = tokio::spawn(async move { client.upgrade(&request, |_| {}).await });
    host.status_where("baking", |status| status.phase == "baking")
        .await;
    asking.abort();
    let client = host.client();
    wait::until("the commit", Duration::from_secs(10), || async {
        let history = client.history().await.expect("history");
        history
            .iter()
            .any(|entry| entry.verdict == Some(Verdict::Committed))
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_drained_process_burns_no_cpu_for_the_accepts_of_its_successor() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    // One connection keeps the incumbent alive after the commit.
    let held = site.long_lived_load(1);
    held.flows(2).await;
    let old = host.incumbent().await.pid;
    let other = another_lb(host.path(), "other");
    assert_eq!(
        host.upgrade(&other, &["--bake", BAKE, "--migrate", "never"])
            .await
            .code,
        0
    );
    let new = host.incumbent().await.pid;
    assert_ne!(old, new);
    let traffic = site.passing_load(60);
    traffic.flows(100).await;
    let cpu = || {
        (
            proc::cpu_ns(old).expect("drains"),
            proc::cpu_ns(new).expect("serves"),
        )
    };
    let before = cpu();
    traffic.flows(2000).await;
    let after = cpu();
    let (drained, serving) = (after.0 - before.0, after.1 - before.1);
    println!("2000 exchanges: drained process {drained} ns, serving process {serving} ns");
    // It relays one trickle (20 blocks a second) and nothing else.
    assert!(
        drained * 5 < serving,
        "the drained process burns {drained} ns against {serving} ns"
    );
    traffic.finish_clean().await;
    held.finish_clean().await;
}
