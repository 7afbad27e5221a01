//! `[[route]]`: which requests, and what becomes of them.
//!
//! Room  pure.
//! Holds a route has exactly one action; its upstreams exist; what it matches is written as it is compared.

use std::ops::RangeInclusive;
use std::time::Duration;

use dataplane::settings::{Found, Notes, Section, nearest};
use edge::settings::{
    Access, PathMatch, RateKey, RateLimit, Redirect, Rewrite, Route, RouteAction, RouteMatch,
    WeightedUpstream,
};
use ipnet::IpNet;

use super::environment::PER_MINUTE_MAX;
use super::headers;

/// A day: a download or a stream that goes on for longer wants a route of its own and knows it.
const TOTAL_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(7 * 24 * 3600);

/// Weights are shares, in whatever unit adds up.
const WEIGHT_MAX: u32 = 10_000;

/// Concurrent requests; a limit above it limits nothing.
pub(super) const REQUESTS_MAX: usize = 100_000_000;

type Refusal = (String, Option<String>);

/// One route, by its place.
pub(super) fn read(
    mut section: Section<'_>,
    place: usize,
    upstreams: &[&str],
    names: &mut Vec<String>,
) -> Option<Route> {
    let name = section
        .optional("name")
        .map(|found| (found.string(), found));
    let name = match name {
        Some((Some(name), found)) => {
            if names.contains(&name) {
                found.mistake(format!("another route is named {name:?}"), None);
            }
            name
        }
        _ => format!("route-{}", place + 1),
    };
    names.push(name.clone());
    let matcher = matcher(&mut section);
    let action = action(&mut section, upstreams);
    let rewrite = rewrite(&mut section, &matcher.path);
    let limit = section.optional("body_limit");
    let body_bytes = limit.and_then(|found| size(&found));
    let total = section.optional("total_timeout");
    let first_byte = section.optional("first_byte_timeout");
    let concurrent = section.optional("concurrent_requests");
    let route = Route {
        name,
        matcher,
        rewrite,
        request_headers: headers::changes(&mut section, "request_headers"),
        response_headers: headers::changes(&mut section, "response_headers"),
        rate_limit: section.table("rate_limit").and_then(rate_limit),
        concurrent_requests: concurrent.and_then(|found| found.integer(1..=REQUESTS_MAX)),
        cors: section.table("cors").and_then(headers::cors),
        access: access(&mut section),
        body_bytes,
        total_timeout: total.and_then(|found| found.duration(TOTAL_RANGE)),
        upstream_first_byte: first_byte.and_then(|found| found.duration(TOTAL_RANGE)),
        action: action.unwrap_or(RouteAction::Respond {
            status: 500,
            body: String::new(),
        }),
    };
    section.finish();
    Some(route)
}

