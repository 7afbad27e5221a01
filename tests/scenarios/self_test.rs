//! What a successor shows before any client reaches it, and what it never gets the chance to show them.

use harness::edge::Site as EdgeSite;
use harness::host::{Host, Outcome};
use harness::successors::{another_edge, another_lb, impostor, impostor_of};
use harness::traffic::Site;

/// The upgrade ended before the successor accepted anything.
fn assert_found_before_clients(outcome: &Outcome, reason: &str) {
    assert_eq!(outcome.code, 4, "{}", outcome.output);
    assert!(outcome.reason().contains(reason), "{}", outcome.reason());
    let accepted = outcome
        .events
        .iter()
        .any(|event| event.event == "accepting");
    assert!(!accepted, "{}", outcome.output);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_whose_backends_do_not_answer_gets_no_client() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.passing_load(20);
    traffic.flows(50).await;
    let config = site
        .config("")
        .replace("backends = [", "backends = [\"127.0.0.1:1\"] #");
    let path = host.path().join("nowhere.toml");
    std::fs::write(&path, config).expect("written");
    let run = format!("exec \"$REAL\" run --config {}", path.display());
    let bad = impostor(host.path(), "nowhere", &run);
    let outcome = host.upgrade(&bad, &["--bake", "30s"]).await;
    assert_found_before_clients(&outcome, "self-test of echo: ");
    let good = another_lb(host.path(), "good");
    let outcome = host.upgrade(&good, &["--bake", "200ms"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let tested = outcome
        .events
        .iter()
        .find(|event| event.event == "self-tested");
    // Two listeners and the admin's health.
    assert!(
        tested.is_some_and(|event| event.message.starts_with("3 tries")),
        "{}",
        outcome.output
    );
    traffic.finish_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_down_for_both_does_not_stop_the_upgrade() {
    let mut site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    for _ in 0..2 {
        site.lose_an_echo_origin().await;
    }
    let good = another_lb(host.path(), "good");
    let outcome = host.upgrade(&good, &["--bake", "200ms"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let remark = outcome.events.iter().find(|event| event.event == "remark");
    assert!(
        remark.is_some_and(|event| event.message.contains("so does the incumbent")),
        "{}",
        outcome.output
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_certificate_is_never_shown_to_a_client() {
    let site = EdgeSite::start();
    let (_ports, config) = site.config_on_own_ports("", "");
    let mut host = Host::with_edge(&config);
    host.start().await;
    site.authority.issue_for(&["other.example"], "wrong", 2);
    let wrong = config
        .replace("server.crt", "wrong.crt")
        .replace("server.key", "wrong.key");
    let path = host.path().join("wrong.toml");
    std::fs::write(&path, wrong).expect("written");
    let run = format!("exec \"$REAL\" run --config {}", path.display());
    let bad = impostor_of("edge", host.path(), "wrong", &run);
    let outcome = host.upgrade(&bad, &["--bake", "30s"]).await;
    assert_found_before_clients(
        &outcome,
        "self-test of https for localhost: the TLS handshake fails",
    );
    let good = another_edge(host.path(), "good");
    let outcome = host.upgrade(&good, &["--bake", "200ms"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let tested = outcome
        .events
        .iter()
        .any(|event| event.event == "self-tested");
    assert!(tested, "{}", outcome.output);
}
