//! The head of a request as a backend gets it.
//!
//! Room  pure: a decision and a head in, bytes out.
//! Holds the framing is written anew from what was parsed; nothing of the client's own framing is passed on.

use http::request::Parts;
use http::{HeaderMap, Uri};

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

/// The head for a backend that speaks HTTP/2; `None` where the target cannot be one.
pub(crate) fn http2_parts(
    policy: &Policy,
    forwarding: &Forwarding<'_>,
    asked: &Asked<'_>,
    client: &Client,
    is_tls: bool,
) -> Option<Parts> {
    let mut target = Vec::with_capacity(256);
    policy.write_target(forwarding, asked, &mut target);
    let mut fields = HeaderMap::with_capacity(asked.fields.len() + 8);
    policy.write_request_fields(forwarding, asked, client, &mut fields);
    let host = fields.remove(http::header::HOST);
    let authority = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or("");
    let uri = Uri::builder()
        .scheme(if is_tls { "https" } else { "http" })
        .authority(authority)
        .path_and_query(target.as_slice())
        .build()
        .ok()?;
    if let Some(length) = asked.body_length {
        fields.put(b"content-length", length.to_string().as_bytes());
    }
    // The only value that HTTP/2 knows (RFC 9113 section 8.2.2); gRPC does not work without it.
    let wants_trailers = asked.fields.iter().any(|field| {
        field.is("te") && field.value.to_ascii_lowercase().windows(8).any(|w| w == b"trailers")
    });
    if wants_trailers {
        fields.put(b"te", b"trailers");
    }
    let mut request = http::Request::builder().method(asked.method).uri(uri).body(()).ok()?;
    *request.headers_mut() = fields;
    *request.version_mut() = http::Version::HTTP_2;
    Some(request.into_parts().0)
}
