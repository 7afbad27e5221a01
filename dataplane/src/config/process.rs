//! What every worker is told about its process: admin server, log, drain, discovery.
//!
//! Room  pure.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::INTERVAL_RANGE;
use super::overrides::Overrides;
use crate::discovery::{DiscoverySettings, OperatorUrl};
use crate::process::LogLevel;
use crate::settings::{Found, Section, Spot};

/// Zero cuts connections at once.
const DRAIN_RANGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 3600);
/// How long connections may go on after SIGTERM, unless configured. Sized: below systemd's 90 s.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the operator is asked, unless configured.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(10);
/// Name of the file below `$STATE_DIRECTORY` that keeps the last good answer.
const CACHE_FILE: &str = "discovered-backends.json";

/// `[admin]`, or what overrides it.
pub fn admin(root: &mut Section<'_>, over: &Overrides<'_>) -> Option<(SocketAddr, Spot)> {
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

/// `[log]`, or what overrides it.
pub fn log_level(root: &mut Section<'_>, over: &Overrides<'_>) -> LogLevel {
    let written = root.table("log").and_then(|mut section| {
        let found = section.optional("level");
        section.finish();
        found?.choice("log level", &LogLevel::WORDS)
    });
    over.log_level.or(written).unwrap_or_default()
}

/// `[drain]`.
pub fn drain_timeout(root: &mut Section<'_>) -> Duration {
    let written = root.table("drain").and_then(|mut section| {
        let found = section.optional("timeout");
        section.finish();
        found?.duration(DRAIN_RANGE)
    });
    written.unwrap_or(DRAIN_TIMEOUT)
}

/// `[discovery]`, or what overrides it.
pub fn discovery(root: &mut Section<'_>, over: &Overrides<'_>) -> Option<DiscoverySettings> {
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
pub fn discovered_from(over: &Overrides<'_>) -> Option<DiscoverySettings> {
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
