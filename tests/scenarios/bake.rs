//! The verdict of a bake: numbers decide, what is unclear asks a person, and the incumbent is back in milliseconds.

use bench::origin::{Kind, Origin};
use harness::host::{Host, incumbent};
use harness::successors::{another_lb, impostor};
use harness::traffic::Site;

/// A successor that runs the real program with another configuration: it does its work badly, not falsely.
fn misled(host: &Host, name: &str, config: &str) -> std::path::PathBuf {
    let path = host.path().join(format!("{name}.toml"));
    std::fs::write(&path, config).expect("written");
    let run = format!("exec \"$LB\" run --config {}", path.display());
    impostor(host.path(), name, &run)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_the_successor_bring_the_incumbent_back_with_the_numbers() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    // It would find them before any client does.
    host.set_supervisor_config("self_test = false\n");
    host.start().await;
    let traffic = site.rapid_load(20);
    traffic.flows(300).await;
    let before = host.incumbent().await;
    // Nobody listens at port 1.
    let config = site
        .config("")
        .replace("backends = [", "backends = [\"127.0.0.1:1\"] #");
    let bad = misled(&host, "errors", &config);
    let outcome = host.upgrade(&bad, &["--bake", "60s"]).await;
    assert_eq!(outcome.code, 4, "{}", outcome.output);
    let reason = outcome.reason();
    assert!(
        reason.contains("error rate") && reason.contains("the incumbent: 0.0 %"),
        "{reason}"
    );
    let last = outcome.events.last().expect("a verdict");
    let back = last.restored_ms.expect("the incumbent came back");
    println!("{reason}; back after {back:.1} ms");
    assert!(back < 1000.0, "{back}");
    let now = host.serving().await;
    assert_eq!(incumbent(&now).map(|one| one.pid), Some(before.pid));
    let history = host.client().history().await.expect("history");
    let entry = history.iter().rfind(|entry| entry.event == "upgrade");
    assert!(
        entry.is_some_and(|entry| entry.restored_ms.is_some()),
        "{history:?}"
    );
    // The successor's own connections failed: that is what was found. Nobody was refused or left hanging.
    let ledger = traffic.finish().await;
    for class in [bench::ledger::Class::Refused, bench::ledger::Class::Hung] {
        assert_eq!(ledger.count(class), 0, "{class:?}: {:#?}", ledger.examples);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_inconclusive_pauses_and_a_person_decides() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.set_supervisor_config("bake = \"500ms\"\n[thresholds]\nrequire_requests = 1000000\n");
    host.start().await;
    let traffic = site.passing_load(20);
    traffic.flows(50).await;
    let before = host.incumbent().await.pid;
    let next = another_lb(host.path(), "next");
    let outcome = host.upgrade(&next, &[]).await;
    assert_eq!(outcome.code, 3, "{}", outcome.output);
    assert!(
        outcome.reason().contains("are required for a verdict"),
        "{}",
        outcome.reason()
    );
    let status = host.status().await;
    assert_eq!(status.phase, "paused");
    assert!(
        status
            .upgrade
            .is_some_and(|upgrade| upgrade.paused.is_some())
    );
    // Nothing else may begin, and the reason is told.
    let busy = host.upgrade(&next, &[]).await;
    assert_eq!(busy.code, 6, "{}", busy.output);
    let aborted = host.command(&["abort"]).await;
    assert_eq!(aborted.code, 0, "{}", aborted.output);
    let now = host.serving().await;
    assert_eq!(incumbent(&now).map(|one| one.pid), Some(before));

    let outcome = host.upgrade(&next, &[]).await;
    assert_eq!(outcome.code, 3, "{}", outcome.output);
    let resumed = host.command(&["resume", "--json"]).await;
    assert_eq!(resumed.code, 0, "{}", resumed.output);
    let now = host.serving().await;
    assert_ne!(incumbent(&now).map(|one| one.pid), Some(before));
    let nothing = host.command(&["resume"]).await;
    assert_eq!(nothing.code, 7, "{}", nothing.output);
    traffic.finish_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_upgrade_that_nobody_looks_at_returns_to_the_incumbent() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.set_supervisor_config(
        "bake = \"100ms\"\npause_timeout = \"1s\"\n[thresholds]\nrequire_requests = 1000000\n",
    );
    host.start().await;
    let before = host.incumbent().await.pid;
    let next = another_lb(host.path(), "next");
    let outcome = host.upgrade(&next, &[]).await;
    assert_eq!(outcome.code, 3, "{}", outcome.output);
    let now = host.serving().await;
    assert_eq!(incumbent(&now).map(|one| one.pid), Some(before));
    let history = host.client().history().await.expect("history");
    let reason = history.iter().rev().find_map(|entry| entry.reason.clone());
    assert!(
        reason.is_some_and(|reason| reason.contains("nobody decided")),
        "{history:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_without_a_healthy_backend_does_not_stay() {
    let site = Site::start();
    let healthy =
        "[upstream.echo.health_check]\nkind = \"tcp\"\ninterval = \"200ms\"\ntimeout = \"100ms\"\n";
    let mut host = Host::with_lb(&site.config(healthy));
    host.set_supervisor_config("self_test = false\n");
    host.start().await;
    let before = host.incumbent().await.pid;
    let none = Origin::start(Kind::Echo, "127.0.0.1:0".parse().expect("an address"));
    let gone = none.expect("starts");
    let address = gone.address();
    gone.stop().await;
    let config = site
        .config(healthy)
        .replace("backends = [", &format!("backends = [\"{address}\"] #"));
    let config = format!(
        "{config}[upstream.http.health_check]\nkind = \"tcp\"\ninterval = \"200ms\"\ntimeout = \"100ms\"\n"
    );
    let bad = misled(&host, "alone", &config);
    let outcome = host.upgrade(&bad, &["--bake", "1s"]).await;
    assert_eq!(outcome.code, 4, "{}", outcome.output);
    assert!(
        outcome.reason().contains("unhealthy"),
        "{}",
        outcome.reason()
    );
    let now = host.serving().await;
    assert_eq!(incumbent(&now).map(|one| one.pid), Some(before));
}
