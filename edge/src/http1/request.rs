//! The head of a request, or why it is refused.
//!
//! Room  pure.
//! Holds whatever two servers could read differently is refused here (proxy-features study, 3.4).

use std::mem::MaybeUninit;

use crate::field::Field;
use crate::http1::fields::{
    Fields, LINES_MAX, collect, content_length, head_end, is_authority, is_chunked, is_token,
    lists, upgrade,
};
use crate::http1::{HeadLimits, Refused, Version};

/// Longest method, in bytes. Sized: the longest registered one has 17.
const METHOD_BYTES_MAX: usize = 32;

/// What follows a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestBody {
    None,
    /// At least one byte.
    Length(u64),
    Chunked,
}

/// What is asked for (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestTarget<'b> {
    Origin {
        path_and_query: &'b str,
    },
    Absolute {
        scheme: &'b str,
        path_and_query: &'b str,
    },
    /// CONNECT.
    Authority(&'b str),
    /// OPTIONS.
    Asterisk,
}

/// A request's head.
#[derive(Clone, Debug)]
pub struct RequestHead<'b> {
    pub method: &'b str,
    pub target: RequestTarget<'b>,
    pub version: Version,
    /// `host` or `host:port`; empty only where HTTP/1.0 sent none.
    pub authority: &'b str,
    pub body: RequestBody,
    /// The client can use its connection again after the answer.
    pub keep_alive: bool,
    /// The protocol that is asked for.
    pub upgrade: Option<&'b str>,
    pub expect_continue: bool,
    /// Bytes of the head, the empty line included.
    pub len: usize,
    fields: Fields<'b>,
}

impl<'b> RequestHead<'b> {
    /// The fields in the order sent.
    #[must_use]
    pub fn fields(&self) -> &[Field<'b>] {
        self.fields.as_slice()
    }
}

/// Reads a head from the front of `bytes`; `None`: it is not complete.
///
/// # Errors
/// [`Refused`]: what it is can never become a request that is served.
pub fn parse_request<'b>(
    bytes: &'b [u8],
    limits: &HeadLimits,
) -> Result<Option<RequestHead<'b>>, Refused> {
    // One empty line before a request is tolerated (RFC 9112 section 2.2).
    let skipped = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let bytes = bytes.get(skipped..).unwrap_or_default();
    let Some(length) = head_end(bytes)? else {
        return incomplete(bytes, skipped, limits).map(|()| None);
    };
    if length + skipped > limits.bytes {
        return Err(too_large(bytes, skipped, limits));
    }
    let head = bytes.get(..length).unwrap_or_default();
    check_lines(head)?;
    let mut room = [const { MaybeUninit::uninit() }; LINES_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, &mut room) {
        // Both must see the same end.
        Ok(httparse::Status::Complete(end)) if end == length => {}
        Ok(_) => return Err(Refused::RequestLine),
        Err(error) => return Err(refused(error, head)),
    }
    let fields = collect(parsed.headers, limits)?;
    let version = match parsed.version {
        Some(0) => Version::Http10,
        Some(1) => Version::Http11,
        _ => return Err(Refused::Version),
    };
    let method = parsed.method.unwrap_or_default();
    if method.is_empty() || method.len() > METHOD_BYTES_MAX || !method.bytes().all(is_token) {
        return Err(Refused::RequestLine);
    }
    interpret(
        method,
        parsed.path.unwrap_or_default(),
        version,
        fields,
        length + skipped,
    )
    .map(Some)
}

fn interpret<'b>(
    method: &'b str,
    target: &'b str,
    version: Version,
    fields: Fields<'b>,
    len: usize,
) -> Result<RequestHead<'b>, Refused> {
    let list = fields.as_slice();
    let host = host(list, version)?;
    let (target, authority) = read_target(method, target, host)?;
    let body = body(list, version)?;
    let upgrade = upgrade(list).filter(|_| version == Version::Http11 && body == RequestBody::None);
    let expect_continue = expectation(list, version)?;
    let keep_alive = match version {
        Version::Http11 => !lists(list, "connection", "close"),
        Version::Http10 => {
            lists(list, "connection", "keep-alive") && !lists(list, "connection", "close")
        }
    };
    Ok(RequestHead {
        method,
        target,
        version,
        authority,
        body,
        keep_alive,
        upgrade,
        expect_continue,
        len,
        fields,
    })
}

fn body(fields: &[Field<'_>], version: Version) -> Result<RequestBody, Refused> {
    let length = content_length(fields)?;
    let chunked = is_chunked(fields)?;
    match (chunked, length) {
        (true, Some(_)) => Err(Refused::LengthAndCoding),
        (true, None) if version == Version::Http10 => Err(Refused::CodingInHttp10),
        (true, None) => Ok(RequestBody::Chunked),
        (false, None | Some(0)) => Ok(RequestBody::None),
        (false, Some(length)) => Ok(RequestBody::Length(length)),
    }
}

fn host<'b>(fields: &[Field<'b>], version: Version) -> Result<Option<&'b str>, Refused> {
    let mut hosts = fields.iter().filter(|field| field.is("host"));
    let Some(host) = hosts.next() else {
        return match version {
            Version::Http11 => Err(Refused::NoHost),
            Version::Http10 => Ok(None),
        };
    };
    if hosts.next().is_some() {
        return Err(Refused::SeveralHosts);
    }
    let text = std::str::from_utf8(host.value).map_err(|_| Refused::Host)?;
    if !is_authority(text) {
        return Err(Refused::Host);
    }
    Ok(Some(text))
}

