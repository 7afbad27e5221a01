//! `edge.toml`: tables into values, then what no single table can know.
//!
//! Room  pure but for the files that tables name.
//! In    the top level of the file, the overrides.
//! Out   settings; their mistakes are in the notes, and the caller uses them only when there are none.

use std::net::SocketAddr;

use dataplane::config::WORKERS_MAX;
use dataplane::config::listener::Seen;
use dataplane::config::process::{admin, discovery, drain_timeout, log_level};
use dataplane::discovery::DiscoverySettings;
use dataplane::settings::{Notes, Section, Spot};
use edge::settings::{Listener, Route, Settings as Config, Upstream};

use super::environment::EdgeOverrides;
use super::unsupported::{self, refuse};
use super::{Base, headers, limits, listener, load_balancer, pages, route, upstream};

/// The whole file.
pub(super) fn file(
    mut root: Section<'_>,
    notes: &Notes,
    over: &EdgeOverrides<'_>,
    base: &Base,
) -> Option<Config> {
    refuse(&mut root, &unsupported::OF_THE_FILE);
    let admin = admin(&mut root, &over.shared);
    let log_level = log_level(&mut root, &over.shared);
    let workers = root.optional("workers");
    let workers = workers.and_then(|found| found.integer(0..=WORKERS_MAX));
    let timeouts = limits::timeouts(&mut root);
    let limits = limits::limits(&mut root);
    let drain_timeout = drain_timeout(&mut root);
    let drain_mode = root
        .optional("drain_mode")
        .and_then(|found| found.boolean());
    let discovery = discovery(&mut root, &over.shared).map(|discovery| DiscoverySettings {
        cache: discovery.cache.map(|cache| base.0.join(cache)),
        ..discovery
    });
    let mut upstreams = upstreams(&mut root, notes, over, discovery.as_ref(), base);
    let listeners = listeners(&mut root, notes, over, admin.clone(), base);
    let mut names: Vec<&str> = upstreams.iter().map(|u| u.name.as_str()).collect();
    names.extend(over.load_balancer.as_ref().map(|_| load_balancer::NAME));
    let mut routes = routes(&mut root, notes, over, &names, &listeners);
    load_balancer::take_over(over, &mut routes, &mut upstreams);
    let rate = root.table("rate_limit");
    let rate = rate.map(|table| limits::rate_limit(table, over.sets_rate()));
    let security = root.table("security_headers").map(headers::security);
    let trusted_proxies = limits::networks(root.optional("trusted_proxies"));
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
        rate_limit: over.rate_limit(rate),
        access: limits::access(&mut root),
        trusted_proxies,
        security_headers: over.security_headers(security),
        cors: root.table("cors").and_then(headers::cors),
        error_pages: pages::error_pages(&mut root, base),
        access_log: pages::access_log(&mut root, base),
    };
    root.finish();
    Some(config)
}

fn upstreams(
    root: &mut Section<'_>,
    notes: &Notes,
    over: &EdgeOverrides<'_>,
    discovery: Option<&DiscoverySettings>,
    base: &Base,
) -> Vec<Upstream> {
    let tables = root.named_tables("upstream").into_iter();
    tables
        .filter_map(|(name, section)| {
            let is_load_balancer = over.load_balancer.is_some() && name == load_balancer::NAME;
            // Its backends need not be written where they come from elsewhere.
            let discovered = discovery.is_some() || is_load_balancer;
            Some(upstream::read(
                name, section?, notes, over, discovered, base,
            ))
        })
        .collect()
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
    let given = listener::Given {
        notes,
        over,
        base,
        is_only: count == 1,
    };
    let mut seen = Seen::new(notes, admin);
    let noted = notes.count();
    let listeners: Vec<Listener> = sections
        .into_iter()
        .filter_map(|section| listener::read(section, &mut seen, &given))
        .collect();
    let speaks_tls = listeners.iter().any(|listener| listener.tls.is_some());
    // A listener that could not be read has its own mistake.
    if let (Some((_, found)), false, true) = (&over.certificate, speaks_tls, notes.count() == noted)
        && count > 0
    {
        found.mistake(
            "no listener speaks TLS",
            Some("write tls = true in the one that shall".to_owned()),
        );
    }
    listeners
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
        .map(|(place, section)| route::read(section, place, upstreams, &mut names))
        .collect();
    route::note_shadowed(&routes, &spots, notes);
    routes
}
