//! `[[route]]`: which requests, and what becomes of them.
//!
//! Room  pure.
//! Holds a route has exactly one action; its upstreams exist; what it matches is written as it is compared.

mod action;
mod matcher;

use dataplane::settings::Section;
use edge::settings::{Route, RouteAction};

use super::limits::{REQUESTS_MAX, TIMEOUT_RANGE, access, expect_reachable, rate_limit, size};
use super::unsupported::{self, refuse};
use super::{environment::Switched, headers};
pub(super) use matcher::{method, note_shadowed};

/// One route, by its place.
pub(super) fn read(
    mut section: Section<'_>,
    place: usize,
    upstreams: &[&str],
    names: &mut Vec<String>,
) -> Route {
    refuse(&mut section, &unsupported::OF_A_ROUTE);
    let name = name(&mut section, place, names);
    let matcher = matcher::matcher(&mut section);
    let action = action::action(&mut section, upstreams);
    let rewrite = action::rewrite(&mut section, &matcher.path);
    let body = section.optional("body_limit");
    let concurrent = section.optional("concurrent_requests");
    let mut wait = |key| {
        let found = section.optional(key)?;
        Some((found.duration(TIMEOUT_RANGE)?, found))
    };
    let total = wait("total_timeout");
    let first_byte = wait("first_byte_timeout");
    if let (Some((total, _)), Some((wait, found))) = (&total, &first_byte) {
        expect_reachable(*wait, *total, "total_timeout", found);
    }
    let limit = section.table("rate_limit");
    let limit = limit.map(|table| rate_limit(table, false));
    if let Some(action) = &action {
        action::note_without_effect(&mut section, action);
    }
    let route = Route {
        name,
        matcher,
        rewrite,
        request_headers: headers::changes(&mut section, "request_headers"),
        response_headers: headers::changes(&mut section, "response_headers"),
        rate_limit: limit.and_then(Switched::in_force),
        concurrent_requests: concurrent.and_then(|found| found.integer(1..=REQUESTS_MAX)),
        cors: section.table("cors").and_then(headers::cors),
        access: access(&mut section),
        body_bytes: body.and_then(|found| size(&found)),
        total_timeout: total.map(|(wait, _)| wait),
        upstream_first_byte: first_byte.map(|(wait, _)| wait),
        // Its mistake is noted: this one is never used.
        action: action.unwrap_or(RouteAction::Respond {
            status: 500,
            body: String::new(),
        }),
    };
    section.finish();
    route
}

/// Its own, else by its place; unique.
fn name(section: &mut Section<'_>, place: usize, names: &mut Vec<String>) -> String {
    let found = section.optional("name");
    let written = found.as_ref().and_then(|found| found.string());
    let name = written.unwrap_or_else(|| format!("route-{}", place + 1));
    if names.contains(&name) {
        let problem = format!("another route is named {name:?}");
        match &found {
            Some(found) => found.mistake(problem, Some("choose another name".to_owned())),
            None => section.mistake(problem, Some("give this one a name".to_owned())),
        }
    }
    names.push(name.clone());
    name
}
