//! What becomes of a route's requests.
//!
//! Room  pure.
//! Holds exactly one action; every upstream it names exists.

use dataplane::config::listener::existing_upstream;
use dataplane::settings::{Found, Section};
use edge::settings::{PathMatch, Redirect, Rewrite, RouteAction, WeightedUpstream};

use super::matcher::{path, plain_host};

/// Weights are shares, in whatever unit adds up.
const WEIGHT_MAX: u32 = 10_000;

/// Keys that say how a request is forwarded.
const FORWARDING_KEYS: [&str; 6] = [
    "strip_prefix",
    "add_prefix",
    "rewrite_path",
    "host",
    "request_headers",
    "first_byte_timeout",
];

/// Notes what a route says of forwarding without forwarding anything.
pub(super) fn note_without_effect(section: &mut Section<'_>, action: &RouteAction) {
    if matches!(action, RouteAction::Forward(_)) {
        return;
    }
    for key in FORWARDING_KEYS
        .into_iter()
        .filter(|key| section.has(key))
        .collect::<Vec<_>>()
    {
        if let Some(found) = section.optional(key) {
            found.mistake("has no effect: the route forwards nothing", None);
        }
    }
}

/// The one thing that a route does.
pub(super) fn action(section: &mut Section<'_>, upstreams: &[&str]) -> Option<RouteAction> {
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
        let upstream = existing_upstream(&found, upstreams)?;
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
    respond(respond_with?.section()?)
}

fn respond(mut section: Section<'_>) -> Option<RouteAction> {
    let status = section.required("status", "such as 404");
    let status = status.and_then(|found| found.integer(200..=599_u16));
    let body = section
        .optional("body")
        .map(|found| (found.string(), found));
    section.finish();
    if let (Some((_, found)), Some(status @ (204 | 304))) = (&body, status) {
        found.mistake(format!("a {status} has no body"), None);
    }
    Some(RouteAction::Respond {
        status: status?,
        body: body.and_then(|(text, _)| text).unwrap_or_default(),
    })
}

/// `[{ name = "a", weight = 90 }, { name = "b", weight = 10 }]`.
fn weighted(found: &Found<'_>, upstreams: &[&str]) -> Option<Vec<WeightedUpstream>> {
    let items = found.items();
    if items.is_empty() && found.is_array() {
        let hint = "write [{ name = \"NAME\", weight = 1 }]";
        found.mistake("the list is empty", Some(hint.to_owned()));
    }
    let mut shares: Vec<WeightedUpstream> = Vec::new();
    for mut section in items.iter().filter_map(Found::section) {
        let name = section.required("name", "the upstream");
        let weight = section.required("weight", "its share, such as 90");
        let weight = weight.and_then(|found| found.integer(0..=WEIGHT_MAX));
        section.finish();
        let Some(name) = name else {
            continue;
        };
        let upstream = existing_upstream(&name, upstreams);
        let (Some(upstream), Some(weight)) = (upstream, weight) else {
            continue;
        };
        if shares.iter().any(|share| share.upstream == upstream) {
            let hint = Some("add up its weights".to_owned());
            name.mistake(format!("the upstream {upstream:?} is listed twice"), hint);
        }
        shares.push(WeightedUpstream { upstream, weight });
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
    let changes = ["scheme", "host", "port", "path"];
    if !changes.iter().any(|key| section.has(key)) {
        section.mistake(
            "the redirect changes nothing",
            Some("write scheme, host, port or path".to_owned()),
        );
    }
    let schemes = [("http", "http"), ("https", "https")];
    let scheme = section.optional("scheme");
    let scheme = scheme.and_then(|found| found.choice("scheme", &schemes));
    let to = section
        .optional("host")
        .and_then(|found| found.parsed("a host name", plain_host));
    let port = section
        .optional("port")
        .and_then(|found| found.integer(1..=u16::MAX));
    let path = section
        .optional("path")
        .and_then(|found| found.parsed("a path", path));
    section.finish();
    Some(Redirect {
        status: status.unwrap_or(308),
        scheme: scheme.map(str::to_owned),
        host: to,
        port,
        path,
    })
}

/// What a backend gets in place of what was asked.
pub(super) fn rewrite(section: &mut Section<'_>, matched: &PathMatch) -> Rewrite {
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
