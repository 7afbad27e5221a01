//! The field lines of a head, and the few of them that decide about framing.
//!
//! Room  pure.
//! Holds a line ends in CR LF and nothing else; no value has a control character; no line is folded.

use crate::field::Field;
use crate::http1::{HeadLimits, Refused};

/// Field lines that a head may have whatever is configured. Sized: a head is parsed on the stack.
pub(super) const LINES_MAX: usize = 256;

/// Field lines that need no memory of their own. Sized: a browser sends 20.
const INLINE: usize = 32;

/// Fields in the order sent.
#[derive(Clone, Debug)]
pub struct Fields<'b> {
    inline: [Field<'b>; INLINE],
    length: usize,
    /// All of them, where they are more than `INLINE`.
    spilled: Vec<Field<'b>>,
}

impl<'b> Fields<'b> {
    fn new() -> Self {
        Self {
            inline: [Field {
                name: b"",
                value: b"",
            }; INLINE],
            length: 0,
            spilled: Vec::new(),
        }
    }

    fn push(&mut self, field: Field<'b>) {
        match self.inline.get_mut(self.length) {
            Some(slot) => *slot = field,
            None => {
                if self.spilled.is_empty() {
                    self.spilled.extend_from_slice(&self.inline);
                }
                self.spilled.push(field);
            }
        }
        self.length += 1;
    }

    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[Field<'b>] {
        if self.spilled.is_empty() {
            self.inline.get(..self.length).unwrap_or_default()
        } else {
            &self.spilled
        }
    }
}

/// Where the head that begins `bytes` ends: `None` while it is incomplete.
///
/// # Errors
/// A line end that is not CR LF, as soon as it is seen.
pub(super) fn head_end(bytes: &[u8]) -> Result<Option<usize>, Refused> {
    let mut line_start = 0;
    for end in memchr::memchr_iter(b'\n', bytes) {
        if end == 0 || bytes.get(end - 1) != Some(&b'\r') {
            return Err(Refused::BareLineEnd);
        }
        if end - 1 == line_start {
            return Ok(Some(end + 1));
        }
        line_start = end + 1;
    }
    Ok(None)
}

/// Turns httparse's fields into ours, checked.
pub(super) fn collect<'b>(
    parsed: &[httparse::Header<'b>],
    limits: &HeadLimits,
) -> Result<Fields<'b>, Refused> {
    if parsed.len() > limits.lines {
        return Err(Refused::TooManyLines);
    }
    let mut fields = Fields::new();
    for header in parsed {
        let name = header.name.as_bytes();
        if name.is_empty() {
            return Err(Refused::FieldLine);
        }
        let value = trim(header.value);
        if value.iter().any(|byte| is_control(*byte)) {
            return Err(Refused::FieldValue);
        }
        fields.push(Field { name, value });
    }
    Ok(fields)
}

/// Control characters that no field value may have (RFC 9110 section 5.5); a tab is allowed.
fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

/// Without the white space around it (RFC 9110 section 5.6.3).
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The one Content-Length (RFC 9112 section 6.3): a second one is refused, equal or not.
pub(super) fn content_length(fields: &[Field<'_>]) -> Result<Option<u64>, Refused> {
    let mut found = None;
    for field in fields.iter().filter(|field| field.is("content-length")) {
        if found.is_some() || field.value.contains(&b',') {
            return Err(Refused::SeveralContentLengths);
        }
        let is_number = !field.value.is_empty() && field.value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(field.value)
            .ok()
            .filter(|_| is_number)
            .and_then(|text| text.parse::<u64>().ok());
        found = Some(number.ok_or(Refused::ContentLength)?);
    }
    Ok(found)
}

/// True for exactly one `Transfer-Encoding: chunked`.
pub(super) fn is_chunked(fields: &[Field<'_>]) -> Result<bool, Refused> {
    let mut codings = fields.iter().filter(|field| field.is("transfer-encoding"));
    let Some(coding) = codings.next() else {
        return Ok(false);
    };
    if codings.next().is_some() || !coding.value.eq_ignore_ascii_case(b"chunked") {
        return Err(Refused::TransferEncoding);
    }
    Ok(true)
}

/// True when the list-valued fields of this name contain the token.
pub(super) fn lists(fields: &[Field<'_>], name: &str, token: &str) -> bool {
    let values = fields.iter().filter(|field| field.is(name));
    values
        .flat_map(|field| field.value.split(|byte| *byte == b','))
        .any(|item| trim(item).eq_ignore_ascii_case(token.as_bytes()))
}

/// The protocol of a message that upgrades: asked for by Connection, named once, and not h2c, which is stripped
/// (RFC 9113 section 3.1 took it back).
pub(super) fn upgrade<'b>(fields: &[Field<'b>]) -> Option<&'b str> {
    let mut named = fields.iter().filter(|field| field.is("upgrade"));
    let (first, second) = (named.next()?, named.next());
    let protocol = std::str::from_utf8(first.value).ok()?;
    let is_one = second.is_none()
        && !protocol.is_empty()
        && protocol.bytes().all(|byte| is_token(byte) || byte == b'/');
    let start = first.value.get(..3).unwrap_or_default();
    let is_h2c = start.eq_ignore_ascii_case(b"h2c");
    (is_one && !is_h2c && lists(fields, "connection", "upgrade")).then_some(protocol)
}

/// tchar of RFC 9110 section 5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let (mut token, mut byte) = ([false; 256], 0_u8);
        while byte < 128 {
            token[byte as usize] = byte.is_ascii_alphanumeric();
            byte += 1;
        }
        let (others, mut at) = (b"!#$%&'*+-.^_`|~", 0);
        while at < others.len() {
            token[others[at] as usize] = true;
            at += 1;
        }
        token
    };
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

/// `host` or `host:port`, without userinfo (RFC 9110 section 7.2, RFC 3986 section 3.2.2).
#[must_use]
pub fn is_authority(text: &str) -> bool {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((literal, rest)) = rest.split_once(']') else {
            return false;
        };
        if literal.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        match rest.strip_prefix(':') {
            Some(port) => (literal, Some(port)),
            None if rest.is_empty() => (literal, None),
            None => return false,
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => {
                if !is_reg_name(host) {
                    return false;
                }
                (host, Some(port))
            }
            None if is_reg_name(text) => (text, None),
            None => return false,
        }
    };
    let is_port = |port: &str| {
        port.is_empty() || (port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok())
    };
    !host.is_empty() && host.len() <= 255 && port.is_none_or(is_port)
}

/// What names of hosts are made of; percent-encoding and sub-delimiters are nobody's host name.
fn is_reg_name(host: &str) -> bool {
    host.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}
