//! How long, how much, how many, and for whom: `[timeouts]`, `[limits]`, `[rate_limit]`, `[access]`.
//!
//! Room  pure.
//! Holds a wait that another one always ends first is a mistake: somebody relies on it.

use std::ops::RangeInclusive;
use std::time::Duration;

use dataplane::settings::{Found, Section, write_duration};
use edge::settings::{Access, Limits, RateKey, RateLimit, Timeouts};
use ipnet::IpNet;

use super::environment::{PER_MINUTE_MAX, RATE_LIMIT, Switched};

/// For waits of a connection or request; a week is as good as none.
pub(super) const TIMEOUT_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(7 * 24 * 3600);

/// Concurrent requests or connections; a limit above it limits nothing.
pub(super) const REQUESTS_MAX: usize = 100_000_000;

/// `[timeouts]`.
pub(super) fn timeouts(root: &mut Section<'_>) -> Timeouts {
    let mut timeouts = Timeouts::default();
    let Some(mut section) = root.table("timeouts") else {
        return timeouts;
    };
    let mut set = |key, slot: &mut Duration| {
        let found = section.optional(key)?;
        *slot = found.duration(TIMEOUT_RANGE)?;
        Some((*slot, found))
    };
    set("proxy_header", &mut timeouts.proxy_header);
    set("tls_handshake", &mut timeouts.tls_handshake);
    set("first_byte", &mut timeouts.first_byte);
    set("header", &mut timeouts.header);
    let body_idle = set("body_idle", &mut timeouts.body_idle);
    set("keep_alive", &mut timeouts.keep_alive);
    set("http2_idle", &mut timeouts.http2_idle);
    let first_byte = set("upstream_first_byte", &mut timeouts.upstream_first_byte);
    let idle = set("upstream_idle", &mut timeouts.upstream_idle);
    let total = set("total", &mut timeouts.total);
    set("tunnel_idle", &mut timeouts.tunnel_idle);
    set("upstream_keep_alive", &mut timeouts.upstream_keep_alive);
    if let Some((total, _)) = total {
        for (wait, found) in [body_idle, first_byte, idle].into_iter().flatten() {
            expect_reachable(wait, total, "total", &found);
        }
    }
    let rate = section.optional("body_rate_min");
    if let Some(rate) = rate.and_then(|found| found.integer(0..=1_000_000_000_u32)) {
        timeouts.body_rate_min = rate;
    }
    section.finish();
    timeouts
}

/// A wait within a request, beside the request's whole time, which `total` names.
pub(super) fn expect_reachable(wait: Duration, whole: Duration, total: &str, found: &Found<'_>) {
    if wait > whole {
        let (wait, whole) = (write_duration(wait), write_duration(whole));
        found.mistake(
            format!("{wait} is never reached: {total} ({whole}) ends the request before"),
            None,
        );
    }
}

