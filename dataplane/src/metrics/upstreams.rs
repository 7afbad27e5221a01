//! What every proxy counts about its upstreams; a metric's name begins with the proxy's word (`lb`, `edge`).
//!
//! Room  publishing only: the numbers are the backends' own.
//! Holds totals are published as absolute values, so that a scrape never counts twice.

use std::time::Instant;

use metrics::{counter, describe_counter, describe_gauge, gauge};

use super::{number, truth};
use crate::upstreams::ByName;

const GAUGES: [(&str, &str); 4] = [
    (
        "upstream_fail_open",
        "1 while no backend is healthy and all are used",
    ),
    (
        "backend_healthy",
        "1 while the backend takes new connections",
    ),
    (
        "backend_active_connections",
        "connections open to the backend",
    ),
    ("backend_weight", "the backend's configured share"),
];

const COUNTERS: [(&str, &str); 2] = [
    (
        "backend_connections_total",
        "connections made to the backend",
    ),
    (
        "backend_connect_failures_total",
        "attempts to connect the backend that failed",
    ),
];

/// Says once what each of these metrics means.
pub fn describe_upstreams(proxy: &str) {
    for (name, meaning) in GAUGES {
        describe_gauge!(format!("{proxy}_{name}"), meaning);
    }
    for (name, meaning) in COUNTERS {
        describe_counter!(format!("{proxy}_{name}"), meaning);
    }
}

/// Brings the metrics of every upstream and backend up to date.
pub fn publish_upstreams(proxy: &str, upstreams: &ByName) {
    let now = Instant::now();
    let named = |name: &str| format!("{proxy}_{name}");
    for (name, upstream) in upstreams {
        gauge!(named("upstream_fail_open"), "upstream" => name.clone())
            .set(truth(upstream.selection().is_fail_open()));
        let removed = upstream.removed_backends();
        for backend in upstream.backends().into_iter().chain(removed) {
            let labels = [
                ("upstream", name.clone()),
                ("backend", backend.id().to_owned()),
            ];
            gauge!(named("backend_healthy"), &labels).set(truth(backend.is_fit(now)));
            gauge!(named("backend_weight"), &labels).set(f64::from(backend.weight()));
            gauge!(named("backend_active_connections"), &labels)
                .set(number(u64::try_from(backend.active()).unwrap_or(u64::MAX)));
            counter!(named("backend_connections_total"), &labels)
                .absolute(backend.connections_total());
            counter!(named("backend_connect_failures_total"), &labels)
                .absolute(backend.connect_failures_total());
        }
        // Its last connection was just shown to have ended.
        upstream.forget_removed();
    }
}
