//! What a reload keeps, what ejection may not do, and fail open.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{BackendSpec, Upstream, UpstreamSettings};
use crate::balance::Chooser;
use crate::health::{HealthCheck, ProbeOutcome};

mod responses;
mod simulation;
mod slow_start;

fn specs(names: &[&str]) -> Vec<BackendSpec> {
    names
        .iter()
        .map(|name| BackendSpec {
            id: Some((*name).to_owned()),
            label: "127.0.0.1:9".to_owned(),
            weight: 1,
            max_connections: None,
            drain: false,
        })
        .collect()
}

fn checked() -> UpstreamSettings {
    UpstreamSettings {
        health_check: Some(HealthCheck::default()),
        ..UpstreamSettings::default()
    }
}

fn eligible(upstream: &Upstream) -> Vec<String> {
    let selection = upstream.selection();
    selection
        .eligible()
        .iter()
        .map(|backend| backend.id().to_owned())
        .collect()
}

#[test]
fn a_reload_keeps_what_is_unchanged_and_a_removed_backend_lives_by_its_leases() {
    let upstream = Upstream::new("app".to_owned(), checked(), specs(&["a", "b", "c"]));
    let now = Instant::now();
    upstream.probe_result("a", &ProbeOutcome::Failed("down".to_owned()), now);
    let mut chooser = Chooser::new(1);
    let client = "10.0.0.1".parse().expect("an address");
    let lease = chooser
        .choose(&upstream.selection(), client, &[])
        .expect("a backend");
    let chosen = lease.backend().id().to_owned();
    let kept: Vec<&str> = ["a", "b", "c"]
        .into_iter()
        .filter(|name| *name != chosen)
        .collect();
    upstream.replace(checked(), specs(&kept));
    assert_eq!(
        lease.backend().active(),
        1,
        "the removed backend keeps its connection"
    );
    assert!(
        !eligible(&upstream).contains(&"a".to_owned()),
        "health is remembered"
    );
    assert_eq!(eligible(&upstream).len(), 1);
    assert!(!eligible(&upstream).contains(&chosen));
}

#[test]
fn drain_takes_no_new_connections_and_can_be_undone() {
    let upstream = Upstream::new(
        "app".to_owned(),
        UpstreamSettings::default(),
        specs(&["a", "b"]),
    );
    assert!(upstream.drain("a", true));
    assert_eq!(eligible(&upstream), ["b"]);
    assert!(upstream.drain("b", true));
    assert!(
        eligible(&upstream).is_empty(),
        "draining is not failing: no fail open"
    );
    assert!(!upstream.selection().is_fail_open());
    assert!(upstream.drain("a", false));
    assert_eq!(eligible(&upstream), ["a"]);
    assert!(!upstream.drain("nobody", true));
}

#[test]
fn when_every_check_fails_all_are_tried() {
    let upstream = Upstream::new("app".to_owned(), checked(), specs(&["a", "b"]));
    for name in ["a", "b"] {
        upstream.probe_result(
            name,
            &ProbeOutcome::Failed("down".to_owned()),
            Instant::now(),
        );
    }
    assert!(upstream.selection().is_fail_open());
    assert_eq!(eligible(&upstream), ["a", "b"]);
}

#[test]
fn ejection_never_takes_more_than_its_share_and_ends() {
    let upstream = Upstream::new(
        "app".to_owned(),
        UpstreamSettings::default(),
        specs(&["a", "b", "c", "d"]),
    );
    let now = Instant::now();
    for backend in upstream.backends() {
        for _ in 0..5 {
            upstream.connect_failed(&backend, now);
        }
    }
    assert_eq!(eligible(&upstream), ["c", "d"], "half of four");
    upstream.tick(now + Duration::from_secs(1));
    assert_eq!(eligible(&upstream).len(), 2);
    let later = now + Duration::from_secs(11);
    upstream.tick(later);
    assert_eq!(eligible(&upstream).len(), 4);
}

#[test]
fn a_passed_check_ends_an_ejection() {
    let upstream = Upstream::new("app".to_owned(), checked(), specs(&["a", "b"]));
    let now = Instant::now();
    upstream.probe_result("a", &ProbeOutcome::Failed("down".to_owned()), now);
    let backends = upstream.backends();
    let a: &Arc<_> = &backends[0];
    for _ in 0..3 {
        upstream.connect_failed(a, now);
    }
    for _ in 0..2 {
        upstream.probe_result("a", &ProbeOutcome::Passed, now);
    }
    assert_eq!(eligible(&upstream), ["a", "b"]);
}

fn spec(id: &str, label: &str) -> BackendSpec {
    BackendSpec {
        label: label.to_owned(),
        ..specs(&[id])[0].clone()
    }
}

#[test]
fn a_reload_changes_weight_and_limit_of_a_backend_that_stays() {
    let upstream = Upstream::new("app".to_owned(), checked(), specs(&["a"]));
    let a = upstream.backends()[0].clone();
    let lease = a.try_acquire().expect("a place");
    upstream.probe_result(
        "a",
        &ProbeOutcome::Failed("down".to_owned()),
        Instant::now(),
    );
    let before = upstream.selection();
    let heavier = BackendSpec {
        weight: 7,
        max_connections: Some(1),
        ..spec("a", "127.0.0.1:9")
    };
    upstream.replace(checked(), vec![heavier]);
    assert!(Arc::ptr_eq(&a, &upstream.backends()[0]), "the same value");
    assert!(
        !Arc::ptr_eq(&before, &upstream.selection()),
        "shards see the new weights"
    );
    assert_eq!(
        (a.weight(), a.max_connections(), a.active()),
        (7, Some(1), 1)
    );
    assert!(!a.is_healthy(Instant::now()), "its health is remembered");
    assert!(
        a.try_acquire().is_none(),
        "connections from before the reload count"
    );
    drop(lease);
    assert!(a.try_acquire().is_some());
}