/// The target in its form, and the authority that holds for the request.
fn read_target<'b>(
    method: &str,
    target: &'b str,
    host: Option<&'b str>,
) -> Result<(RequestTarget<'b>, &'b str), Refused> {
    let is_printable = |byte: u8| byte > 0x20 && byte < 0x7f && byte != b'#' && byte != b'\\';
    if target.is_empty() || !target.bytes().all(is_printable) {
        return Err(Refused::Target);
    }
    let known = host.unwrap_or_default();
    if method == "CONNECT" {
        if !is_authority(target) || !has_port(target) {
            return Err(Refused::Target);
        }
        return agree(target, host).map(|()| (RequestTarget::Authority(target), target));
    }
    if target.starts_with('/') {
        let path_and_query = target;
        return Ok((RequestTarget::Origin { path_and_query }, known));
    }
    if target == "*" {
        return match method {
            "OPTIONS" => Ok((RequestTarget::Asterisk, known)),
            _ => Err(Refused::Target),
        };
    }
    let (scheme, rest) = target.split_once("://").ok_or(Refused::Target)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(Refused::Target);
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path_and_query) = rest.split_at(end);
    if !is_authority(authority) || path_and_query.starts_with('?') {
        return Err(Refused::Target);
    }
    agree(authority, host)?;
    let path_and_query = if path_and_query.is_empty() {
        "/"
    } else {
        path_and_query
    };
    let target = RequestTarget::Absolute {
        scheme,
        path_and_query,
    };
    Ok((target, authority))
}

/// A tunnel's port has no default (RFC 9112 section 3.2.3).
fn has_port(authority: &str) -> bool {
    let (_, port) = authority.rsplit_once(':').unwrap_or_default();
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn agree(authority: &str, host: Option<&str>) -> Result<(), Refused> {
    match host {
        Some(host) if !host.eq_ignore_ascii_case(authority) => Err(Refused::HostDiffers),
        _ => Ok(()),
    }
}

/// The one expectation that there is (RFC 9110 section 10.1.1).
fn expectation(fields: &[Field<'_>], version: Version) -> Result<bool, Refused> {
    let mut expects = false;
    for field in fields.iter().filter(|field| field.is("expect")) {
        if !field.value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Refused::Expectation);
        }
        expects = version == Version::Http11;
    }
    Ok(expects)
}

/// A head that is not there yet, but may be refused already.
fn incomplete(bytes: &[u8], skipped: usize, limits: &HeadLimits) -> Result<(), Refused> {
    if bytes.len() + skipped >= limits.bytes {
        return Err(too_large(bytes, skipped, limits));
    }
    let method = bytes.iter().position(|byte| !is_token(*byte));
    let begun = method.unwrap_or(bytes.len());
    let ends_well =
        method.is_none_or(|end| end > 0 && bytes.get(end) == Some(&b' ')) || bytes == b"\r";
    if begun > METHOD_BYTES_MAX || !ends_well {
        return Err(Refused::RequestLine);
    }
    Ok(())
}

/// Which part of a head is too large.
fn too_large(bytes: &[u8], skipped: usize, limits: &HeadLimits) -> Refused {
    let line = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    if line + skipped >= limits.bytes {
        Refused::TargetTooLong
    } else {
        Refused::HeadTooLarge
    }
}

/// What httparse would let pass: a lone CR, a folded line.
pub(super) fn check_lines(head: &[u8]) -> Result<(), Refused> {
    for at in memchr::memchr_iter(b'\r', head) {
        match head.get(at + 1) {
            Some(b'\n') => {}
            _ => return Err(Refused::BareLineEnd),
        }
        if let Some(b' ' | b'\t') = head.get(at + 2) {
            return Err(Refused::Folded);
        }
    }
    Ok(())
}

pub(super) fn refused(error: httparse::Error, head: &[u8]) -> Refused {
    match error {
        httparse::Error::TooManyHeaders => Refused::TooManyLines,
        httparse::Error::HeaderName => Refused::FieldLine,
        httparse::Error::HeaderValue => Refused::FieldValue,
        httparse::Error::NewLine => Refused::BareLineEnd,
        httparse::Error::Version if has_version(head) => Refused::Version,
        httparse::Error::Version | httparse::Error::Token | httparse::Error::Status => {
            Refused::RequestLine
        }
    }
}

/// True when the first line has three parts and the last one is a version that is not ours: any other line is
/// malformed, whatever it ends in.
fn has_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut parts = line.split(|byte| *byte == b' ');
    let version = parts.nth(2).unwrap_or_default();
    parts.next().is_none()
        && matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit())
}
