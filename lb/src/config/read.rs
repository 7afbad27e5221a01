//! `lb.toml`: tables into values, then what no single table can know.
//!
//! Room  pure.
//! In    the top level of the file, the overrides.
//! Out   a `Config`; its mistakes are in the notes, and the caller uses it only when there are none.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use dataplane::discovery::{DiscoverySettings, OperatorUrl};
use dataplane::process::LogLevel;
use dataplane::settings::{Found, Notes, Section, Spot};
use lb::shard::Timeouts;

use super::listener::{self, Seen};
use super::overrides::Overrides;
use super::{CACHE_FILE, Config, DISCOVERY_INTERVAL, DRAIN_TIMEOUT, Listener, upstream};

/// Between two health checks or two questions to the operator.
pub(super) const INTERVAL_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);
/// For timeouts of a connection; a week is as good as none.
const TIMEOUT_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(7 * 24 * 3600);
/// A connection's age: at most a year.
const LIFETIME_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(365 * 24 * 3600);
/// Whole seconds up to what TCP_KEEPIDLE takes (tcp(7)).
const KEEPALIVE_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(32_767);
/// Zero leaves the kernel's default (tcp(7), TCP_USER_TIMEOUT).
const USER_TIMEOUT_RANGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
/// Zero cuts connections at once.
const DRAIN_RANGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 3600);
/// Shard threads; more than cores help nobody.
const WORKERS_MAX: usize = 256;
/// Connections: two descriptors each, and Linux ends at about a thousand million.
pub(super) const CONNECTIONS_MAX: usize = 100_000_000;

/// The whole file.
pub(super) fn file(mut root: Section<'_>, notes: &Notes, over: &Overrides<'_>) -> Option<Config> {
    let admin = admin(&mut root, over);
    let log_level = log_level(&mut root, over);
    let workers = root.optional("workers");
    let workers = workers.and_then(|found| found.integer(0..=WORKERS_MAX));
    let timeouts = timeouts(&mut root);
    let drain_timeout = drain_timeout(&mut root);
    let discovery = discovery(&mut root, over);
    let tables = root.named_tables("upstream");
    let names: Vec<String> = tables.iter().map(|(name, _)| name.clone()).collect();
    let upstreams = tables
        .into_iter()
        .filter_map(|(name, section)| {
            Some(upstream::read(
                name,
                section?,
                notes,
                over,
                discovery.is_some(),
            ))
        })
        .collect();
    let listeners = listeners(&mut root, notes, over, &names, admin.clone());
    root.finish();
    Some(Config {
        admin: admin.map(|(address, _)| address),
        log_level,
        workers: workers.unwrap_or(0),
        timeouts,
        drain_timeout,
        listeners,
        upstreams,
        discovery,
    })
}

fn listeners(
    root: &mut Section<'_>,
    notes: &Notes,
    over: &Overrides<'_>,
    upstreams: &[String],
    admin: Option<(SocketAddr, Spot)>,
) -> Vec<Listener> {
    let sections = root.tables("listener");
    let count = sections.len();
    if count == 0 && !root.has("listener") {
        root.mistake("no listener; write at least one [[listener]]", None);
    }
    if let (Some((_, found)), true) = (&over.port, count > 1) {
        found.mistake(
            format!("sets the port of the only listener, but the file has {count}"),
            Some("remove it and write the addresses in the file".to_owned()),
        );
    }
    let port = over.port.as_ref().map(|(port, _)| *port);
    let port = port.filter(|_| count == 1);
    let upstreams: Vec<&str> = upstreams.iter().map(String::as_str).collect();
    let mut seen = Seen::new(notes, admin);
    sections
        .into_iter()
        .filter_map(|section| listener::read(section, &upstreams, &mut seen, port))
        .collect()
}

fn admin(root: &mut Section<'_>, over: &Overrides<'_>) -> Option<(SocketAddr, Spot)> {
    let written = root.table("admin").and_then(|mut section| {
        let found = section.required("listen", "the address of the admin server");
        section.finish();
        let found = found?;
        Some((found.listen_address()?, found.spot().clone()))
    });
    let overriding = over.admin.as_ref();
    overriding
        .map(|(address, found)| (*address, found.spot().clone()))
        .or(written)
}

