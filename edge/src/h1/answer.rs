//! Answers of our own as HTTP/1.1 bytes, and the heads of answers that are passed on.
//!
//! Room  pure: values in, bytes out.

use crate::field::{Field, FieldSink as _};
use crate::http1::{ResponseBody, ResponseHead, Version};
use crate::policy::{Answer, Client, Policy};

/// The reason phrase of a status (RFC 9110 section 15); empty for an unknown one.
pub(crate) fn phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("")
}

/// `HTTP/1.1 404 Not Found` and its line end.
pub(crate) fn status_line(status: u16, reason: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// How an answer of our own ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Framing {
    /// The body is only described.
    pub(crate) is_head: bool,
    /// The connection ends with it.
    pub(crate) close: bool,
}

/// A whole answer of our own.
pub(crate) fn whole(
    policy: &Policy,
    answer: &Answer,
    client: &Client,
    origin: Option<&str>,
    framing: Framing,
    out: &mut Vec<u8>,
) {
    status_line(answer.status, phrase(answer.status).as_bytes(), out);
    policy.write_answer_fields(answer, client, origin, out);
    let has_body = answer.status >= 200 && answer.status != 204 && answer.status != 304;
    if has_body {
        let mut digits = itoa::Buffer::new();
        out.put(
            b"Content-Length",
            digits.format(answer.body.len()).as_bytes(),
        );
    }
    if framing.close {
        out.put(b"Connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if has_body && !framing.is_head {
        out.extend_from_slice(&answer.body);
    }
}

/// How a backend's body reaches this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// No body, or one of known length.
    Sized,
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// Length and coding as the client can understand them; a body of unknown length closes an HTTP/1.0 connection.
pub(crate) fn delivery(body: &ResponseBody, client: Version) -> Delivery {
    match (body, client) {
        (ResponseBody::None | ResponseBody::Length(_), _) => Delivery::Sized,
        (ResponseBody::Chunked | ResponseBody::UntilClose, Version::Http11) => Delivery::Chunked,
        (ResponseBody::Chunked | ResponseBody::UntilClose, Version::Http10) => Delivery::UntilClose,
    }
}

/// The framing fields of a passed-on answer, and the end of its head.
pub(crate) fn finish_head(
    head: &ResponseHead<'_>,
    fields: &[Field<'_>],
    delivery: Delivery,
    client: Version,
    close: bool,
    out: &mut Vec<u8>,
) {
    match (&head.body, delivery) {
        (ResponseBody::Length(length), _) => {
            let mut digits = itoa::Buffer::new();
            out.put(b"Content-Length", digits.format(*length).as_bytes());
        }
        // HEAD and 304 tell how long the body would be (RFC 9110 section 8.6).
        (ResponseBody::None, _) if head.status >= 200 && head.status != 204 => {
            if let Some(length) = fields.iter().find(|field| field.is("content-length")) {
                out.put(b"Content-Length", length.value);
            }
        }
        (_, Delivery::Chunked) => out.put(b"Transfer-Encoding", b"chunked"),
        _ => {}
    }
    if close {
        out.put(b"Connection", b"close");
    } else if client == Version::Http10 {
        out.put(b"Connection", b"keep-alive");
    }
    out.extend_from_slice(b"\r\n");
}
