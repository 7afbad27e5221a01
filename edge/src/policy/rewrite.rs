//! Targets: what a backend is asked for, and where a redirect points.
//!
//! Room  pure.
//! Holds a target towards a backend begins with one `/` (or is `*`); a Location is always absolute, so that a
//!       path like `//other.example` leads nowhere else.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::settings::Redirect;

use super::answer::Answer;
use super::router::without_port;
use super::{Asked, CompiledRoute, Forwarding, Policy};

#[cfg(test)]
mod tests;

impl Policy {
    /// `path?query` for the backend. Appends to `out`.
    pub fn write_target(&self, forwarding: &Forwarding<'_>, asked: &Asked<'_>, out: &mut Vec<u8>) {
        write_target(forwarding.route, asked, out);
    }
}

pub(super) fn write_target(route: &CompiledRoute, asked: &Asked<'_>, out: &mut Vec<u8>) {
    let rewrite = &route.rewrite;
    let mut path = asked.path;
    let mut stripped = false;
    if let Some(whole) = &rewrite.path {
        path = whole;
    } else if rewrite.strip_prefix
        && let Some(rest) = path.strip_prefix(route.matched_path.trim_end_matches('/'))
    {
        path = rest;
        stripped = true;
    }
    // `/api//x` without `/api` must not become `//x`: some backends read an authority there.
    if stripped {
        path = path.trim_start_matches('/');
    }
    if let Some(prefix) = &rewrite.add_prefix
        && rewrite.path.is_none()
    {
        out.extend_from_slice(prefix.trim_end_matches('/').as_bytes());
        stripped |= !path.starts_with('/');
    }
    if stripped {
        out.push(b'/');
    }
    out.extend_from_slice(path.as_bytes());
    if let Some(query) = asked.query {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
}

/// The answer of a listener that only points to https; `None` where the request names no host.
pub(super) fn to_https(asked: &Asked<'_>, port: u16) -> Option<Answer> {
    let host = without_port(asked.host);
    if host.is_empty() {
        return None;
    }
    let status = match asked.method {
        "GET" | "HEAD" => 301,
        // A 301 lets clients turn POST into GET (RFC 9110 section 15.4.2).
        _ => 308,
    };
    let port = (port != 443).then_some(port);
    Some(to(status, "https", host, port, asked.path, asked.query).tagged("redirect_to_https"))
}

/// A route's redirect. What it does not say is the request's.
pub(super) fn redirect(redirect: &Redirect, asked: &Asked<'_>, is_tls: bool) -> Answer {
    let asked_scheme = if is_tls { "https" } else { "http" };
    let scheme = redirect.scheme.as_deref().unwrap_or(asked_scheme);
    let host = redirect
        .host
        .as_deref()
        .unwrap_or_else(|| without_port(asked.host));
    let port = redirect.port.or_else(|| {
        // The request's port belongs to its own scheme and host.
        (scheme == asked_scheme && redirect.host.is_none())
            .then(|| {
                asked
                    .host
                    .strip_prefix(host)?
                    .strip_prefix(':')?
                    .parse()
                    .ok()
            })
            .flatten()
    });
    let port = port.filter(|port| !matches!((scheme, *port), ("http", 80) | ("https", 443)));
    let path = redirect.path.as_deref().unwrap_or(asked.path);
    to(redirect.status, scheme, host, port, path, asked.query).tagged("route_redirect")
}

fn to(
    status: u16,
    scheme: &str,
    host: &str,
    port: Option<u16>,
    path: &str,
    query: Option<&str>,
) -> Answer {
    let mut location = format!("{scheme}://{}", printable(host));
    if let Some(port) = port {
        let _ = write!(location, ":{port}");
    }
    if path.starts_with('/') {
        location.push_str(&printable(path));
    } else {
        // `OPTIONS *`.
        location.push('/');
    }
    if let Some(query) = query {
        location.push('?');
        location.push_str(&printable(query));
    }
    Answer::empty(status, "redirect").with("location", location)
}

impl Answer {
    fn tagged(mut self, end: &'static str) -> Self {
        self.end = end;
        self
    }
}

/// Percent-encodes what may not stand in a URI: nothing that came in a request can end a field line.
fn printable(text: &str) -> Cow<'_, str> {
    let good = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\');
    if text.bytes().all(good) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if good(byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    Cow::Owned(encoded)
}
