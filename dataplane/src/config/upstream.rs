//! `[upstream.NAME]`: its backends, how one is chosen, and how their health is known.
//!
//! Room  pure.
//! Out   settings and backends; defaults are those of `upstream` and `health`.
//! Holds the section stays open: a proxy reads its own keys beside these and finishes it.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::overrides::Overrides;
use super::{CONNECTIONS_MAX, INTERVAL_RANGE};
use crate::balance::Algorithm;
use crate::health::{CheckKind, HealthCheck};
use crate::proxy_protocol::ProxyVersion;
use crate::settings::{Found, Notes, Section, write_duration};
use crate::upstream::{BackendSpec, Ejection, UpstreamSettings};

/// To connect a backend.
pub(super) const CONNECT_TIMEOUT_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(60);
/// For the answer to a health check.
const CHECK_TIMEOUT_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(60);
/// Further backends to try for one connection.
const RETRIES_MAX: u32 = 16;
/// Share of a backend.
const WEIGHT_MAX: u32 = 256;
/// Failed connects in a row that eject a backend; 0 switches ejection off.
const FAILURES_MAX: u32 = 1000;
/// How long a backend is left alone.
const EJECTION_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(24 * 3600);
/// From a tenth of a backend's weight to all of it.
const SLOW_START_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);
/// Answers in a row that change a backend's health.
const IN_A_ROW_MAX: u32 = 100;

/// One upstream, starting from `settings`; `discovered`: its backends may come from the operator.
pub fn read(
    section: &mut Section<'_>,
    notes: &Notes,
    over: &Overrides<'_>,
    mut settings: UpstreamSettings,
    discovered: bool,
) -> (UpstreamSettings, Vec<BackendSpec>) {
    let chosen = section
        .optional("algorithm")
        .and_then(|found| algorithm(&found));
    if let Some(algorithm) = over.algorithm.or(chosen) {
        settings.algorithm = algorithm;
    }
    let written = section.optional("connect_timeout");
    let written = written.and_then(|found| found.duration(CONNECT_TIMEOUT_RANGE));
    if let Some(timeout) = over.connect_timeout.or(written) {
        settings.connect_timeout = timeout;
    }
    if let Some(retries) = section
        .optional("retries")
        .and_then(|found| found.integer(0..=RETRIES_MAX))
    {
        settings.retries = retries;
    }
    let panic = section.optional("panic_threshold_percent");
    if let Some(percent) = panic.and_then(|found| found.integer(0..=100_u32)) {
        settings.panic_threshold_percent = percent;
    }
    let slow = section.optional("slow_start");
    settings.slow_start = slow.and_then(|found| found.duration(SLOW_START_RANGE));
    let limit = section.optional("max_connections_per_backend");
    settings.max_connections_per_backend =
        limit.and_then(|found| found.integer(1..=CONNECTIONS_MAX));
    settings.health_check = match section.table("health_check") {
        Some(check) => Some(health_check(check, over)),
        None => over
            .check_interval
            .as_ref()
            .map(|(interval, found)| checked_every(HealthCheck::default(), *interval, found)),
    };
    if let Some(table) = section.table("ejection") {
        settings.ejection = ejection(table);
    }
    let backends = backends(section, notes, discovered);
    (settings, backends)
}

