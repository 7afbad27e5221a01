//! What `edge` counts, under its public names.
//!
//! Room  publishing only: numbers come from the workers' totals, the backends' counters and the certificates.
//! Holds totals are published as absolute values, so that a scrape never counts twice.

use std::time::Duration;

use dataplane::metrics::{describe_upstreams, number, publish_upstreams, truth};
use dataplane::posture::Posture;
use edge::end::End;
use edge::totals::{Count, LATENCY_BOUNDS, Totals};
use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::admin_api::all_certificates;
use crate::running::Shared;

/// What can go up and down.
const GAUGES: [(&str, &str); 8] = [
    ("edge_active_connections", "client connections open now"),
    (
        "edge_active_tunnels",
        "tunnels (WebSocket and alike) open now",
    ),
    ("edge_accepting", "1 while this process accepts connections"),
    (
        "edge_generation",
        "generation given by the supervisor, 0 without one",
    ),
    (
        "edge_build_info",
        "always 1; the labels say which build this is",
    ),
    (
        "edge_certificate_expiry_seconds",
        "when the certificate expires, as Unix time",
    ),
    (
        "edge_certificate_reload_failed",
        "1 while the newest files on disk cannot be used and an older certificate is in force",
    ),
    (
        "edge_rate_limit_entries",
        "clients in the rate limiter's table",
    ),
];

