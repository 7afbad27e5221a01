//! `edge.toml`: tables into values, then what no single table can know.
//!
//! Room  pure but for error pages, which are read here.
//! In    the top level of the file, the overrides.
//! Out   settings; their mistakes are in the notes, and the caller uses them only when there are none.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use dataplane::config::WORKERS_MAX;
use dataplane::config::listener::Seen;
use dataplane::config::process::{admin, discovery, drain_timeout, log_level};
use dataplane::settings::{Notes, Section, Spot};
use edge::settings::{
    AccessLog, AccessLogTarget, ErrorPages, Limits, Listener, Route, Settings as Config, Timeouts,
};

use super::environment::EdgeOverrides;
use super::{Base, flags, headers, listener, route, upstream};

/// For waits of a connection or request; a week is as good as none.
const TIMEOUT_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(7 * 24 * 3600);
/// Largest error page, in bytes: it is held in memory and sent to strangers.
const PAGE_BYTES_MAX: u64 = 64 * 1024;
/// Name of the upstream that `LOAD_BALANCER_URL` makes.
const LOAD_BALANCER: &str = "load-balancer";

/// What people know from other proxies, and this one has not.
const UNSUPPORTED: [(&str, &str); 6] = [
    (
        "acme",
        "edge does not fetch certificates; write [[listener.certificate]] and renew the files",
    ),
    ("http3", "edge has no HTTP/3"),
    ("compression", "edge does not compress; backends do"),
    ("cache", "edge has no cache"),
    ("ocsp", "edge staples no OCSP answers"),
    ("client_auth", "edge asks for no client certificates"),
];

/// The whole file.
pub(super) fn file(
    mut root: Section<'_>,
    notes: &Notes,
    over: &EdgeOverrides<'_>,
    base: &Base,
) -> Option<Config> {
    refuse_unsupported(&mut root);
    let admin = admin(&mut root, &over.shared);
    let log_level = log_level(&mut root, &over.shared);
    let workers = root.optional("workers");
    let workers = workers.and_then(|found| found.integer(0..=WORKERS_MAX));
    let timeouts = timeouts(&mut root);
    let limits = limits(&mut root);
    let drain_timeout = drain_timeout(&mut root);
    let drain_mode = root
        .optional("drain_mode")
        .and_then(|found| found.boolean());
    let discovery = discovery(&mut root, &over.shared);
    let tables = root.named_tables("upstream");
    let mut upstreams: Vec<_> = tables
        .into_iter()
        .filter_map(|(name, section)| {
            let discovered = discovery.is_some();
            Some(upstream::read(
                name, section?, notes, over, discovered, base,
            ))
        })
        .collect();
    let listeners = listeners(&mut root, notes, over, admin.clone(), base);
    let names: Vec<&str> = upstreams.iter().map(|u| u.name.as_str()).collect();
    let mut routes = routes(&mut root, notes, over, &names, &listeners);
    if let Some((label, _)) = &over.load_balancer
        && !routes.iter().any(is_catch_all)
    {
        routes.push(flags::everything_to(LOAD_BALANCER));
        upstreams.push(flags_upstream(label));
    }
    let written = root.table("rate_limit").and_then(route::rate_limit);
    let security = root.table("security_headers").and_then(headers::security);
    let trusted_proxies = route::networks(root.optional("trusted_proxies"));
    let config = Config {
        admin: admin.map(|(address, _)| address),
        log_level,
        workers: workers.unwrap_or(0),
        timeouts,
        limits,
        drain_mode: over.drain_mode.or(drain_mode).unwrap_or(false),
        drain_timeout,
        listeners,
        routes,
        upstreams,
        discovery,
        rate_limit: over.rate_limit(written),
        access: route::access(&mut root),
        trusted_proxies,
        security_headers: over.security_headers(security),
        cors: root.table("cors").and_then(headers::cors),
        error_pages: error_pages(&mut root, base),
        access_log: access_log(&mut root, base),
    };
    root.finish();
    Some(config)
}

fn flags_upstream(label: &str) -> edge::settings::Upstream {
    edge::settings::Upstream {
        name: LOAD_BALANCER.to_owned(),
        balance: dataplane::upstream::UpstreamSettings::default(),
        backends: vec![dataplane::config::upstream::backend_spec(label.to_owned())],
        protocol: edge::settings::UpstreamProtocol::Http1,
        tls: None,
        retry_budget_percent: upstream::RETRY_BUDGET,
    }
}

fn is_catch_all(route: &Route) -> bool {
    route.matcher == edge::settings::RouteMatch::default()
}

fn refuse_unsupported(root: &mut Section<'_>) {
    for (key, why) in UNSUPPORTED {
        if let Some(found) = root.optional(key) {
            found.mistake(why, Some("remove it".to_owned()));
        }
    }
}

fn listeners(
    root: &mut Section<'_>,
    notes: &Notes,
    over: &EdgeOverrides<'_>,
    admin: Option<(SocketAddr, Spot)>,
    base: &Base,
) -> Vec<Listener> {
    let sections = root.tables("listener");
    let count = sections.len();
    if count == 0 && !root.has("listener") {
        root.mistake("no listener; write at least one [[listener]]", None);
    }
    if let (Some((_, found)), true) = (&over.shared.port, count > 1) {
        found.mistake(
            format!("sets the port of the only listener, but the file has {count}"),
            Some("remove it and write the addresses in the file".to_owned()),
        );
    }
    let port = over.shared.port.as_ref().map(|(port, _)| *port);
    let port = port.filter(|_| count == 1);
    let mut seen = Seen::new(notes, admin);
    sections
        .into_iter()
        .filter_map(|section| listener::read(section, &mut seen, port, over, base))
        .collect()
}