/// The PROXY protocol towards backends, where a connection belongs to one client.
pub fn proxy_protocol_out(section: &mut Section<'_>) -> Option<ProxyVersion> {
    let versions = [("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)];
    let version = section.optional("proxy_protocol_out");
    version.and_then(|found| found.choice("PROXY version", &versions))
}

/// One of the algorithms' names.
pub fn algorithm(found: &Found<'_>) -> Option<Algorithm> {
    let words: Vec<(&'static str, Algorithm)> = Algorithm::ALL
        .iter()
        .map(|algorithm| (algorithm.as_str(), *algorithm))
        .collect();
    found.choice("algorithm", &words)
}

fn backends(section: &mut Section<'_>, notes: &Notes, discovered: bool) -> Vec<BackendSpec> {
    let Some(found) = section.optional("backends") else {
        if !discovered && !section.has("backends") {
            notes.mistake(
                section.spot(),
                "no backends, and there is no [discovery] to ask for them",
                Some("write backends = [\"10.0.0.7:80\"]".to_owned()),
            );
        }
        return Vec::new();
    };
    let noted = notes.count();
    let items = found.items();
    if items.is_empty() && !discovered && notes.count() == noted {
        found.mistake(
            "the list is empty, and there is no [discovery] to fill it",
            Some("write backends = [\"10.0.0.7:80\"]".to_owned()),
        );
    }
    let mut seen = BTreeSet::new();
    items
        .iter()
        .filter_map(|item| backend(item, &mut seen))
        .collect()
}

fn backend(item: &Found<'_>, seen: &mut BTreeSet<String>) -> Option<BackendSpec> {
    let spec = if item.is_string() {
        backend_spec(item.endpoint()?)
    } else {
        backend_table(item.section()?)?
    };
    let label = spec.label.clone();
    let id = spec.id.clone().unwrap_or_else(|| label.clone());
    if !seen.insert(id.clone()) {
        let what = if id == label {
            "this backend"
        } else {
            "a backend of this id"
        };
        item.mistake(
            format!("{what} is listed twice: \"{id}\""),
            Some("keep one of them, or give each an id".to_owned()),
        );
    }
    Some(spec)
}

/// A backend of which only the address is known.
pub fn backend_spec(label: String) -> BackendSpec {
    BackendSpec {
        id: None,
        label,
        weight: 1,
        max_connections: None,
        drain: false,
    }
}

fn backend_table(mut section: Section<'_>) -> Option<BackendSpec> {
    let address = section.required(
        "address",
        "every backend has an address, such as \"10.0.0.7:80\"",
    );
    let label = address.and_then(|found| found.endpoint());
    let weight = section
        .optional("weight")
        .and_then(|found| found.integer(1..=WEIGHT_MAX));
    let limit = section.optional("max_connections");
    let max_connections = limit.and_then(|found| found.integer(1..=CONNECTIONS_MAX));
    let id = section.optional("id").and_then(|found| found.string());
    section.finish();
    Some(BackendSpec {
        id,
        weight: weight.unwrap_or(1),
        max_connections,
        ..backend_spec(label?)
    })
}

fn health_check(mut section: Section<'_>, over: &Overrides<'_>) -> HealthCheck {
    let mut check = HealthCheck::default();
    let kinds = [("tcp", false), ("http", true)];
    let kind = section.required("kind", "write \"tcp\" or \"http\"");
    let is_http = kind.and_then(|found| found.choice("kind of health check", &kinds));
    let interval = section.optional("interval");
    let interval = interval.map(|found| (found.duration(INTERVAL_RANGE), found));
    let interval = match &over.check_interval {
        Some((value, found)) => Some((Some(*value), found.clone())),
        None => interval,
    };
    let timeout = section.optional("timeout");
    let timeout = timeout.map(|found| (found.duration(CHECK_TIMEOUT_RANGE), found));
    let are_read = [&interval, &timeout]
        .into_iter()
        .flatten()
        .all(|(value, _)| value.is_some());
    check.interval = interval
        .as_ref()
        .and_then(|(value, _)| *value)
        .unwrap_or(check.interval);
    check.timeout = timeout
        .as_ref()
        .and_then(|(value, _)| *value)
        .unwrap_or(check.timeout);
    if let Some((_, found)) = timeout.or(interval).filter(|_| are_read) {
        expect_shorter(check.timeout, check.interval, &found);
    }
    let rise = section
        .optional("rise")
        .and_then(|found| found.integer(1..=IN_A_ROW_MAX));
    check.rise = rise.unwrap_or(check.rise);
    let fall = section
        .optional("fall")
        .and_then(|found| found.integer(1..=IN_A_ROW_MAX));
    check.fall = fall.unwrap_or(check.fall);
    check.port = section
        .optional("port")
        .and_then(|found| found.integer(1..=u16::MAX));
    check.kind = http_check(&mut section, is_http);
    section.finish();
    check
}

/// The check with another interval, which `found` asked for.
pub fn checked_every(check: HealthCheck, interval: Duration, found: &Found<'_>) -> HealthCheck {
    let check = HealthCheck { interval, ..check };
    expect_shorter(check.timeout, check.interval, found);
    check
}

fn expect_shorter(timeout: Duration, interval: Duration, found: &Found<'_>) {
    if timeout >= interval {
        found.mistake(
            format!(
                "the timeout ({}) must be shorter than the interval ({})",
                write_duration(timeout),
                write_duration(interval)
            ),
            None,
        );
    }
}

/// `is_http` is `None` when the kind itself is wrong: then its keys are read and not judged.
fn http_check(section: &mut Section<'_>, is_http: Option<bool>) -> CheckKind {
    let path = section.optional("path");
    let host = section.optional("host");
    let expect = section.optional("expect");
    if is_http == Some(false) {
        for found in [&path, &host, &expect].into_iter().flatten() {
            found.mistake("is for kind = \"http\" only", None);
        }
    }
    if is_http != Some(true) {
        return CheckKind::Tcp;
    }
    let path = path.and_then(|found| found.parsed("a path such as \"/health\"", http_path));
    let host = host.and_then(|found| found.parsed("a host name", http_host));
    CheckKind::Http {
        path: path.unwrap_or_else(|| "/".to_owned()),
        host,
        expect: expect
            .and_then(|found| statuses(&found))
            .unwrap_or(200..=399),
    }
}

type Refusal = (String, Option<String>);

fn http_path(text: &str) -> Result<String, Refusal> {
    if !text.starts_with('/') {
        return Err((
            format!("the path {text:?} does not begin with /"),
            Some(format!("did you mean \"/{text}\"?")),
        ));
    }
    printable(text)
}

fn http_host(text: &str) -> Result<String, Refusal> {
    if text.is_empty() {
        return Err(("must not be empty".to_owned(), None));
    }
    printable(text)
}

/// What goes into a request's head may not end its line.
fn printable(text: &str) -> Result<String, Refusal> {
    if text.chars().all(|c| c.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err((
            format!("{text:?} has characters that a request cannot carry"),
            None,
        ))
    }
}

/// `200`, `"200"` or `"200-399"`.
fn statuses(found: &Found<'_>) -> Option<RangeInclusive<u16>> {
    if found.is_integer() {
        return found.integer(100..=599_u16).map(|status| status..=status);
    }
    found.parsed("a status such as 200 or \"200-399\"", |text| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            (Ok(first), Ok(last)) if 100 <= first && first <= last && last <= 599 => {
                Ok(first..=last)
            }
            _ => Err((
                format!("{text:?} is not a range of HTTP statuses"),
                Some("write 200 or \"200-399\"".to_owned()),
            )),
        }
    })
}

fn ejection(mut section: Section<'_>) -> Ejection {
    let mut ejection = Ejection::default();
    let failures = section
        .optional("failures")
        .and_then(|found| found.integer(0..=FAILURES_MAX));
    ejection.failures = failures.unwrap_or(ejection.failures);
    let responses = section
        .optional("response_failures")
        .and_then(|found| found.integer(0..=FAILURES_MAX));
    ejection.response_failures = responses.unwrap_or(ejection.response_failures);
    let base = section
        .optional("base")
        .and_then(|found| found.duration(EJECTION_RANGE));
    ejection.base = base.unwrap_or(ejection.base);
    let longest = section
        .optional("longest")
        .and_then(|found| found.duration(EJECTION_RANGE));
    ejection.longest = longest.unwrap_or_else(|| ejection.longest.max(ejection.base));
    let share = section
        .optional("share_max_percent")
        .and_then(|found| found.integer(0..=100));
    ejection.share_max_percent = share.unwrap_or(ejection.share_max_percent);
    if ejection.longest < ejection.base {
        section.mistake(
            format!(
                "longest ({}) must not be shorter than base ({})",
                write_duration(ejection.longest),
                write_duration(ejection.base)
            ),
            None,
        );
    }
    section.finish();
    ejection
}