fn list(found: Option<Found<'_>>) -> Vec<Found<'_>> {
    found.as_ref().map(Found::items).unwrap_or_default()
}

fn matcher(section: &mut Section<'_>) -> RouteMatch {
    let hosts = list(section.optional("hosts"));
    let hosts = hosts
        .iter()
        .filter_map(|item| item.parsed("a host name", host));
    let hosts = hosts.collect();
    let methods = list(section.optional("methods"));
    let methods = methods
        .iter()
        .filter_map(|item| item.parsed("a method", method));
    let methods = methods.collect();
    let exact = section.optional("path");
    let prefix = section.optional("path_prefix");
    if let (Some(_), Some(found)) = (&exact, &prefix) {
        found.mistake("a route has a path or a path_prefix, not both", None);
    }
    let read = |found: Found<'_>| found.parsed("a path such as \"/api\"", path);
    let path = match (exact, prefix) {
        (Some(exact), _) => read(exact).map(PathMatch::Exact),
        (None, Some(prefix)) => read(prefix).map(PathMatch::Prefix),
        (None, None) => None,
    };
    let conditions = section.optional("headers");
    RouteMatch {
        hosts,
        methods,
        path: path.unwrap_or_default(),
        headers: conditions
            .map(|found| headers::conditions(&found))
            .unwrap_or_default(),
    }
}

fn host(text: &str) -> Result<String, Refusal> {
    let bare = text
        .strip_prefix("*.")
        .unwrap_or(text)
        .trim_end_matches('.');
    if bare.contains('*') {
        let hint = "a wildcard is the whole first label: \"*.example.org\"";
        return Err((
            format!("{text:?} is no host pattern"),
            Some(hint.to_owned()),
        ));
    }
    if text.contains("://") || text.contains('/') || (bare.contains(':') && !bare.starts_with('['))
    {
        let hint = "write the name alone, without scheme, port or path";
        return Err((format!("{text:?} is no host name"), Some(hint.to_owned())));
    }
    if !edge::http1::is_authority(bare) {
        return Err((format!("{text:?} is no host name"), None));
    }
    Ok(text.trim_end_matches('.').to_ascii_lowercase())
}

fn method(text: &str) -> Result<String, Refusal> {
    let upper = text.to_ascii_uppercase();
    match http::Method::from_bytes(upper.as_bytes()) {
        Ok(_) if upper != "CONNECT" => Ok(upper),
        _ => Err((format!("{text:?} is no method that can be routed"), None)),
    }
}

/// Compared with normalised paths, so it must be one.
fn path(text: &str) -> Result<String, Refusal> {
    if !text.starts_with('/') {
        let hint = format!("did you mean \"/{text}\"?");
        return Err((
            format!("the path {text:?} does not begin with /"),
            Some(hint),
        ));
    }
    match edge::target::normalise(text) {
        Ok(normal) if normal.query.is_some() => {
            Err((format!("the path {text:?} has a query"), None))
        }
        Ok(normal) if normal.path == text => Ok(text.to_owned()),
        Ok(normal) => {
            let hint = format!(
                "write {:?}: requests are compared in this form",
                normal.path
            );
            Err((
                format!("the path {text:?} is not in normal form"),
                Some(hint),
            ))
        }
        Err(error) => Err((format!("no request has the path {text:?}: {error}"), None)),
    }
}

fn action(section: &mut Section<'_>, upstreams: &[&str]) -> Option<RouteAction> {
    let one = section.optional("upstream");
    let several = section.optional("upstreams");
    let redirect_to = section.optional("redirect");
    let respond_with = section.optional("respond");
    let written: Vec<&Found<'_>> = [&one, &several, &redirect_to, &respond_with]
        .into_iter()
        .flatten()
        .collect();
    match written.as_slice() {
        [_] => {}
        [] => {
            let hint = "write upstream = \"NAME\"";
            section.mistake(
                "the route does nothing: it needs upstream, upstreams, redirect or respond",
                Some(hint.to_owned()),
            );
            return None;
        }
        [_, second, ..] => {
            second.mistake(
                "a route has one of upstream, upstreams, redirect, respond",
                None,
            );
        }
    }
    if let Some(found) = one {
        let upstream = existing(&found, found.string()?, upstreams)?;
        let only = WeightedUpstream {
            upstream,
            weight: 1,
        };
        return Some(RouteAction::Forward(vec![only]));
    }
    if let Some(found) = several {
        return weighted(&found, upstreams).map(RouteAction::Forward);
    }
    if let Some(found) = redirect_to {
        return redirect(found.section()?).map(RouteAction::Redirect);
    }
    let mut section = respond_with?.section()?;
    let status = section.required("status", "such as 404");
    let status = status.and_then(|found| found.integer(200..=599_u16));
    let body = section.optional("body").and_then(|found| found.string());
    section.finish();
    Some(RouteAction::Respond {
        status: status?,
        body: body.unwrap_or_default(),
    })
}

fn existing(found: &Found<'_>, name: String, upstreams: &[&str]) -> Option<String> {
    if upstreams.contains(&name.as_str()) {
        return Some(name);
    }
    let meant = nearest(&name, upstreams.iter().copied());
    let hint = meant.map_or_else(
        || format!("write [upstream.{name}]"),
        |meant| format!("did you mean \"{meant}\"?"),
    );
    found.mistake(format!("there is no upstream \"{name}\""), Some(hint));
    None
}

/// `[{ name = "a", weight = 90 }, { name = "b", weight = 10 }]`.
fn weighted(found: &Found<'_>, upstreams: &[&str]) -> Option<Vec<WeightedUpstream>> {
    let mut shares = Vec::new();
    for item in found.items() {
        let mut section = item.section()?;
        let name = section.required("name", "the upstream");
        let weight = section.required("weight", "its share, such as 90");
        let weight = weight.and_then(|found| found.integer(0..=WEIGHT_MAX));
        section.finish();
        let (Some(name), Some(weight)) = (name, weight) else {
            continue;
        };
        if let Some(upstream) = name
            .string()
            .and_then(|text| existing(&name, text, upstreams))
        {
            shares.push(WeightedUpstream { upstream, weight });
        }
    }
    if !shares.is_empty() && shares.iter().all(|share| share.weight == 0) {
        found.mistake("every weight is 0: no request could go anywhere", None);
    }
    (!shares.is_empty()).then_some(shares)
}

fn redirect(mut section: Section<'_>) -> Option<Redirect> {
    let statuses = [301, 302, 303, 307, 308];
    let status = section.optional("status").and_then(|found| {
        let status = found.integer(300..=399_u16)?;
        if !statuses.contains(&status) {
            found.mistake(
                format!("{status} is no redirect that a browser follows"),
                Some("write 301, 302, 303, 307 or 308".to_owned()),
            );
        }
        Some(status)
    });
    let schemes = [("http", "http"), ("https", "https")];
    let scheme = section.optional("scheme");
    let scheme = scheme.and_then(|found| found.choice("scheme", &schemes));
    let to = section
        .optional("host")
        .and_then(|found| found.parsed("a host name", host));
    let port = section
        .optional("port")
        .and_then(|found| found.integer(1..=u16::MAX));
    let path = section
        .optional("path")
        .and_then(|found| found.parsed("a path", path));
    if scheme.is_none() && to.is_none() && port.is_none() && path.is_none() {
        section.mistake(
            "the redirect changes nothing",
            Some("write scheme, host, port or path".to_owned()),
        );
    }
    section.finish();
    Some(Redirect {
        status: status.unwrap_or(308),
        scheme: scheme.map(str::to_owned),
        host: to,
        port,
        path,
    })
}

fn rewrite(section: &mut Section<'_>, matched: &PathMatch) -> Rewrite {
    let strip = section.optional("strip_prefix");
    let strip_prefix = strip.as_ref().and_then(Found::boolean).unwrap_or(false);
    if let (true, PathMatch::Exact(_), Some(found)) = (strip_prefix, matched, &strip) {
        found.mistake("there is no path_prefix to strip", None);
    }
    let add = section.optional("add_prefix");
    let whole = section.optional("rewrite_path");
    if let (Some(found), true) = (&whole, strip_prefix || add.is_some()) {
        found.mistake(
            "replaces the whole path: strip_prefix and add_prefix have no effect",
            None,
        );
    }
    let host = section.optional("host");
    Rewrite {
        strip_prefix,
        add_prefix: add.and_then(|found| found.parsed("a path", path)),
        path: whole.and_then(|found| found.parsed("a path", path)),
        host: host.and_then(|found| {
            found.parsed("a host name", |text| {
                if edge::http1::is_authority(text) {
                    Ok(text.to_owned())
                } else {
                    Err((format!("{text:?} is no host"), None))
                }
            })
        }),
    }
}

/// `[rate_limit]`; `enabled = false` is as if it were not there.
pub(super) fn rate_limit(mut section: Section<'_>) -> Option<RateLimit> {
    let enabled = section
        .optional("enabled")
        .and_then(|found| found.boolean());
    let rate = section.required("requests_per_minute", "how many a client may send");
    let burst = section.optional("burst");
    let keys = [("ip", RateKey::Ip), ("all", RateKey::All)];
    let by = section
        .optional("by")
        .and_then(|found| found.choice("key of a rate limit", &keys));
    section.finish();
    let rate = rate.and_then(|found| found.integer(1..=PER_MINUTE_MAX))?;
    let burst = burst.and_then(|found| found.integer(0..=PER_MINUTE_MAX));
    (enabled != Some(false)).then_some(RateLimit {
        requests_per_minute: rate,
        burst: burst.unwrap_or(20),
        by: by.unwrap_or_default(),
    })
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

/// Two routes that match the same requests: the later one would never be taken.
pub(super) fn note_duplicates(
    routes: &[Route],
    spots: &[dataplane::settings::Spot],
    notes: &Notes,
) {
    for (place, route) in routes.iter().enumerate() {
        let same = routes
            .iter()
            .take(place)
            .find(|r| r.matcher == route.matcher);
        if let (Some(first), Some(spot)) = (same, spots.get(place)) {
            let problem = format!(
                "the route {:?} matches the same requests before it",
                first.name
            );
            notes.mistake(spot, problem, None);
        }
    }
}
