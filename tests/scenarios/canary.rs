//! A canary on one host: the successor gets the share of connections that was asked for, up, down and back.

use std::collections::BTreeMap;

use control::{CanaryStatus, Event};
use harness::host::{Host, incumbent};
use harness::successors::another_lb;
use harness::traffic::Site;

/// The last numbers of each step.
fn steps(events: &[Event]) -> BTreeMap<u8, CanaryStatus> {
    let told = events.iter().filter(|event| event.event == "progress");
    told.filter_map(|event| event.canary.clone())
        .map(|canary| (canary.percent, canary))
        .collect()
}

/// Within five points of what was asked, over ten thousand connections and more.
fn assert_shares(events: &[Event]) -> Vec<String> {
    let steps = steps(events);
    let (mut seen, mut all) = (0, Vec::new());
    for (percent, sockets) in [(10, 4), (50, 16), (100, 32)] {
        let step = steps.get(&percent).expect("the step was told");
        // Two listeners of 16 sockets each.
        assert_eq!((step.sockets, step.of), (sockets, 32), "{percent} %");
        let share = 100.0 * step.accepted as f64 / step.accepted_by_both.max(1) as f64;
        let told = format!(
            "asked {percent} %: {} of {} sockets, {} of {} connections: {share:.1} %",
            step.sockets, step.of, step.accepted, step.accepted_by_both
        );
        assert!((share - f64::from(percent)).abs() <= 5.0, "{told}");
        all.push(told);
        seen += step.accepted_by_both;
    }
    assert!(seen >= 10_000, "only {seen} connections were seen");
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_step_gets_its_share_and_nothing_is_lost_up_down_and_back() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.rapid_load(40);
    let held = site.long_lived_load(10);
    traffic.flows(200).await;
    let next = another_lb(host.path(), "next");
    let outcome = host
        .upgrade(
            &next,
            &["--canary", "10,50", "--step", "9s", "--bake", "2s"],
        )
        .await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    println!("{}", assert_shares(&outcome.events).join("\n"));

    // Down again: a person ends the next one at half.
    let incumbent_before = host.serving().await;
    let other = another_lb(host.path(), "other");
    let client = host.client();
    let aborting = async {
        host.status_where("half", |status| {
            let canary = status.upgrade.as_ref().and_then(|one| one.canary.clone());
            canary.is_some_and(|canary| canary.percent == 50 && canary.accepted > 50)
        })
        .await;
        client.ask("abort").await.expect("aborts")
    };
    let args = [
        "upgrade",
        "--json",
        "--binary",
        &other.display().to_string(),
        "--canary",
        "10,50",
        "--step",
        "3s",
    ]
    .map(str::to_owned);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (outcome, answer) = tokio::join!(host.command(&args), aborting);
    assert!(answer.ok);
    assert_eq!(outcome.code, 4, "{}", outcome.output);
    let back = outcome.events.last().and_then(|event| event.restored_ms);
    println!("back after {back:?} ms");
    assert!(back.is_some_and(|ms| ms < 1000.0), "{back:?}");
    let now = host.serving().await;
    assert_eq!(
        incumbent(&now).map(|one| one.pid),
        incumbent(&incumbent_before).map(|one| one.pid)
    );
    traffic.flows(200).await;
    // And back: the same one goes through.
    let outcome = host
        .upgrade(&other, &["--canary", "50", "--step", "1s", "--bake", "1s"])
        .await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    traffic.finish_clean().await;
    held.finish_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_that_are_none_are_refused_before_anything_happens() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let next = another_lb(host.path(), "next");
    for wrong in ["50,10", "0", "100", "10,10"] {
        let outcome = host.upgrade(&next, &["--canary", wrong]).await;
        assert_eq!(outcome.code, 7, "{wrong}: {}", outcome.output);
        assert!(outcome.reason().contains("rising percentages"), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incumbent_that_dies_in_a_canary_is_replaced_and_nobody_is_refused() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.passing_load(40);
    traffic.flows(100).await;
    let next = another_lb(host.path(), "next").display().to_string();
    let victim = host.incumbent().await.pid;
    let killing = async {
        host.status_where("the canary", |status| status.phase == "canary")
            .await;
        harness::proc::signal(victim, rustix::process::Signal::KILL);
    };
    let args = [
        "upgrade", "--json", "--binary", &next, "--canary", "20", "--step", "30s",
    ];
    let (outcome, ()) = tokio::join!(host.command(&args), killing);
    assert_eq!(outcome.code, 4, "{}", outcome.output);
    assert!(
        outcome.reason().contains("the incumbent died"),
        "{}",
        outcome.reason()
    );
    traffic.flows(100).await;
    let ledger = traffic.finish().await;
    for class in [bench::ledger::Class::Refused, bench::ledger::Class::Hung] {
        assert_eq!(ledger.count(class), 0, "{class:?}: {:#?}", ledger.examples);
    }
    assert_eq!(ledger.unaccounted(), 0);
    assert!(ledger.losses() <= 40, "{}", ledger.losses());
}