/// `[limits]`.
pub(super) fn limits(root: &mut Section<'_>) -> Limits {
    let mut limits = Limits::default();
    let Some(mut section) = root.table("limits") else {
        return limits;
    };
    let mut bytes = |key, slot: &mut usize, range: RangeInclusive<usize>| {
        let Some(found) = section.optional(key) else {
            return;
        };
        let value = size(&found).and_then(|size| usize::try_from(size).ok());
        match value {
            Some(value) if range.contains(&value) => *slot = value,
            Some(value) => found.mistake(
                format!(
                    "{value} is out of range; allowed is {} to {} bytes",
                    range.start(),
                    range.end()
                ),
                None,
            ),
            None => {}
        }
    };
    bytes("head_bytes", &mut limits.head_bytes, 1024..=1024 * 1024);
    bytes(
        "response_head_bytes",
        &mut limits.response_head_bytes,
        1024..=1024 * 1024,
    );
    if let Some(found) = section.optional("body") {
        if found.is_word("off") {
            limits.body_bytes = None;
        } else if let Some(size) = size(&found) {
            limits.body_bytes = Some(size);
        }
    }
    let mut count = |key, slot: &mut usize, most: usize| {
        if let Some(value) = section
            .optional(key)
            .and_then(|found| found.integer(1..=most))
        {
            *slot = value;
        }
    };
    count("head_lines", &mut limits.head_lines, 256);
    count("connections", &mut limits.connections, REQUESTS_MAX);
    count(
        "rate_limit_entries",
        &mut limits.rate_limit_entries,
        10_000_000,
    );
    let mut optional = |key| {
        let found = section.optional(key);
        found.and_then(|found| found.integer(1..=REQUESTS_MAX))
    };
    limits.connections_per_ip = optional("connections_per_ip");
    limits.concurrent_requests = optional("concurrent_requests");
    let requests = section.optional("requests_per_connection");
    if let Some(requests) = requests.and_then(|found| found.integer(1..=1_000_000_000_000_u64)) {
        limits.requests_per_connection = requests;
    }
    let streams = section.optional("http2_streams");
    if let Some(streams) = streams.and_then(|found| found.integer(1..=10_000_u32)) {
        limits.http2_streams = streams;
    }
    let resets = section.optional("http2_resets");
    if let Some(resets) = resets.and_then(|found| found.integer(1..=1_000_000_u32)) {
        limits.http2_resets = resets;
    }
    section.finish();
    limits
}

/// `[rate_limit]`. `is_set`: the environment says how many requests, so the table need not.
pub(super) fn rate_limit(mut section: Section<'_>, is_set: bool) -> Switched<RateLimit> {
    let switch = section.optional("enabled");
    let is_on = switch.and_then(|found| found.boolean());
    let rate = if is_set || is_on == Some(false) {
        section.optional("requests_per_minute")
    } else {
        section.required("requests_per_minute", "how many a client may send")
    };
    let rate = rate.and_then(|found| found.integer(1..=PER_MINUTE_MAX));
    let burst = section.optional("burst");
    let burst = burst.and_then(|found| found.integer(0..=PER_MINUTE_MAX));
    let keys = [("ip", RateKey::Ip), ("all", RateKey::All)];
    let by = section
        .optional("by")
        .and_then(|found| found.choice("key of a rate limit", &keys));
    section.finish();
    Switched {
        is_on,
        value: RateLimit {
            requests_per_minute: rate.unwrap_or(RATE_LIMIT.requests_per_minute),
            burst: burst.unwrap_or(RATE_LIMIT.burst),
            by: by.unwrap_or_default(),
        },
    }
}

/// `[access]`.
pub(super) fn access(section: &mut Section<'_>) -> Access {
    let Some(mut table) = section.table("access") else {
        return Access::default();
    };
    let allow = networks(table.optional("allow"));
    let deny = networks(table.optional("deny"));
    table.finish();
    Access { allow, deny }
}

pub(super) fn networks(found: Option<Found<'_>>) -> Vec<IpNet> {
    let items = found.as_ref().map(Found::items).unwrap_or_default();
    items.iter().filter_map(Found::network).collect()
}

/// `"10MB"`, `"64KiB"`, or bytes.
pub(super) fn size(found: &Found<'_>) -> Option<u64> {
    if found.is_integer() {
        return found.integer(0..=i64::MAX.unsigned_abs());
    }
    found.parsed("a size such as \"10MB\"", |text| {
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let factor: Option<u64> = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => Some(1),
            "k" | "kb" => Some(1_000),
            "kib" => Some(1 << 10),
            "m" | "mb" => Some(1_000_000),
            "mib" => Some(1 << 20),
            "g" | "gb" => Some(1_000_000_000),
            "gib" => Some(1 << 30),
            _ => None,
        };
        let number: Option<u64> = digits.parse().ok();
        number
            .zip(factor)
            .and_then(|(number, factor)| number.checked_mul(factor))
            .ok_or_else(|| {
                let hint = "write \"10MB\", \"64KiB\" or a number of bytes";
                (format!("{text:?} is no size"), Some(hint.to_owned()))
            })
    })
}
