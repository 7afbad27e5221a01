//! The head of a request as a backend gets it.
//!
//! Room  pure: a decision and a head in, bytes out.
//! Holds the framing is written anew from what was parsed; nothing of the client's own framing is passed on.

use crate::field::FieldSink as _;
use crate::http1::RequestBody;
use crate::policy::{Asked, Client, Forwarding, Policy};

/// An HTTP/1.1 head.
pub(crate) fn http1_head(
    policy: &Policy,
    forwarding: &Forwarding<'_>,
    asked: &Asked<'_>,
    client: &Client,
    body: &RequestBody,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(asked.method.as_bytes());
    out.push(b' ');
    policy.write_target(forwarding, asked, out);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    policy.write_request_fields(forwarding, asked, client, out);
    match body {
        RequestBody::Length(length) => {
            let mut digits = itoa::Buffer::new();
            out.put(b"Content-Length", digits.format(*length).as_bytes());
        }
        RequestBody::Chunked => out.put(b"Transfer-Encoding", b"chunked"),
        // Methods that carry meaning in a body say that there is none (RFC 9110 section 8.6).
        RequestBody::None if matches!(asked.method, "POST" | "PUT" | "PATCH") => {
            out.put(b"Content-Length", b"0");
        }
        RequestBody::None => {}
    }
    if let Some(protocol) = asked.upgrade {
        out.put(b"Connection", b"upgrade");
        out.put(b"Upgrade", protocol.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}
