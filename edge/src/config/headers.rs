//! Header names and values in a configuration, security headers, CORS.
//!
//! Room  pure.
//! Holds what a message's framing is made of cannot be set, added or removed.

use std::ops::RangeInclusive;
use std::time::Duration;

use dataplane::settings::{Found, Section};
use edge::policy::is_framing_or_hop_by_hop;
use edge::settings::{Cors, HeaderChanges, HeaderMatch, SecurityHeaders};

/// How long a browser may remember a preflight (the longest that any of them honours).
const MAX_AGE_RANGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);

type Refusal = (String, Option<String>);

/// A field name in lower case.
fn name(text: &str) -> Result<String, Refusal> {
    match http::HeaderName::from_bytes(text.as_bytes()) {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(_) => Err((format!("{text:?} is no header name"), None)),
    }
}

/// A field name that a route may change.
fn changeable(text: &str) -> Result<String, Refusal> {
    let name = name(text)?;
    if is_framing_or_hop_by_hop(name.as_bytes()) || name == "host" {
        let hint = (name == "host").then(|| "use host = \"...\" of the route".to_owned());
        return Err((
            format!("{name:?} belongs to the proxy and cannot be changed"),
            hint,
        ));
    }
    Ok(name)
}

fn value(found: &Found<'_>) -> Option<String> {
    found.parsed("a header value", |text| {
        http::HeaderValue::from_str(text)
            .map(|_| text.to_owned())
            .map_err(|_| (format!("{text:?} cannot be a header value"), None))
    })
}

/// `{ set = { a = "b" }, add = {…}, remove = ["c"] }`.
pub(super) fn changes(section: &mut Section<'_>, key: &'static str) -> HeaderChanges {
    let Some(mut table) = section.table(key) else {
        return HeaderChanges::default();
    };
    let pairs = |table: &mut Section<'_>, key| {
        let found = table.optional(key);
        found.map(|found| pairs(&found)).unwrap_or_default()
    };
    let set = pairs(&mut table, "set");
    let add = pairs(&mut table, "add");
    let removed = table.optional("remove");
    let removed = removed.as_ref().map(Found::items).unwrap_or_default();
    let remove = removed
        .iter()
        .filter_map(|item| item.parsed("a header name", changeable))
        .collect();
    table.finish();
    HeaderChanges { set, add, remove }
}

fn pairs(found: &Found<'_>) -> Vec<(String, String)> {
    let entries = found.entries();
    let read = |(key, found): &(String, Found<'_>)| {
        let name = match changeable(key) {
            Ok(name) => name,
            Err((problem, hint)) => {
                found.mistake(problem, hint);
                return None;
            }
        };
        Some((name, value(found)?))
    };
    entries.iter().filter_map(read).collect()
}

/// `headers = { x-canary = "1", authorization = true }`: `true` is any value.
pub(super) fn conditions(found: &Found<'_>) -> Vec<HeaderMatch> {
    let entries = found.entries();
    let read = |(key, found): &(String, Found<'_>)| {
        let name = match name(key) {
            Ok(name) => name,
            Err((problem, hint)) => {
                found.mistake(problem, hint);
                return None;
            }
        };
        let value = if found.is_string() {
            Some(value(found)?)
        } else {
            if found.boolean()? {
                None
            } else {
                found.mistake("write true for \"there, with any value\"", None);
                return None;
            }
        };
        Some(HeaderMatch { name, value })
    };
    entries.iter().filter_map(read).collect()
}

pub(super) fn frame_options(found: &Found<'_>) -> Option<String> {
    let words = [("DENY", "DENY"), ("SAMEORIGIN", "SAMEORIGIN")];
    found.choice("X-Frame-Options", &words).map(str::to_owned)
}

/// `[security_headers]`; `enabled = false` is as if it were not there.
pub(super) fn security(mut section: Section<'_>) -> Option<SecurityHeaders> {
    let mut headers = SecurityHeaders::default();
    let enabled = section
        .optional("enabled")
        .and_then(|found| found.boolean());
    if let Some(found) = section.optional("hsts_max_age") {
        headers.hsts_max_age = match found.integer(0..=10_000_000_000_u64) {
            Some(0) => None,
            Some(age) => Some(age),
            None => headers.hsts_max_age,
        };
    }
    let mut flag = |key, slot: &mut bool| {
        if let Some(value) = section.optional(key).and_then(|found| found.boolean()) {
            *slot = value;
        }
    };
    flag(
        "hsts_include_subdomains",
        &mut headers.hsts_include_subdomains,
    );
    flag("hsts_preload", &mut headers.hsts_preload);
    flag("content_type_nosniff", &mut headers.content_type_nosniff);
    let mut text = |key, slot: &mut Option<String>| {
        if let Some(found) = section.optional(key) {
            *slot = if found.is_word("off") {
                None
            } else {
                value(&found)
            };
        }
    };
    text(
        "content_security_policy",
        &mut headers.content_security_policy,
    );
    text("referrer_policy", &mut headers.referrer_policy);
    text("permissions_policy", &mut headers.permissions_policy);
    if let Some(found) = section.optional("frame_options") {
        headers.frame_options = if found.is_word("off") {
            None
        } else {
            frame_options(&found)
        };
    }
    section.finish();
    (enabled != Some(false)).then_some(headers)
}

/// `[cors]`.
pub(super) fn cors(mut section: Section<'_>) -> Option<Cors> {
    let origins = section.required(
        "origins",
        "who may ask, such as [\"https://app.example.com\"]",
    );
    let list = |found: Option<Found<'_>>| -> Vec<String> {
        let items = found.as_ref().map(Found::items).unwrap_or_default();
        items.iter().filter_map(Found::string).collect()
    };
    let credentials = section.optional("credentials");
    let allowed = credentials
        .as_ref()
        .and_then(Found::boolean)
        .unwrap_or(false);
    let methods = list(section.optional("methods"));
    let headers = list(section.optional("headers"));
    let expose = list(section.optional("expose"));
    let age = section.optional("max_age");
    let max_age = age.and_then(|found| found.duration(MAX_AGE_RANGE));
    section.finish();
    let spot = origins?;
    let origins: Vec<String> = spot.items().iter().filter_map(origin).collect();
    if origins.iter().any(|origin| origin == "*") {
        if origins.len() > 1 {
            spot.mistake(
                "\"*\" stands for every origin; the others have no effect",
                None,
            );
        }
        if let (true, Some(found)) = (allowed, &credentials) {
            found.mistake(
                "credentials for any origin would let every site act as the user",
                Some("list the origins".to_owned()),
            );
        }
    }
    let or_default = |list: Vec<String>, default: &[&str]| {
        if list.is_empty() {
            default.iter().map(|word| (*word).to_owned()).collect()
        } else {
            list
        }
    };
    Some(Cors {
        origins,
        methods: or_default(methods, &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
        headers: or_default(headers, &["content-type", "authorization"]),
        expose,
        credentials: allowed,
        max_age: max_age.unwrap_or(Duration::from_secs(600)),
    })
}

fn origin(found: &Found<'_>) -> Option<String> {
    found.parsed("an origin such as \"https://app.example.com\"", |text| {
        let rest = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"));
        let is_origin = rest.is_some_and(edge::http1::is_authority);
        if text == "*" || is_origin {
            Ok(text.to_owned())
        } else {
            Err((
                format!("{text:?} is no origin"),
                Some("write it like \"https://app.example.com\", without a path".to_owned()),
            ))
        }
    })
}