fn log_level(root: &mut Section<'_>, over: &Overrides<'_>) -> LogLevel {
    let written = root.table("log").and_then(|mut section| {
        let found = section.optional("level");
        section.finish();
        found?.choice("log level", &LogLevel::WORDS)
    });
    over.log_level.or(written).unwrap_or_default()
}

fn timeouts(root: &mut Section<'_>) -> Timeouts {
    let mut timeouts = Timeouts::default();
    let Some(mut section) = root.table("timeouts") else {
        return timeouts;
    };
    let mut set = |key, slot: &mut Duration, range| {
        if let Some(value) = section
            .optional(key)
            .and_then(|found| found.duration(range))
        {
            *slot = value;
        }
    };
    set("idle", &mut timeouts.idle, TIMEOUT_RANGE);
    set("half_close", &mut timeouts.half_close, TIMEOUT_RANGE);
    set("proxy_header", &mut timeouts.proxy_header, TIMEOUT_RANGE);
    set("keepalive", &mut timeouts.keepalive, KEEPALIVE_RANGE);
    set(
        "user_timeout",
        &mut timeouts.user_timeout,
        USER_TIMEOUT_RANGE,
    );
    if let Some(found) = section.optional("lifetime") {
        if found.is_word("off") {
            timeouts.lifetime = None;
        } else if let Some(value) = found.duration(LIFETIME_RANGE) {
            timeouts.lifetime = Some(value);
        }
    }
    section.finish();
    timeouts
}

fn drain_timeout(root: &mut Section<'_>) -> Duration {
    let written = root.table("drain").and_then(|mut section| {
        let found = section.optional("timeout");
        section.finish();
        found?.duration(DRAIN_RANGE)
    });
    written.unwrap_or(DRAIN_TIMEOUT)
}

fn discovery(root: &mut Section<'_>, over: &Overrides<'_>) -> Option<DiscoverySettings> {
    let section = root.table("discovery");
    let mut interval = None;
    let mut cache = None;
    let mut url = over.operator_url.clone();
    if let Some(mut section) = section {
        let found = if url.is_some() {
            section.optional("operator_url")
        } else {
            section.required(
                "operator_url",
                "where to ask for backends, such as \"http://127.0.0.1:8080\"",
            )
        };
        let written = found.and_then(|found| operator_url(&found));
        url = url.or(written);
        interval = section
            .optional("interval")
            .and_then(|found| found.duration(INTERVAL_RANGE));
        cache = section.optional("cache").and_then(|found| found.string());
        section.finish();
    }
    let kept = over
        .state_directory
        .as_ref()
        .map(|directory| directory.join(CACHE_FILE));
    Some(DiscoverySettings {
        url: url?,
        interval: interval.unwrap_or(DISCOVERY_INTERVAL),
        cache: cache.map(Into::into).or(kept),
    })
}

/// Discovery as the environment alone describes it.
pub(super) fn discovered_from(over: &Overrides<'_>) -> Option<DiscoverySettings> {
    Some(DiscoverySettings {
        url: over.operator_url.clone()?,
        interval: DISCOVERY_INTERVAL,
        cache: over
            .state_directory
            .as_ref()
            .map(|directory| directory.join(CACHE_FILE)),
    })
}

/// `http://host:port`, where the operator answers.
pub(super) fn operator_url(found: &Found<'_>) -> Option<OperatorUrl> {
    found.parsed("a URL such as \"http://127.0.0.1:8080\"", |text| {
        OperatorUrl::parse(text).ok_or_else(|| {
            let hint = if text.starts_with("https://") {
                "TLS to the operator is not supported; use http:// over a private network"
            } else if text.contains('@') {
                "leave the user name and password out: they would travel in the clear"
            } else {
                "write it like \"http://127.0.0.1:8080\""
            };
            // A password must not get into a log by way of its mistake.
            let shown = if text.contains('@') { "this" } else { text };
            (
                format!("{shown:?} is not an operator's URL"),
                Some(hint.to_owned()),
            )
        })
    })
}