/// What only grows.
const COUNTERS: [(&str, &str); 19] = [
    (
        "edge_requests_total",
        "requests whose head arrived whole, by protocol",
    ),
    ("edge_responses_total", "answers, by class of status"),
    (
        "edge_requests_ended_total",
        "requests ended, by who ended them and why",
    ),
    (
        "edge_errors_total",
        "requests lost through the proxy or its backends, by reason",
    ),
    ("edge_connections_total", "connections accepted"),
    (
        "edge_connections_adopted_total",
        "connections that came from another generation, or came back from the way to one",
    ),
    (
        "edge_connections_moved_total",
        "connections that another generation serves now",
    ),
    (
        "edge_connections_refused_total",
        "connections closed at once by a limit or an untrusted peer",
    ),
    ("edge_tls_handshakes_total", "TLS handshakes, by result"),
    ("edge_tunnels_total", "tunnels begun"),
    (
        "edge_bytes_total",
        "bytes of bodies and tunnels, by direction",
    ),
    ("edge_retries_total", "attempts beyond a request's first"),
    (
        "edge_retries_denied_total",
        "retries that the budget did not allow",
    ),
    (
        "edge_backend_connects_total",
        "connections made to backends",
    ),
    (
        "edge_backend_reuses_total",
        "requests that found a kept connection",
    ),
    (
        "edge_accept_pauses_total",
        "times a worker stopped accepting because the host had no descriptors left",
    ),
    (
        "edge_http2_abuse_total",
        "HTTP/2 connections closed for floods and endless header blocks",
    ),
    (
        "edge_rate_limited_total",
        "requests that a rate limit refused",
    ),
    (
        "edge_access_log_dropped_total",
        "access log records that found the queue full",
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
    describe_counter!(
        "edge_certificate_reloads_total",
        "certificates read again, by result"
    );
    describe_upstreams("edge");
}

/// Brings every metric up to date.
pub(crate) fn publish(shared: &Shared) {
    publish_totals(&shared.workers.totals());
    gauge!("edge_accepting").set(truth(shared.posture() == Posture::Accepting));
    gauge!("edge_generation").set(number(shared.generation));
    gauge!("edge_build_info", "version" => crate::cli::VERSION).set(1.0);
    let running = shared.running();
    publish_upstreams("edge", &running.upstreams);
    for (listener, status) in all_certificates(shared) {
        let labels = [
            ("listener", listener),
            ("name", status.names.first().cloned().unwrap_or_default()),
            ("certificate", status.certificate.clone()),
        ];
        gauge!("edge_certificate_expiry_seconds", &labels).set(number(status.expires_at_unix()));
        gauge!("edge_certificate_reload_failed", &labels).set(truth(status.last_error.is_some()));
        for (result, count) in [
            ("ok", status.reloads_total),
            ("failed", status.failures_total),
        ] {
            let mut labels = labels.to_vec();
            labels.push(("result", result.to_owned()));
            counter!("edge_certificate_reloads_total", &labels).absolute(count);
        }
    }
    let rates = shared
        .workers
        .shared()
        .state
        .rates
        .status(shared.since_start());
    gauge!("edge_rate_limit_entries").set(number(u64::try_from(rates.entries).unwrap_or(0)));
    counter!("edge_rate_limited_total").absolute(rates.limited);
    if let Some(log) = &running.site.access_log {
        counter!("edge_access_log_dropped_total").absolute(log.dropped());
    }
}

/// Everything as Prometheus text, up to date.
pub(crate) fn render(shared: &Shared) -> String {
    publish(shared);
    let mut text = shared.exposition.render();
    text.push_str(&latencies(shared));
    text
}

fn publish_totals(totals: &Totals) {
    let tunnels = totals
        .get(Count::TunnelsBegun)
        .saturating_sub(totals.get(Count::TunnelsEnded));
    gauge!("edge_active_connections").set(number(totals.active()));
    gauge!("edge_active_tunnels").set(number(tunnels));
    let protocols = [("http1", Count::Http1), ("http2", Count::Http2)];
    for (protocol, count) in protocols {
        counter!("edge_requests_total", "protocol" => protocol).absolute(totals.get(count));
    }
    for (class, count) in totals.classes() {
        counter!("edge_responses_total", "class" => class).absolute(count);
    }
    for end in End::ALL {
        counter!("edge_requests_ended_total", "reason" => end.as_str()).absolute(totals.ended(end));
        if end.is_error() {
            counter!("edge_errors_total", "reason" => end.as_str()).absolute(totals.ended(end));
        }
    }
    let resumed = totals.get(Count::Resumed);
    let full = totals.get(Count::Handshakes).saturating_sub(resumed);
    for (result, count) in [
        ("full", full),
        ("resumed", resumed),
        ("failed", totals.get(Count::HandshakesFailed)),
    ] {
        counter!("edge_tls_handshakes_total", "result" => result).absolute(count);
    }
    for (direction, count) in [
        ("from_clients", Count::BytesFromClients),
        ("to_clients", Count::BytesToClients),
    ] {
        counter!("edge_bytes_total", "direction" => direction).absolute(totals.get(count));
    }
    for (name, count) in [
        ("edge_connections_total", Count::Accepted),
        ("edge_connections_adopted_total", Count::Adopted),
        ("edge_connections_moved_total", Count::Moved),
        ("edge_connections_refused_total", Count::Refused),
        ("edge_tunnels_total", Count::TunnelsBegun),
        ("edge_retries_total", Count::Retries),
        ("edge_retries_denied_total", Count::RetriesDenied),
        ("edge_backend_connects_total", Count::BackendConnects),
        ("edge_backend_reuses_total", Count::BackendReuses),
        ("edge_accept_pauses_total", Count::AcceptPauses),
        ("edge_http2_abuse_total", Count::Http2Abuse),
    ] {
        counter!(name).absolute(totals.get(count));
    }
}

/// One histogram of all routes, each under its own label.
fn latencies(shared: &Shared) -> String {
    use std::fmt::Write as _;
    let name = "edge_request_duration_seconds";
    let mut text = format!(
        "# HELP {name} from a request's head to its answer's last byte\n# TYPE {name} histogram\n"
    );
    for route in &shared.running().site.routes {
        let (counts, sum) = route.sum();
        let label = route.name.replace(['"', '\\', '\n'], "_");
        let mut total = 0_u64;
        let bounds = LATENCY_BOUNDS.iter().map(Duration::as_secs_f64);
        let bounds = bounds
            .map(|bound| bound.to_string())
            .chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(counts) {
            total += count;
            let _ = writeln!(
                text,
                "{name}_bucket{{route=\"{label}\",le=\"{bound}\"}} {total}"
            );
        }
        let sum = sum.as_secs_f64();
        let _ = writeln!(text, "{name}_sum{{route=\"{label}\"}} {sum}");
        let _ = writeln!(text, "{name}_count{{route=\"{label}\"}} {total}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{COUNTERS, GAUGES};

    #[test]
    fn the_documentation_has_every_metric() {
        let text = include_str!("../../docs/configuration.md");
        for (name, _) in GAUGES.into_iter().chain(COUNTERS) {
            let is_there = text
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .any(|word| word == name);
            assert!(is_there, "{name}");
        }
    }
}
