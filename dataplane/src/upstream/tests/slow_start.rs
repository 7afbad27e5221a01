//! Slow start: who begins with a tenth, how the shares grow, and that nothing is published without need.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{checked, eligible, specs};
use crate::balance::{Algorithm, Chooser};
use crate::health::{Ejection, ProbeOutcome};
use crate::upstream::{Upstream, UpstreamSettings};

/// One percent of weight each second, from 10 to 100.
const SLOW: Duration = Duration::from_secs(90);

fn slow(algorithm: Algorithm) -> UpstreamSettings {
    UpstreamSettings {
        algorithm,
        slow_start: Some(SLOW),
        ..checked()
    }
}

fn recover(upstream: &Upstream, id: &str, now: Instant) {
    upstream.probe_result(id, &ProbeOutcome::Failed("down".to_owned()), now);
    for _ in 0..2 {
        upstream.probe_result(id, &ProbeOutcome::Passed, now);
    }
}

/// Of 4000 clients, the share that the backend gets.
fn share(upstream: &Upstream, id: &str, keep: bool) -> f64 {
    let selection = upstream.selection();
    let mut chooser = Chooser::new(5);
    let (mut got, mut kept) = (0_u32, Vec::new());
    for number in 0..4000_u32 {
        let client = std::net::Ipv4Addr::from(0x0a00_0000 + number * 7919).into();
        let lease = chooser.choose(&selection, client, &[]).expect("a backend");
        got += u32::from(lease.backend().id() == id);
        if keep {
            kept.push(lease);
        }
    }
    f64::from(got) / 4000.0
}

#[test]
fn every_algorithm_gives_a_recovering_backend_its_growing_share() {
    for algorithm in Algorithm::ALL {
        let keep = matches!(
            algorithm,
            Algorithm::LeastConnections | Algorithm::RandomTwoChoices
        );
        let upstream = Upstream::new("app".to_owned(), slow(algorithm), specs(&["a", "b"]));
        let now = Instant::now();
        recover(&upstream, "a", now);
        for (seconds, percent) in [(0, 10.0), (30, 40.0), (60, 70.0), (90, 100.0)] {
            upstream.tick(now + Duration::from_secs(seconds));
            let (got, due) = (share(&upstream, "a", keep), percent / (100.0 + percent));
            assert!(
                (got - due).abs() < 0.03,
                "{algorithm:?} after {seconds} s: {got:.3}, due {due:.3}"
            );
        }
    }
}

#[test]
fn at_a_start_nobody_is_slow_and_who_joins_later_is() {
    let settings = || slow(Algorithm::RoundRobin);
    let upstream = Upstream::new("app".to_owned(), settings(), Vec::new());
    upstream.replace(settings(), specs(&["a", "b"]));
    assert_eq!(
        upstream.selection().weights(),
        [100, 100],
        "first discovered"
    );
    let mut joined = specs(&["a", "b", "c"]);
    joined[2].weight = 7;
    upstream.replace(settings(), joined.clone());
    assert_eq!(upstream.selection().weights(), [100, 100, 70]);
    joined[0].weight = 3;
    upstream.replace(settings(), joined.clone());
    assert_eq!(
        upstream.selection().weights(),
        [300, 100, 70],
        "a reload is no recovery"
    );
    let at_once = UpstreamSettings {
        slow_start: None,
        ..settings()
    };
    upstream.replace(at_once, joined);
    assert_eq!(upstream.selection().weights(), [300, 100, 700]);

    let upstream = Upstream::new("app".to_owned(), settings(), specs(&["a", "b"]));
    upstream.probe_result("a", &ProbeOutcome::Passed, Instant::now());
    upstream.tick(Instant::now());
    assert_eq!(upstream.selection().weights(), [100, 100], "configured");
}

#[test]
fn who_returns_from_an_ejection_is_slow_whatever_the_cause() {
    for by_answers in [false, true] {
        let settings = slow(Algorithm::RoundRobin);
        let upstream = Upstream::new("app".to_owned(), settings, specs(&["a", "b"]));
        let a = upstream.backends()[0].clone();
        let now = Instant::now();
        for _ in 0..5 {
            if by_answers {
                upstream.response_failed(&a, now);
            } else {
                upstream.connect_failed(&a, now);
            }
        }
        assert_eq!(eligible(&upstream), ["b"]);
        let back = now + Ejection::default().base;
        upstream.tick(back);
        assert_eq!(upstream.selection().weights(), [10, 100]);
        upstream.tick(back + SLOW / 2);
        assert_eq!(upstream.selection().weights(), [55, 100]);
    }
}

#[test]
fn a_selection_is_published_anew_only_when_a_weight_changed() {
    let settings = slow(Algorithm::Maglev);
    let upstream = Upstream::new("app".to_owned(), settings, specs(&["a", "b"]));
    let now = Instant::now();
    recover(&upstream, "a", now);
    let mut published = 0;
    for millis in (0..200_000).step_by(250) {
        let before = upstream.selection();
        upstream.tick(now + Duration::from_millis(millis));
        published += u32::from(!Arc::ptr_eq(&before, &upstream.selection()));
    }
    assert_eq!(
        published, 90,
        "once for each percent, and never after the end"
    );
}

#[test]
fn in_a_fail_open_nobody_is_held_back() {
    let settings = UpstreamSettings {
        panic_threshold_percent: 50,
        ..slow(Algorithm::RoundRobin)
    };
    let upstream = Upstream::new("app".to_owned(), settings, specs(&["a", "b", "c"]));
    let now = Instant::now();
    recover(&upstream, "a", now);
    for id in ["b", "c"] {
        upstream.probe_result(id, &ProbeOutcome::Failed("down".to_owned()), now);
    }
    assert!(
        upstream.selection().is_fail_open(),
        "a third is less than half"
    );
    assert_eq!(upstream.selection().weights(), [100, 100, 100]);
    let before = upstream.selection();
    upstream.tick(now + SLOW / 2);
    assert!(Arc::ptr_eq(&before, &upstream.selection()));
}
