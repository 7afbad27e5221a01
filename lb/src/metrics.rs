//! What `lb` counts, under its public names.
//!
//! Room  publishing only: numbers come from the shards' totals and the backends' counters.
//! Holds totals are published as absolute values, so that a scrape never counts twice.

use std::time::{Duration, Instant};

use dataplane::metrics::render_histogram;
use lb::totals::{End, Histogram, Totals};
use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::running::{Posture, Shared, is_fit};

/// What can go up and down.
const GAUGES: [(&str, &str); 9] = [
    ("lb_active_connections", "connections open now"),
    ("lb_bytes_pending", "bytes read and not yet written"),
    ("lb_accepting", "1 while this process accepts connections"),
    (
        "lb_generation",
        "generation given by the supervisor, 0 without one",
    ),
    (
        "lb_build_info",
        "always 1; the labels say which build this is",
    ),
    (
        "lb_upstream_fail_open",
        "1 while no backend is healthy and all are used",
    ),
    (
        "lb_backend_healthy",
        "1 while the backend takes new connections",
    ),
    (
        "lb_backend_active_connections",
        "connections open to the backend",
    ),
    ("lb_backend_weight", "the backend's configured share"),
];

/// What only grows.
const COUNTERS: [(&str, &str); 11] = [
    (
        "lb_requests_total",
        "connections accepted (the L4 unit of work)",
    ),
    ("lb_connections_total", "connections accepted"),
    ("lb_connections_ended_total", "connections ended, by reason"),
    (
        "lb_errors_total",
        "connections lost through the load balancer or its backends, by reason",
    ),
    ("lb_bytes_total", "bytes written, by direction"),
    (
        "lb_bytes_spliced_total",
        "bytes that went through a pipe without being copied",
    ),
    (
        "lb_connect_failures_total",
        "attempts to connect a backend that failed",
    ),
    (
        "lb_connect_retries_total",
        "further backends tried for a connection",
    ),
    (
        "lb_accept_pauses_total",
        "times a shard stopped accepting because the host had no descriptors left",
    ),
    (
        "lb_backend_connections_total",
        "connections made to the backend",
    ),
    (
        "lb_backend_connect_failures_total",
        "attempts to connect the backend that failed",
    ),
];

/// Says once what each metric means.
pub(crate) fn describe() {
    for (name, meaning) in GAUGES {
        describe_gauge!(name, meaning);
    }
    for (name, meaning) in COUNTERS {
        describe_counter!(name, meaning);
    }
}

/// Brings every metric up to date.
pub(crate) fn publish(shared: &Shared) {
    publish_totals(&shared.pool.totals());
    gauge!("lb_accepting").set(truth(shared.posture() == Posture::Accepting));
    gauge!("lb_generation").set(number(shared.generation));
    gauge!("lb_build_info", "version" => crate::cli::VERSION).set(1.0);
    for (name, upstream) in &shared.running().upstreams {
        gauge!("lb_upstream_fail_open", "upstream" => name.clone())
            .set(truth(upstream.selection().is_fail_open()));
        for backend in upstream.backends() {
            let labels = [
                ("upstream", name.clone()),
                ("backend", backend.id().to_owned()),
            ];
            gauge!("lb_backend_healthy", &labels).set(truth(is_fit(&backend, Instant::now())));
            gauge!("lb_backend_weight", &labels).set(f64::from(backend.weight()));
            gauge!("lb_backend_active_connections", &labels)
                .set(number(u64::try_from(backend.active()).unwrap_or(u64::MAX)));
            counter!("lb_backend_connections_total", &labels).absolute(backend.connections_total());
            counter!("lb_backend_connect_failures_total", &labels)
                .absolute(backend.connect_failures_total());
        }
    }
}

/// Everything as Prometheus text, up to date.
pub(crate) fn render(shared: &Shared) -> String {
    publish(shared);
    let totals = shared.pool.totals();
    let mut text = shared.exposition.render();
    text.push_str(&histogram(
        "lb_connection_duration_seconds",
        "age of a connection at its end",
        &totals.duration,
    ));
    text.push_str(&histogram(
        "lb_connect_duration_seconds",
        "time to connect a backend",
        &totals.connect_time,
    ));
    text
}

fn publish_totals(totals: &Totals) {
    gauge!("lb_active_connections").set(number(totals.active));
    counter!("lb_requests_total").absolute(totals.accepted);
    counter!("lb_connections_total").absolute(totals.accepted);
    for end in End::ALL {
        counter!("lb_connections_ended_total", "reason" => end.as_str())
            .absolute(totals.ended(end));
        if end.is_error() {
            counter!("lb_errors_total", "reason" => end.as_str()).absolute(totals.ended(end));
        }
    }
    counter!("lb_bytes_total", "direction" => "to_backend").absolute(totals.bytes_to_backends);
    counter!("lb_bytes_total", "direction" => "to_client").absolute(totals.bytes_to_clients);
    counter!("lb_bytes_spliced_total").absolute(totals.bytes_spliced);
    gauge!("lb_bytes_pending").set(number(totals.bytes_pending));
    counter!("lb_connect_failures_total").absolute(totals.connect_failures);
    counter!("lb_connect_retries_total").absolute(totals.retries);
    counter!("lb_accept_pauses_total").absolute(totals.accept_pauses);
}

fn histogram(name: &str, help: &str, histogram: &Histogram) -> String {
    let (bounds, counts): (Vec<Option<Duration>>, Vec<u64>) = histogram.buckets().unzip();
    let bounds: Vec<f64> = bounds.iter().flatten().map(Duration::as_secs_f64).collect();
    render_histogram(name, help, &bounds, &counts, histogram.sum().as_secs_f64())
}

fn truth(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// Exact up to 2^53, and good enough beyond.
fn number(count: u64) -> f64 {
    let high = u32::try_from(count >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(count & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    f64::from(high).mul_add(4_294_967_296.0, f64::from(low))
}
