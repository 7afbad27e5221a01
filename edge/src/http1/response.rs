//! The head of a backend's response, or why it is refused.
//!
//! Room  pure. As strict about framing as with a client: a backend's mistake must not become another client's
//!       answer.

use std::mem::MaybeUninit;

use crate::field::Field;
use crate::http1::fields::{
    Fields, LINES_MAX, collect, content_length, head_end, is_chunked, lists, upgrade,
};
use crate::http1::request::{check_lines, refused};
use crate::http1::{HeadLimits, Refused, Version};

/// What follows a response's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseBody {
    None,
    /// May be 0.
    Length(u64),
    Chunked,
    /// Everything until the connection ends.
    UntilClose,
}

/// Which request a response answers: that decides whether it has a body (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseTo {
    pub is_head: bool,
    pub is_connect: bool,
}

/// A response's head.
#[derive(Clone, Debug)]
pub struct ResponseHead<'b> {
    pub status: u16,
    pub reason: &'b [u8],
    pub version: Version,
    pub body: ResponseBody,
    /// The backend's connection can be used again after the body.
    pub keep_alive: bool,
    /// The protocol that is switched to.
    pub upgrade: Option<&'b str>,
    /// Bytes of the head, the empty line included.
    pub len: usize,
    fields: Fields<'b>,
}

impl<'b> ResponseHead<'b> {
    /// The fields in the order sent.
    #[must_use]
    pub fn fields(&self) -> &[Field<'b>] {
        self.fields.as_slice()
    }
}

/// Reads a head from the front of `bytes`; `None`: it is not complete.
///
/// # Errors
/// [`Refused`]: what it is can never become a response that is passed on.
pub fn parse_response<'b>(
    bytes: &'b [u8],
    limits: &HeadLimits,
    to: ResponseTo,
) -> Result<Option<ResponseHead<'b>>, Refused> {
    let Some(length) = head_end(bytes)? else {
        return incomplete(bytes, limits).map(|()| None);
    };
    if length > limits.bytes {
        return Err(Refused::HeadTooLarge);
    }
    let head = bytes.get(..length).unwrap_or_default();
    check_lines(head)?;
    let mut room = [const { MaybeUninit::uninit() }; LINES_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, head, &mut room) {
        // Both must see the same end.
        Ok(httparse::Status::Complete(end)) if end == length => {}
        Ok(_) => return Err(Refused::StatusLine),
        Err(error) => {
            return Err(match refused(error, head) {
                Refused::RequestLine => Refused::StatusLine,
                other => other,
            });
        }
    }
    let fields = collect(parsed.headers, limits)?;
    let version = match parsed.version {
        Some(0) => Version::Http10,
        Some(1) => Version::Http11,
        _ => return Err(Refused::Version),
    };
    let status = parsed.code.unwrap_or(0);
    if !(100..=999).contains(&status) {
        return Err(Refused::StatusLine);
    }
    let list = fields.as_slice();
    let body = body(list, version, status, to)?;
    let keep_alive = match version {
        Version::Http11 => !lists(list, "connection", "close"),
        Version::Http10 => {
            lists(list, "connection", "keep-alive") && !lists(list, "connection", "close")
        }
    };
    Ok(Some(ResponseHead {
        status,
        reason: parsed.reason.unwrap_or_default().as_bytes(),
        version,
        body,
        keep_alive: keep_alive && body != ResponseBody::UntilClose,
        upgrade: if status == 101 { upgrade(list) } else { None },
        len: length,
        fields,
    }))
}

/// A head that is not there yet, but may be refused already: what does not begin like a response never becomes one.
fn incomplete(bytes: &[u8], limits: &HeadLimits) -> Result<(), Refused> {
    const START: &[u8] = b"HTTP/";
    let count = bytes.len().min(START.len());
    if bytes.get(..count) != START.get(..count) {
        return Err(Refused::StatusLine);
    }
    if bytes.len() >= limits.bytes {
        return Err(Refused::HeadTooLarge);
    }
    Ok(())
}

fn body(
    fields: &[Field<'_>],
    version: Version,
    status: u16,
    to: ResponseTo,
) -> Result<ResponseBody, Refused> {
    let length = content_length(fields)?;
    let chunked = is_chunked(fields)?;
    match (chunked, length) {
        (true, Some(_)) => return Err(Refused::LengthAndCoding),
        (true, None) if version == Version::Http10 => return Err(Refused::CodingInHttp10),
        _ => {}
    }
    // A body after these would be taken for the next response (RFC 9112 sections 6.1 and 6.2).
    let never = status < 200 || status == 204;
    if never && (chunked || length.is_some_and(|length| length > 0)) {
        return Err(Refused::BodyNotAllowed);
    }
    let bodiless =
        to.is_head || never || status == 304 || (to.is_connect && (200..300).contains(&status));
    Ok(match (bodiless, chunked, length) {
        (true, _, _) => ResponseBody::None,
        (false, true, _) => ResponseBody::Chunked,
        (false, false, Some(length)) => ResponseBody::Length(length),
        (false, false, None) => ResponseBody::UntilClose,
    })
}
