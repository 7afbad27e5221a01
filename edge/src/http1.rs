//! HTTP/1.1 messages: where they begin, where they end, and which ones are refused (RFC 9112).
//!
//! ```text
//!   bytes ──▶ lines (CRLF only) ──▶ httparse: tokens ──▶ fields ──▶ framing ──▶ RequestHead | ResponseHead
//!   bytes ──▶ BodyDecoder ──▶ runs of data, trailers, end
//! ```
//!
//! Room  pure: no socket, no clock.
//! Holds when in doubt about where a message ends it is refused; the same bytes are judged the same in whatever
//!       pieces they come; nothing panics.

mod body;
mod chunked;
mod fields;
mod refused;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use body::{BodyDecoder, Decoded, Truncated};
pub use chunked::{ChunkedDecoder, chunk_header};
pub(crate) use fields::is_token;
pub use fields::{Fields, is_authority};
pub use refused::Refused;
pub use request::{RequestBody, RequestHead, RequestTarget, parse_request};
pub use response::{ResponseBody, ResponseHead, ResponseTo, parse_response};

/// Bounds of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes, the empty line included.
    pub bytes: usize,
    /// Field lines; at most 256 whatever is asked for.
    pub lines: usize,
}

/// The versions that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}
