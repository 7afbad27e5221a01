//! Ejection by answers, and the panic threshold as a table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{checked, eligible, specs};
use crate::health::{Ejection, ProbeOutcome};
use crate::upstream::{Upstream, UpstreamSettings};

const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

fn upstream(names: &[&str]) -> Arc<Upstream> {
    Upstream::new("app".to_owned(), UpstreamSettings::default(), specs(names))
}

#[test]
fn five_bad_answers_in_a_row_eject_and_a_good_one_interrupts() {
    let upstream = upstream(&["a", "b"]);
    let a = upstream.backends()[0].clone();
    let now = Instant::now();
    for _ in 0..20 {
        (0..4).for_each(|_| upstream.response_failed(&a, now));
        upstream.response_succeeded(&a);
    }
    assert_eq!(eligible(&upstream), ["a", "b"]);
    (0..5).for_each(|_| upstream.response_failed(&a, now));
    assert_eq!(eligible(&upstream), ["b"]);
    assert_eq!(a.status(now), "ejected");
    assert_eq!((a.requests_total(), a.response_failures_total()), (105, 85));
    assert_eq!(a.connect_failures_total(), 0);
}

#[test]
fn zero_switches_it_off() {
    let settings = UpstreamSettings {
        ejection: Ejection {
            response_failures: 0,
            ..Ejection::default()
        },
        ..UpstreamSettings::default()
    };
    let upstream = Upstream::new("app".to_owned(), settings, specs(&["a", "b"]));
    let a = upstream.backends()[0].clone();
    (0..1000).for_each(|_| upstream.response_failed(&a, Instant::now()));
    assert_eq!(eligible(&upstream), ["a", "b"]);
}

#[test]
fn one_that_connects_and_answers_with_errors_is_ejected_for_longer_each_time() {
    let upstream = upstream(&["a", "b"]);
    let a = upstream.backends()[0].clone();
    let mut now = Instant::now();
    let mut ejection = || {
        for _ in 0..5 {
            upstream.connect_succeeded(&a, now);
            upstream.response_failed(&a, now);
        }
        let begin = now;
        while eligible(&upstream).len() == 1 {
            now += Duration::from_secs(1);
            upstream.tick(now);
        }
        (now - begin).as_secs()
    };
    assert_eq!([ejection(), ejection(), ejection()], [10, 20, 30]);
}

#[test]
fn requests_that_fail_during_the_ejection_do_not_shorten_the_next_chance() {
    let upstream = upstream(&["a", "b"]);
    let a = upstream.backends()[0].clone();
    let now = Instant::now();
    (0..9).for_each(|_| upstream.response_failed(&a, now));
    let back = now + Duration::from_secs(10);
    upstream.tick(back);
    (0..4).for_each(|_| upstream.response_failed(&a, back));
    assert_eq!(eligible(&upstream), ["a", "b"], "four after its return");
    upstream.response_failed(&a, back);
    assert_eq!(eligible(&upstream), ["b"]);
}

#[test]
fn both_causes_share_one_cap_and_at_the_cap_nothing_is_published() {
    let upstream = upstream(&["a", "b", "c", "d"]);
    let backends = upstream.backends();
    let now = Instant::now();
    (0..3).for_each(|_| upstream.connect_failed(&backends[0], now));
    (0..5).for_each(|_| upstream.response_failed(&backends[1], now));
    assert_eq!(eligible(&upstream), ["c", "d"]);
    let before = upstream.selection();
    for backend in &backends {
        (0..1000).for_each(|_| upstream.response_failed(backend, now));
        (0..1000).for_each(|_| upstream.connect_failed(backend, now));
    }
    assert!(Arc::ptr_eq(&before, &upstream.selection()));
}

/// Threshold, backends, drained, failed of the others; whether all are used.
#[test]
fn the_panic_threshold_as_a_table() {
    let table = [
        (0, 10, 0, 9, false),
        (0, 10, 0, 10, true),
        (50, 10, 0, 5, false),
        (50, 10, 0, 6, true),
        (50, 3, 0, 1, false),
        (50, 3, 0, 2, true),
        (50, 10, 6, 2, false),
        (50, 10, 6, 3, true),
        (50, 10, 10, 0, false),
        (100, 10, 0, 0, false),
        (100, 10, 0, 1, true),
        (1, 1, 0, 0, false),
        (1, 1, 0, 1, true),
    ];
    for row in table {
        let (threshold, all, drained, failed, open) = row;
        let settings = UpstreamSettings {
            panic_threshold_percent: threshold,
            ..checked()
        };
        let upstream = Upstream::new("app".to_owned(), settings, specs(&NAMES[..all]));
        NAMES[..drained].iter().for_each(|id| {
            upstream.drain(id, true);
        });
        for id in &NAMES[drained..drained + failed] {
            let outcome = ProbeOutcome::Failed("down".to_owned());
            upstream.probe_result(id, &outcome, Instant::now());
        }
        assert_eq!(upstream.selection().is_fail_open(), open, "{row:?}");
        let willing = all - drained;
        let used = if open { willing } else { willing - failed };
        assert_eq!(eligible(&upstream).len(), used, "{row:?}");
    }
}
