//! What outlives a generation, or is missing without harm: ticket keys and the incumbent's state.

use std::time::Duration;

use control::Verdict;
use harness::host::Host;
use harness::successors::another_lb;
use harness::traffic::Site;
use harness::{proc, wait};
use rustix::process::Signal;
use tokio::sync::mpsc;

/// Longer than the supervisor waits for a state, on a busy machine.
const REMARK_DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incumbent_that_says_nothing_of_its_state_does_not_hold_the_upgrade_up() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let incumbent = host.incumbent().await.pid;
    proc::signal(incumbent, Signal::STOP);
    let (client, binary) = (host.client(), another_lb(host.path(), "other"));
    let request = control::UpgradeRequest {
        binary,
        bake_ms: Some(100),
        ready_timeout_ms: None,
        ..control::UpgradeRequest::default()
    };
    let (told, mut events) = mpsc::unbounded_channel();
    let asking = tokio::spawn(async move {
        let tell = |event: &control::Event| drop(told.send(event.clone()));
        client.upgrade(&request, tell).await
    });
    let remark = tokio::time::timeout(REMARK_DEADLINE, async {
        loop {
            let event = events.recv().await.expect("a remark before the end");
            if event.event == "remark" {
                return event;
            }
        }
    })
    .await
    .expect("a remark in time");
    // Its late answer is dropped, its pause is obeyed.
    proc::signal(incumbent, Signal::CONT);
    assert!(remark.message.contains("no answer within 2s"), "{remark:?}");
    assert_eq!(remark.phase, "sharing");
    let last = asking.await.expect("joins").expect("a verdict");
    assert_eq!(last.verdict, Some(Verdict::Committed), "{last:?}");
    let traffic = site.passing_load(20);
    traffic.flows(50).await;
    traffic.finish_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticket_keys_rotate_and_survive_the_supervisor_in_its_living_worker() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.set_supervisor_config("ticket_rotation = \"1s\"\n");
    host.start().await;
    logged(&host, "the ticket keys were rotated").await;
    host.kill_supervisor();
    host.start().await;
    logged(&host, "the ticket keys of a living worker are kept").await;
    let other = another_lb(host.path(), "other");
    let outcome = host.upgrade(&other, &["--bake", "100ms"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let remarks = outcome
        .events
        .iter()
        .filter(|event| event.event == "remark");
    assert_eq!(remarks.count(), 0, "{}", outcome.output);
    assert_eq!(host.stop().await, Some(0));
}

async fn logged(host: &Host, words: &str) {
    wait::until(words, Duration::from_secs(10), || async {
        host.log().contains(words).then_some(())
    })
    .await;
}
