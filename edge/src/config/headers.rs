//! Header names and values in a configuration, security headers, CORS.
//!
//! Room  pure.
//! Holds what a message's framing is made of cannot be set, added or removed.

use std::ops::RangeInclusive;
use std::time::Duration;

use dataplane::settings::{Found, Section};
use edge::http1::is_authority;
use edge::policy::is_framing_or_hop_by_hop;
use edge::settings::{Cors, HeaderChanges, HeaderMatch, SecurityHeaders};

use super::environment::Switched;
use super::route::method;

/// How long a browser may remember a preflight (the longest that any of them honours).
const MAX_AGE_RANGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);

/// Least HSTS age, in seconds, with which browsers' preload lists take a name (hstspreload.org).
const PRELOAD_AGE_MIN: u64 = 31_536_000;

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

/// `Some(None)`: off. `None`: it is wrong.
pub(super) fn frame_options(found: &Found<'_>) -> Option<Option<String>> {
    let words = [
        ("DENY", Some("DENY")),
        ("SAMEORIGIN", Some("SAMEORIGIN")),
        ("off", None),
    ];
    let chosen = found.choice("X-Frame-Options", &words)?;
    Some(chosen.map(str::to_owned))
}

/// `Some(None)`: off. `None`: it is wrong.
pub(super) fn value_or_off(found: &Found<'_>) -> Option<Option<String>> {
    if found.is_word("off") {
        return Some(None);
    }
    if found.is_word("") {
        let hint = "write \"off\" to send no such header";
        found.mistake("must not be empty", Some(hint.to_owned()));
        return None;
    }
    value(found).map(Some)
}

/// `[security_headers]`.
pub(super) fn security(mut section: Section<'_>) -> Switched<SecurityHeaders> {
    let mut headers = SecurityHeaders::default();
    let enabled = section.optional("enabled");
    let is_on = enabled.and_then(|found| found.boolean());
    if let Some(found) = section.optional("hsts_max_age") {
        headers.hsts_max_age = found
            .integer(0..=10_000_000_000_u64)
            .filter(|age| *age != 0);
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
    flag("content_type_nosniff", &mut headers.content_type_nosniff);
    let preload = section.optional("hsts_preload");
    headers.hsts_preload = preload.as_ref().and_then(Found::boolean).unwrap_or(false);
    let is_for_good = headers.hsts_include_subdomains
        && headers
            .hsts_max_age
            .is_some_and(|age| age >= PRELOAD_AGE_MIN);
    if let (true, false, Some(found)) = (headers.hsts_preload, is_for_good, &preload) {
        found.mistake(
            format!("browsers' lists take a name only with hsts_include_subdomains = true and hsts_max_age of {PRELOAD_AGE_MIN} or more"),
            None,
        );
    }
    let mut text = |key, slot: &mut Option<String>| {
        let found = section.optional(key);
        if let Some(value) = found.and_then(|found| value_or_off(&found)) {
            *slot = value;
        }
    };
    text(
        "content_security_policy",
        &mut headers.content_security_policy,
    );
    text("referrer_policy", &mut headers.referrer_policy);
    text("permissions_policy", &mut headers.permissions_policy);
    let options = section.optional("frame_options");
    if let Some(options) = options.and_then(|found| frame_options(&found)) {
        headers.frame_options = options;
    }
    section.finish();
    Switched {
        is_on,
        value: headers,
    }
}

/// `[cors]`.
pub(super) fn cors(mut section: Section<'_>) -> Option<Cors> {
    let origins = section.required(
        "origins",
        "who may ask, such as [\"https://app.example.com\"]",
    );
    let credentials = section.optional("credentials");
    let allowed = credentials.as_ref().and_then(Found::boolean);
    let allowed = allowed.unwrap_or(false);
    let mut list = |key, wanted, read: fn(&str) -> Result<String, Refusal>| -> Vec<String> {
        let found = section.optional(key);
        let items = found.as_ref().map(Found::items).unwrap_or_default();
        let words = items.iter().filter_map(|item| {
            let word = item.parsed(wanted, read)?;
            if word == "*" && allowed {
                let hint = Some("list them".to_owned());
                item.mistake("with credentials \"*\" is not any, but a name", hint);
            }
            Some(word)
        });
        words.collect()
    };
    let methods = list("methods", "a method", method);
    let headers = list("headers", "a header name", name);
    let expose = list("expose", "a header name", name);
    let age = section.optional("max_age");
    let max_age = age.and_then(|found| found.duration(MAX_AGE_RANGE));
    section.finish();
    let origins = self::origins(&origins?, credentials.as_ref().filter(|_| allowed));
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

/// `credentials`: where they are allowed.
fn origins(found: &Found<'_>, credentials: Option<&Found<'_>>) -> Vec<String> {
    let items = found.items();
    if items.is_empty() && found.is_array() {
        let hint = "write [\"https://app.example.com\"], or leave the table out";
        found.mistake("nobody may ask", Some(hint.to_owned()));
    }
    let origins: Vec<String> = items.iter().filter_map(origin).collect();
    if origins.iter().any(|origin| origin == "*") {
        if origins.len() > 1 {
            found.mistake(
                "\"*\" stands for every origin; the others have no effect",
                None,
            );
        }
        if let Some(found) = credentials {
            found.mistake(
                "credentials for any origin would let every site act as the user",
                Some("list the origins".to_owned()),
            );
        }
    }
    origins
}

/// As browsers send it: lower-case, without a port that the scheme implies.
fn origin(found: &Found<'_>) -> Option<String> {
    found.parsed("an origin such as \"https://app.example.com\"", |text| {
        let lower = text.to_ascii_lowercase();
        if lower == "*" {
            return Ok(lower);
        }
        let parts = [("https://", ":443"), ("http://", ":80")];
        let parts = parts.into_iter().find_map(|(scheme, port)| {
            let rest = lower.strip_prefix(scheme)?;
            is_authority(rest).then(|| rest.strip_suffix(port))
        });
        match parts {
            Some(None) if !lower.ends_with(':') => Ok(lower),
            Some(Some(_)) => {
                let end = lower.rfind(':').unwrap_or(lower.len());
                let (bare, _) = lower.split_at(end);
                Err((
                    format!("no browser sends {text:?}: the port is that of the scheme"),
                    Some(format!("write {bare:?}")),
                ))
            }
            _ => Err((
                format!("{text:?} is no origin"),
                Some("write it like \"https://app.example.com\", without a path".to_owned()),
            )),
        }
    })
}
