//! Which requests a route takes.
//!
//! Room  pure.
//! Holds hosts are lower-case, methods upper-case, paths in normal form: as requests are compared.

use std::collections::BTreeSet;

use dataplane::settings::{Found, Notes, Section, Spot};
use edge::settings::{PathMatch, Route, RouteMatch};

use crate::config::headers;

type Refusal = (String, Option<String>);

fn list(found: Option<Found<'_>>) -> Vec<Found<'_>> {
    found.as_ref().map(Found::items).unwrap_or_default()
}

/// What a route asks of a request.
pub(super) fn matcher(section: &mut Section<'_>) -> RouteMatch {
    let mut hosts: Vec<String> = Vec::new();
    for item in list(section.optional("hosts")) {
        let Some(host) = item.parsed("a host name", host) else {
            continue;
        };
        if hosts.contains(&host) {
            let hint = Some("keep one of them".to_owned());
            item.mistake(format!("the host {host:?} is listed twice"), hint);
        }
        hosts.push(host);
    }
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

/// A host name, or a wildcard for what stands below one.
fn host(text: &str) -> Result<String, Refusal> {
    if text == "*" {
        let hint = "leave hosts out for any host";
        return Err(("\"*\" is no host pattern".to_owned(), Some(hint.to_owned())));
    }
    match text.strip_prefix("*.") {
        Some(rest) => Ok(format!("*.{}", host_name(rest, text)?)),
        None => host_name(text, text),
    }
}

/// One host, without wildcard.
pub(super) fn plain_host(text: &str) -> Result<String, Refusal> {
    host_name(text, text)
}

/// `bare` as it is compared; `text` is what was written.
fn host_name(bare: &str, text: &str) -> Result<String, Refusal> {
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    if bare.contains('*') {
        let hint = "a wildcard is the whole first label: \"*.example.org\"";
        return Err((
            format!("{text:?} is no host pattern"),
            Some(hint.to_owned()),
        ));
    }
    let has_port = match bare.strip_prefix('[') {
        Some(_) => !bare.ends_with(']'),
        None => bare.contains(':'),
    };
    if bare.contains('/') || has_port {
        let hint = "write the name alone, without scheme, port or path";
        return Err((format!("{text:?} is no host name"), Some(hint.to_owned())));
    }
    if !bare.is_ascii() {
        let hint = "write it as clients send it, with xn-- (Punycode)";
        return Err((format!("{text:?} is no host name"), Some(hint.to_owned())));
    }
    if !edge::http1::is_authority(bare) {
        return Err((format!("{text:?} is no host name"), None));
    }
    Ok(bare.to_ascii_lowercase())
}

/// A method that a route may name.
pub(in crate::config) fn method(text: &str) -> Result<String, Refusal> {
    let upper = text.to_ascii_uppercase();
    match http::Method::from_bytes(upper.as_bytes()) {
        Ok(_) if upper != "CONNECT" => Ok(upper),
        _ => Err((format!("{text:?} is no method that can be routed"), None)),
    }
}

/// Compared with normalised paths, so it must be one.
pub(super) fn path(text: &str) -> Result<String, Refusal> {
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

/// Routes that an earlier one leaves nothing for: they would never be taken.
pub(in crate::config) fn note_shadowed(routes: &[Route], spots: &[Spot], notes: &Notes) {
    for (place, (route, spot)) in routes.iter().zip(spots).enumerate() {
        let before = routes.iter().take(place);
        let first = before
            .into_iter()
            .find(|earlier| takes_all_of(&earlier.matcher, &route.matcher));
        if let Some(first) = first {
            let problem = format!(
                "is never taken: the route {:?} matches the same requests before it",
                first.name
            );
            notes.mistake(spot, problem, None);
        }
    }
}

/// Only where both are equally specific: of two that are not, the more specific one wins wherever it stands.
fn takes_all_of(earlier: &RouteMatch, later: &RouteMatch) -> bool {
    earlier.path == later.path
        && is_within(&later.hosts, &earlier.hosts)
        && is_within(&later.methods, &earlier.methods)
        && earlier.headers.len() == later.headers.len()
        && earlier
            .headers
            .iter()
            .all(|header| later.headers.contains(header))
}

fn is_within(some: &[String], all: &[String]) -> bool {
    let all: BTreeSet<&String> = all.iter().collect();
    some.is_empty() == all.is_empty() && some.iter().all(|word| all.contains(word))
}