#[test]
fn a_backend_whose_address_changes_under_its_id_begins_anew() {
    let upstream = Upstream::new("app".to_owned(), checked(), vec![spec("a", "127.0.0.1:9")]);
    upstream.probe_result(
        "a",
        &ProbeOutcome::Failed("down".to_owned()),
        Instant::now(),
    );
    upstream.replace(checked(), vec![spec("a", "127.0.0.2:9")]);
    assert_eq!(upstream.backends()[0].status(Instant::now()), "unchecked");
    assert!(!upstream.selection().is_fail_open());
}

#[test]
fn a_persons_drain_survives_reloads_until_the_configuration_itself_changes_its_word() {
    let settings = UpstreamSettings::default;
    let upstream = Upstream::new("app".to_owned(), settings(), specs(&["a", "b"]));
    upstream.drain("a", true);
    upstream.replace(settings(), specs(&["a", "b", "c"]));
    assert_eq!(eligible(&upstream), ["b", "c"], "an unrelated change");
    let a = spec("a", "127.0.0.1:9");
    let draining = BackendSpec {
        drain: true,
        ..spec("b", "127.0.0.1:9")
    };
    upstream.replace(settings(), vec![a.clone(), draining.clone()]);
    assert!(eligible(&upstream).is_empty());
    upstream.drain("b", false);
    upstream.replace(settings(), vec![a, draining]);
    assert_eq!(
        eligible(&upstream),
        ["b"],
        "the person was not contradicted since"
    );
    upstream.drain("b", true);
    upstream.replace(settings(), specs(&["a", "b"]));
    assert_eq!(
        eligible(&upstream),
        ["b"],
        "the configuration ended its drain"
    );
}

#[test]
fn without_a_health_check_its_last_word_is_forgotten() {
    let upstream = Upstream::new("app".to_owned(), checked(), specs(&["a", "b"]));
    upstream.probe_result(
        "a",
        &ProbeOutcome::Failed("down".to_owned()),
        Instant::now(),
    );
    assert_eq!(eligible(&upstream), ["b"]);
    upstream.replace(UpstreamSettings::default(), specs(&["a", "b"]));
    assert_eq!(eligible(&upstream), ["a", "b"]);
    // An answer that was under way counts no more.
    upstream.probe_result(
        "a",
        &ProbeOutcome::Failed("down".to_owned()),
        Instant::now(),
    );
    assert_eq!(eligible(&upstream), ["a", "b"]);
}

#[test]
fn the_only_backend_is_never_ejected() {
    let upstream = Upstream::new("app".to_owned(), UpstreamSettings::default(), specs(&["a"]));
    let only = upstream.backends()[0].clone();
    for _ in 0..50 {
        upstream.connect_failed(&only, Instant::now());
    }
    assert_eq!(eligible(&upstream), ["a"]);
    assert!(!upstream.selection().is_fail_open());
    assert_eq!(only.connect_failures_total(), 50);
}

#[test]
fn a_flapping_backend_is_ejected_for_longer_each_time_and_recovers_by_connecting() {
    let upstream = Upstream::new(
        "app".to_owned(),
        UpstreamSettings::default(),
        specs(&["a", "b"]),
    );
    let flapping = upstream.backends()[0].clone();
    let mut now = Instant::now();
    let mut ejection = || {
        for _ in 0..3 {
            upstream.connect_failed(&flapping, now);
        }
        let begin = now;
        while eligible(&upstream).len() == 1 {
            now += Duration::from_secs(1);
            upstream.tick(now);
        }
        (now - begin).as_secs()
    };
    assert_eq!([ejection(), ejection(), ejection()], [10, 20, 30]);
    // One success takes back one step only, so that flapping stays costly.
    upstream.connect_succeeded(&flapping, Instant::now());
    assert_eq!(ejection(), 30);
    for _ in 0..10 {
        upstream.connect_succeeded(&flapping, Instant::now());
    }
    assert_eq!(ejection(), 10);
}

#[test]
fn limits_hold_when_many_threads_choose_at_once() {
    let mut limited = specs(&["a", "b"]);
    limited
        .iter_mut()
        .for_each(|spec| spec.max_connections = Some(5));
    let upstream = Upstream::new("app".to_owned(), UpstreamSettings::default(), limited);
    let client = "10.0.0.1".parse().expect("an address");
    let hold_what_there_is = |seed| {
        let mut chooser = Chooser::new(seed);
        for _ in 0..2000 {
            let held: Vec<_> = (0..3)
                .filter_map(|_| chooser.choose(&upstream.selection(), client, &[]))
                .collect();
            assert!(
                upstream
                    .backends()
                    .iter()
                    .all(|backend| backend.active() <= 5),
                "{}",
                held.len()
            );
        }
        (0..10)
            .filter_map(|_| chooser.choose(&upstream.selection(), client, &[]))
            .collect::<Vec<_>>()
    };
    let held = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|seed| scope.spawn(move || hold_what_there_is(seed)))
            .collect();
        let held: Vec<_> = threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("no panic"))
            .collect();
        held
    });
    assert_eq!(held.len(), 10, "all places and no more");
    drop(held);
    assert!(
        upstream
            .backends()
            .iter()
            .all(|backend| backend.active() == 0),
        "every place came back"
    );
}
