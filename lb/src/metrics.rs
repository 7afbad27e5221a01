//! What `lb` counts, under its public names.
//!
//! Room  publishing only: numbers come from the shards' totals and the backends' counters.
//! Holds totals are published as absolute values, so that a scrape never counts twice.

use std::time::Duration;

use dataplane::metrics::{describe_upstreams, number, publish_upstreams, render_histogram, truth};
use dataplane::posture::Posture;
use lb::totals::{End, Histogram, Totals};
use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::running::Shared;

/// What can go up and down.
const GAUGES: [(&str, &str); 5] = [
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
];

/// What only grows.
const COUNTERS: [(&str, &str); 10] = [
    (
        "lb_requests_total",
        "connections accepted (the L4 unit of work)",
    ),
    ("lb_connections_total", "connections accepted"),
    (
        "lb_connections_adopted_total",
        "connections that came from another generation, where they had been accepted",
    ),
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
];

/// Says once what each metric means.
pub(crate) fn describe() {
    describe_upstreams("lb");
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
    publish_upstreams("lb", &shared.running().upstreams);
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
    counter!("lb_connections_adopted_total").absolute(totals.adopted);
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
