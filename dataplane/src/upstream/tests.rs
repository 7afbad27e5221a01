//! What a reload keeps, what ejection may not do, and fail open.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{BackendSpec, Upstream, UpstreamSettings};
use crate::balance::Chooser;
use crate::health::{HealthCheck, ProbeOutcome};

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
    selection.eligible().iter().map(|backend| backend.id().to_owned()).collect()
}

#[test]
fn a_reload_keeps_what_is_unchanged_and_a_removed_backend_lives_by_its_leases() {
    let upstream = Upstream::new("app".to_owned(), checked(), specs(&["a", "b", "c"]));
    let now = Instant::now();
    upstream.probe_result("a", &ProbeOutcome::Failed("down".to_owned()), now);
    let mut chooser = Chooser::new(1);
    let client = "10.0.0.1".parse().expect("an address");
    let lease = chooser.choose(&upstream.selection(), client, &[]).expect("a backend");
    let chosen = lease.backend().id().to_owned();
    let kept: Vec<&str> = ["a", "b", "c"].into_iter().filter(|name| *name != chosen).collect();
    upstream.replace(checked(), specs(&kept));
    assert_eq!(lease.backend().active(), 1, "the removed backend keeps its connection");
    assert!(!eligible(&upstream).contains(&"a".to_owned()), "health is remembered");
    assert_eq!(eligible(&upstream).len(), 1);
    assert!(!eligible(&upstream).contains(&chosen));
}

#[test]
fn drain_takes_no_new_connections_and_can_be_undone() {
    let upstream = Upstream::new("app".to_owned(), UpstreamSettings::default(), specs(&["a", "b"]));
    assert!(upstream.drain("a", true));
    assert_eq!(eligible(&upstream), ["b"]);
    assert!(upstream.drain("b", true));
    assert!(eligible(&upstream).is_empty(), "draining is not failing: no fail open");
    assert!(!upstream.selection().is_fail_open());
    assert!(upstream.drain("a", false));
    assert_eq!(eligible(&upstream), ["a"]);
    assert!(!upstream.drain("nobody", true));
}

#[test]
fn when_every_check_fails_all_are_tried() {
    let upstream = Upstream::new("app".to_owned(), checked(), specs(&["a", "b"]));
    for name in ["a", "b"] {
        upstream.probe_result(name, &ProbeOutcome::Failed("down".to_owned()), Instant::now());
    }
    assert!(upstream.selection().is_fail_open());
    assert_eq!(eligible(&upstream), ["a", "b"]);
}

#[test]
fn ejection_never_takes_more_than_its_share_and_ends() {
    let upstream = Upstream::new("app".to_owned(), UpstreamSettings::default(), specs(&["a", "b", "c", "d"]));
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
