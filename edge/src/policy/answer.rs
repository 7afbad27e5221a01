//! The proxy's own answers: errors in the form that the client asked for, redirects, fixed bodies.
//!
//! Room  pure.
//! Holds nothing that a client sent stands unescaped in a page; errors are never cached.

use std::borrow::Cow;
use std::net::IpAddr;

use bytes::Bytes;
use serde_json::json;

use crate::settings::ErrorPages;

use super::RequestId;

/// A whole answer. HEAD gets its head only: that is the engine's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Lower-case names; without framing and content type.
    pub fields: Vec<(Cow<'static, str>, String)>,
    pub body: Bytes,
    /// Empty: no body, no Content-Type.
    pub content_type: &'static str,
    /// Why, for the access log's `end_reason`.
    pub end: &'static str,
    /// The route it belongs to, by [`super::CompiledRoute::index`].
    pub route: Option<usize>,
    pub request_id: RequestId,
    /// Who is believed to have asked; set by [`super::Policy::decide`].
    pub client_ip: Option<IpAddr>,
}

impl Answer {
    pub(super) fn empty(status: u16, end: &'static str) -> Self {
        Self {
            status,
            fields: Vec::new(),
            body: Bytes::new(),
            content_type: "",
            end,
            route: None,
            request_id: RequestId::generated(0),
            client_ip: None,
        }
    }

    /// A route's own text.
    pub(super) fn fixed(status: u16, body: String) -> Self {
        Self {
            content_type: if body.is_empty() {
                ""
            } else {
                "text/plain; charset=utf-8"
            },
            body: Bytes::from(body),
            ..Self::empty(status, "route_respond")
        }
    }

    /// One more field; `name` is lower-case, `value` has no control characters.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: String) -> Self {
        self.fields.push((Cow::Borrowed(name), value));
        self
    }

    #[must_use]
    pub(super) fn of(mut self, route: usize) -> Self {
        self.route = Some(route);
        self
    }

    /// The first value of a field; `name` is lower-case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The configured pages of a [`super::Policy`].
#[derive(Debug)]
pub(super) struct Pages(ErrorPages);

impl Pages {
    pub(super) fn new(pages: ErrorPages) -> Self {
        Self(pages)
    }

    pub(super) fn answer(
        &self,
        status: u16,
        end: &'static str,
        accept: Option<&str>,
        request_id: &RequestId,
    ) -> Answer {
        error_answer(status, end, &self.0, accept, request_id)
    }
}

/// An error as HTML, JSON or plain text, whichever `accept` likes best; plain text where it does not care, or
/// the configured page where there is one. `end` is the access log's reason; people read the status's own phrase.
pub fn error_answer(
    status: u16,
    end: &'static str,
    pages: &ErrorPages,
    accept: Option<&str>,
    request_id: &RequestId,
) -> Answer {
    let reason = reason(status);
    let page = pages.html.get(&status);
    let (content_type, body) = match form(accept, page.is_some()) {
        Form::Html => (
            "text/html; charset=utf-8",
            html(
                page.map_or(BUILT_IN, String::as_str),
                status,
                reason,
                request_id,
            ),
        ),
        Form::Json => (
            "application/json",
            json!({"error": {
                "status": status,
                "reason": reason,
                "request_id": request_id.as_str(),
            }})
            .to_string(),
        ),
        Form::Plain => (
            "text/plain; charset=utf-8",
            format!("{status} {reason}\nrequest {request_id}\n"),
        ),
    };
    Answer {
        body: Bytes::from(body),
        content_type,
        request_id: *request_id,
        ..Answer::empty(status, end)
    }
    .with("cache-control", "no-store".to_owned())
}

const BUILT_IN: &str = "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><title>{status} {reason}</title></head>\n\
<body><h1>{status} {reason}</h1><p>Request <code>{request_id}</code></p></body>\n</html>\n";

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Error")
}

/// Fills a page in one pass, so that a value is never searched for placeholders itself.
fn html(page: &str, status: u16, reason: &str, request_id: &RequestId) -> String {
    let mut out = String::with_capacity(page.len() + 64);
    let mut rest = page;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("{status}") {
            out.push_str(&status.to_string());
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{reason}") {
            escape(&mut out, reason);
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{request_id}") {
            escape(&mut out, request_id.as_str());
            rest = after;
        } else {
            out.push('{');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}

fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Html,
    Json,
    Plain,
}

/// The best liked of our three (RFC 9110 section 12.5.1); of equally liked ones the first in this order, only
/// those named outright.
fn form(accept: Option<&str>, has_page: bool) -> Form {
    let indifferent = if has_page { Form::Html } else { Form::Plain };
    let mut best = (0, indifferent);
    // More ranges than this nobody sends in earnest.
    for range in accept.unwrap_or_default().split(',').take(32) {
        let mut parts = range.split(';').map(str::trim);
        let named = parts.next().unwrap_or_default().to_ascii_lowercase();
        let form = match named.as_str() {
            "text/html" | "application/xhtml+xml" => Form::Html,
            "application/json" => Form::Json,
            "text/plain" => Form::Plain,
            "*/*" | "text/*" | "application/*" => continue,
            other if other.ends_with("+json") => Form::Json,
            _ => continue,
        };
        let weight = parts
            .find_map(|part| part.strip_prefix("q="))
            .map_or(1000, thousandths);
        if weight > best.0 {
            best = (weight, form);
        }
    }
    best.1
}

/// `0.75` as 750; 0 where it is no weight.
fn thousandths(weight: &str) -> u32 {
    match weight.parse::<f32>() {
        Ok(weight) if weight >= 1.0 => 1000,
        Ok(weight) if weight > 0.0 => (1..1000)
            .rev()
            .find(|thousandth| f64::from(*thousandth) <= f64::from(weight) * 1000.0)
            .unwrap_or(1),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
