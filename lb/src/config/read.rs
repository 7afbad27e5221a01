//! `lb.toml`: tables into values, then what no single table can know.
//!
//! Room  pure.
//! In    the top level of the file, the overrides.
//! Out   a `Config`; its mistakes are in the notes, and the caller uses it only when there are none.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use dataplane::config::listener::Seen;
use dataplane::config::process::{admin, discovery, drain_timeout, log_level};
use dataplane::config::{Overrides, upstream};
use dataplane::settings::{Notes, Section, Spot};
use dataplane::upstream::UpstreamSettings;
use dataplane::upstreams::UpstreamConfig;
use lb::shard::Timeouts;

use super::listener;
use super::{Config, Listener};

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
/// Shard threads; more than cores help nobody.
const WORKERS_MAX: usize = 256;

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
            let mut section = section?;
            let begun = UpstreamSettings {
                proxy_protocol_out: upstream::proxy_protocol_out(&mut section),
                ..UpstreamSettings::default()
            };
            let discovered = discovery.is_some();
            let (settings, backends) = upstream::read(&mut section, notes, over, begun, discovered);
            section.finish();
            Some(UpstreamConfig {
                name,
                settings,
                backends,
            })
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
