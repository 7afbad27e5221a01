//! Death of any process: what it held itself may be lost, nothing else.

use std::time::Duration;

use bench::ledger::Class;
use harness::host::{Host, incumbent};
use harness::successors::another_lb;
use harness::traffic::Site;
use harness::{proc, wait};
use rustix::process::Signal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_of_the_worker_refuses_nobody_and_the_next_one_has_the_same_sockets() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let sockets = proc::listening_sockets(site.echo_port);
    assert_eq!(sockets, 16);
    let traffic = site.passing_load(60);
    traffic.flows(100).await;
    for round in 1..=3 {
        let victim = host.incumbent().await.pid;
        proc::signal(victim, Signal::KILL);
        let status = host
            .status_where("another worker serves", |status| {
                incumbent(status).is_some_and(|one| one.pid != victim && one.accepting)
            })
            .await;
        assert_eq!(status.crashes_total, round);
        assert_eq!(proc::listening_sockets(site.echo_port), sockets);
        traffic.flows(100).await;
    }
    let ledger = traffic.finish().await;
    println!("three kills: {:?}", ledger.connections);
    for class in [
        Class::Refused,
        Class::Hung,
        Class::WrongBytes,
        Class::ConnectTimedOut,
    ] {
        assert_eq!(ledger.count(class), 0, "{class:?}: {:#?}", ledger.examples);
    }
    assert_eq!(ledger.unaccounted(), 0);
    // At most what the dead workers held: never more than the load has connections, three times.
    assert!(ledger.losses() <= 3 * 60, "{}", ledger.losses());
    let history = host.client().history().await.expect("history");
    let crashes = history
        .iter()
        .filter(|entry| entry.event == "crash")
        .count();
    assert_eq!(crashes, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_loop_slows_down_and_an_upgrade_is_its_cure() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    // The committed version begins to die: its configuration vanished.
    let config = std::fs::read_to_string(host.config_path()).expect("read");
    std::fs::write(host.config_path(), "nonsense = 1\n").expect("written");
    proc::signal(host.incumbent().await.pid, Signal::KILL);
    host.status_where("a crash loop", |status| status.crashes_total >= 3)
        .await;
    assert_eq!(
        proc::listening_sockets(site.echo_port),
        16,
        "clients wait, they are not refused"
    );
    std::fs::write(host.config_path(), config).expect("written");
    let other = another_lb(host.path(), "other");
    let outcome = host.upgrade(&other, &["--bake", "100ms"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let traffic = site.passing_load(20);
    traffic.flows(50).await;
    traffic.finish_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_of_the_supervisor_is_not_noticed_and_the_next_one_takes_the_living_worker() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.load(80);
    traffic.flows(100).await;
    let before = host.incumbent().await;
    host.kill_supervisor();
    traffic.flows(200).await;
    host.start().await;
    let after = host.incumbent().await;
    assert_eq!(
        (after.pid, after.generation),
        (before.pid, before.generation),
        "the same worker"
    );
    assert_eq!(proc::listening_sockets(site.echo_port), 16);
    // The new supervisor holds the listeners, too: an upgrade and a crash work as before.
    let other = another_lb(host.path(), "other");
    let outcome = host.upgrade(&other, &["--bake", "200ms"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    traffic.flows(100).await;
    traffic.finish_clean().await;
    let worker = host.incumbent().await.pid;
    proc::signal(worker, Signal::KILL);
    host.status_where("restarted", |status| {
        incumbent(status).is_some_and(|one| one.pid != worker && one.accepting)
    })
    .await;
    assert_eq!(host.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_of_the_supervisor_in_the_middle_of_a_bake_returns_to_the_incumbent() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.passing_load(40);
    traffic.flows(100).await;
    let before = host.incumbent().await;
    let other = another_lb(host.path(), "other");
    let client = host.client();
    let request = control::UpgradeRequest {
        binary: other,
        bake_ms: Some(60_000),
        ready_timeout_ms: None,
        ..control::UpgradeRequest::default()
    };
    let asking = tokio::spawn(async move { client.upgrade(&request, |_| {}).await });
    host.status_where("baking", |status| status.phase == "baking")
        .await;
    host.kill_supervisor();
    assert!(
        asking.await.expect("joins").is_err(),
        "no verdict was given"
    );
    traffic.flows(100).await;
    host.start().await;
    let after = host.incumbent().await;
    assert_eq!(
        (after.pid, after.generation),
        (before.pid, before.generation)
    );
    host.status_where("the successor left", |status| status.generations.len() == 1)
        .await;
    traffic.flows(100).await;
    traffic.finish_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incumbent_that_hangs_is_no_reason_to_serve_nobody() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let hung = host.incumbent().await.pid;
    proc::signal(hung, Signal::STOP);
    let other = another_lb(host.path(), "other");
    let outcome = host.upgrade(&other, &["--bake", "100ms"]).await;
    assert_eq!(
        outcome.code, 4,
        "it could not be parked: {}",
        outcome.output
    );
    let status = host.serving().await;
    let serving = incumbent(&status).expect("serves");
    assert_ne!(serving.pid, hung, "the committed version was started anew");
    wait::until("the hung one is gone", Duration::from_secs(10), || async {
        (!proc::is_alive(hung)).then_some(())
    })
    .await;
    let traffic = site.passing_load(20);
    traffic.flows(50).await;
    traffic.finish_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_supervisors_of_one_name_cannot_run_and_the_lock_dies_with_its_owner() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let state = host.path().join("state").display().to_string();
    let config = host.config_path().display().to_string();
    let lb = harness::binaries::find("lb").display().to_string();
    let runtime = host.path().join("run").display().to_string();
    let second = tokio::process::Command::new(harness::binaries::find("supervisor"))
        .args([
            "run",
            "--name",
            "load-balancer",
            "--binary",
            &lb,
            "--state-dir",
            &state,
        ])
        .args(["--runtime-dir", &runtime, "--", "run", "--config", &config])
        .output()
        .await
        .expect("runs");
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("already runs"), "{said}");
    host.serving().await;
    host.kill_supervisor();
    host.start().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_to_the_worker_from_elsewhere_loses_nothing_and_a_replacement_serves() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.load(60);
    traffic.flows(100).await;
    let asked = host.incumbent().await;
    proc::signal(asked.pid, Signal::TERM);
    host.status_where("a replacement serves", |status| {
        incumbent(status).is_some_and(|one| one.generation > asked.generation && one.accepting)
    })
    .await;
    traffic.flows(100).await;
    traffic.finish_clean().await;
    host.status_where("the one that was asked left", |status| {
        status.generations.len() == 1
    })
    .await;
    assert_eq!(host.status().await.crashes_total, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_in_the_middle_of_a_bake_gives_a_verdict_and_the_former_version_stays_committed() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let committed = host.status().await.committed;
    let client = host.client();
    let request = control::UpgradeRequest {
        binary: another_lb(host.path(), "other"),
        bake_ms: Some(60_000),
        ready_timeout_ms: None,
        ..control::UpgradeRequest::default()
    };
    let asking = tokio::spawn(async move { client.upgrade(&request, |_| {}).await });
    host.status_where("baking", |status| status.phase == "baking")
        .await;
    assert_eq!(host.stop().await, Some(0));
    let last = asking.await.expect("joins").expect("a verdict");
    assert_eq!(last.verdict, Some(control::Verdict::RolledBack));
    host.start().await;
    assert_eq!(host.status().await.committed, committed);
}