fn routes(
    root: &mut Section<'_>,
    notes: &Notes,
    over: &EdgeOverrides<'_>,
    upstreams: &[&str],
    listeners: &[Listener],
) -> Vec<Route> {
    let sections = root.tables("route");
    let only_redirects =
        !listeners.is_empty() && listeners.iter().all(|l| l.redirect_to_https.is_some());
    let has_default = over.load_balancer.is_some() || only_redirects;
    if sections.is_empty() && !root.has("route") && !has_default {
        let hint = match upstreams {
            [only] => format!("write [[route]] with upstream = \"{only}\""),
            _ => "write [[route]] with upstream = \"NAME\"".to_owned(),
        };
        root.mistake("no route: every request would get a 404", Some(hint));
    }
    let mut names = Vec::new();
    let spots: Vec<Spot> = sections
        .iter()
        .map(|section| section.spot().clone())
        .collect();
    let routes: Vec<Route> = sections
        .into_iter()
        .enumerate()
        .filter_map(|(place, section)| route::read(section, place, upstreams, &mut names))
        .collect();
    route::note_duplicates(&routes, &spots, notes);
    routes
}

fn timeouts(root: &mut Section<'_>) -> Timeouts {
    let mut timeouts = Timeouts::default();
    let Some(mut section) = root.table("timeouts") else {
        return timeouts;
    };
    let mut set = |key, slot: &mut Duration| {
        if let Some(value) = section
            .optional(key)
            .and_then(|found| found.duration(TIMEOUT_RANGE))
        {
            *slot = value;
        }
    };
    set("proxy_header", &mut timeouts.proxy_header);
    set("tls_handshake", &mut timeouts.tls_handshake);
    set("first_byte", &mut timeouts.first_byte);
    set("header", &mut timeouts.header);
    set("body_idle", &mut timeouts.body_idle);
    set("keep_alive", &mut timeouts.keep_alive);
    set("http2_idle", &mut timeouts.http2_idle);
    set("upstream_first_byte", &mut timeouts.upstream_first_byte);
    set("upstream_idle", &mut timeouts.upstream_idle);
    set("total", &mut timeouts.total);
    set("tunnel_idle", &mut timeouts.tunnel_idle);
    set("upstream_keep_alive", &mut timeouts.upstream_keep_alive);
    let rate = section.optional("body_rate_min");
    if let Some(rate) = rate.and_then(|found| found.integer(0..=1_000_000_000_u32)) {
        timeouts.body_rate_min = rate;
    }
    section.finish();
    timeouts
}

fn limits(root: &mut Section<'_>) -> Limits {
    let mut limits = Limits::default();
    let Some(mut section) = root.table("limits") else {
        return limits;
    };
    let mut bytes = |key, slot: &mut usize, range: RangeInclusive<usize>| {
        let Some(found) = section.optional(key) else {
            return;
        };
        let value = route::size(&found).and_then(|size| usize::try_from(size).ok());
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
        } else if let Some(size) = route::size(&found) {
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
    count("connections", &mut limits.connections, route::REQUESTS_MAX);
    count(
        "rate_limit_entries",
        &mut limits.rate_limit_entries,
        10_000_000,
    );
    let mut optional = |key| {
        let found = section.optional(key);
        found.and_then(|found| found.integer(1..=route::REQUESTS_MAX))
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

/// `[error_pages] 404 = "404.html"`.
fn error_pages(root: &mut Section<'_>, base: &Base) -> ErrorPages {
    let Some(found) = root.optional("error_pages") else {
        return ErrorPages::default();
    };
    let mut html = BTreeMap::new();
    for (key, found) in found.entries() {
        let status = key
            .parse::<u16>()
            .ok()
            .filter(|status| (400..600).contains(status));
        let Some(status) = status else {
            found.mistake(
                format!("{key:?} is no status of an error (400 to 599)"),
                None,
            );
            continue;
        };
        let Some(name) = found.string() else {
            continue;
        };
        let path = base.path(&name);
        let size = std::fs::metadata(&path).map(|file| file.len());
        match (size, std::fs::read_to_string(&path)) {
            (Ok(size), _) if size > PAGE_BYTES_MAX => {
                found.mistake(
                    format!("{name} has {size} bytes; allowed are {PAGE_BYTES_MAX}"),
                    None,
                );
            }
            (_, Ok(text)) => {
                html.insert(status, text);
            }
            (_, Err(error)) => {
                found.mistake(format!("{} cannot be read: {error}", path.display()), None)
            }
        }
    }
    ErrorPages { html }
}

/// `[access_log]`.
fn access_log(root: &mut Section<'_>, base: &Base) -> Option<AccessLog> {
    let mut section = root.table("access_log")?;
    let enabled = section
        .optional("enabled")
        .and_then(|found| found.boolean());
    let target = section.optional("target").and_then(|found| found.string());
    section.finish();
    if enabled == Some(false) {
        return None;
    }
    let target = match target.as_deref() {
        None | Some("stdout") => AccessLogTarget::Stdout,
        Some(path) => AccessLogTarget::File(base.path(path)),
    };
    Some(AccessLog { target })
}
