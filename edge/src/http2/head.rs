//! A request's head out of a header block's field lines (RFC 9113 section 8).
//!
//! Room  pure. What only a person's configuration can judge (hosts, paths) is `policy`'s.
//! Holds a malformed head is no request: it never reaches a backend (RFC 9113 section 8.1.1). Field names and values
//!       are valid as HTTP/1.1 ones.

use std::ops::Range;

use crate::field::Field;

/// What RFC 9113 section 6.5.2 counts for each field beside its bytes.
const OVERHEAD: usize = 32;

/// Why a head is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHead {
    /// The stream is reset.
    Malformed,
    /// Answered with 431.
    TooLarge,
}

/// One field line within `RequestHead::text`: where the name begins, the value, and where that ends.
#[derive(Clone, Copy, Debug)]
struct Line {
    name: u32,
    value: u32,
    end: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct RequestHead {
    text: Vec<u8>,
    lines: Vec<Line>,
    method: Range<usize>,
    scheme: Option<Range<usize>>,
    authority: Option<Range<usize>>,
    path: Option<Range<usize>>,
    /// Field lines as they were sent, crumbs counted singly.
    count: usize,
    /// Of Content-Length; two different ones are malformed.
    length: Option<u64>,
}

impl RequestHead {
    fn at(&self, range: &Range<usize>) -> &[u8] {
        self.text.get(range.clone()).unwrap_or_default()
    }

    fn text_at(&self, range: &Range<usize>) -> &str {
        // Checked when it was read.
        std::str::from_utf8(self.at(range)).unwrap_or_default()
    }

    pub(crate) fn method(&self) -> &str {
        self.text_at(&self.method)
    }

    pub(crate) fn authority(&self) -> Option<&str> {
        self.authority.as_ref().map(|range| self.text_at(range))
    }

    /// Absent for CONNECT.
    pub(crate) fn path(&self) -> Option<&str> {
        self.path.as_ref().map(|range| self.text_at(range))
    }

    /// Of Content-Length.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Field lines as they were sent.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The fields, in order, one Cookie field at the end.
    pub(crate) fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        let at = |from: u32, to: u32| {
            let place = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
            self.text.get(place(from)..place(to)).unwrap_or_default()
        };
        self.lines.iter().map(move |line| Field {
            name: at(line.name, line.value),
            value: at(line.value, line.end),
        })
    }

    /// The first value of a field; `name` is in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        let found = self.fields().find(|field| field.name == name.as_bytes());
        found.map(|field| field.value)
    }
}

/// Builds a head of the lines of a block.
#[derive(Debug)]
pub(super) struct Builder {
    head: RequestHead,
    cookie: Vec<u8>,
    size: usize,
    size_max: usize,
    bad: Option<BadHead>,
}

impl Builder {
    /// `size_max` as in SETTINGS_MAX_HEADER_LIST_SIZE, in octets.
    pub(super) fn new(size_max: usize) -> Self {
        Self {
            head: RequestHead {
                text: Vec::with_capacity(512),
                lines: Vec::with_capacity(16),
                ..RequestHead::default()
            },
            cookie: Vec::new(),
            size: 0,
            size_max,
            bad: None,
        }
    }

    pub(super) fn put(&mut self, name: &[u8], value: &[u8]) {
        self.size += name.len() + value.len() + OVERHEAD;
        if self.bad.is_none() {
            let taken = if self.size > self.size_max {
                Err(BadHead::TooLarge)
            } else {
                self.line(name, value)
            };
            self.bad = taken.err();
        }
    }

    fn line(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadHead> {
        if name.first() == Some(&b':') {
            return self.pseudo(name, value);
        }
        self.head.count += 1;
        check_field(name, value)?;
        match name {
            // Crumbs of one Cookie field become one field again (section 8.2.3).
            b"cookie" => {
                if !self.cookie.is_empty() {
                    self.cookie.extend_from_slice(b"; ");
                }
                self.cookie.extend_from_slice(value);
                return Ok(());
            }
            b"content-length" => {
                let length = std::str::from_utf8(value).ok();
                let digits = length.filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
                let length = digits.and_then(|text| text.parse().ok());
                let length: u64 = length.ok_or(BadHead::Malformed)?;
                if self.head.length.is_some_and(|known| known != length) {
                    return Err(BadHead::Malformed);
                }
                self.head.length = Some(length);
            }
            _ => {}
        }
        self.push_line(name, value);
        Ok(())
    }

    fn push_line(&mut self, name: &[u8], value: &[u8]) {
        // The list's size is bounded far below.
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let name = self.push(name);
        let value = self.push(value);
        self.head.lines.push(Line {
            name: place(name.start),
            value: place(value.start),
            end: place(value.end),
        });
    }

    fn push(&mut self, bytes: &[u8]) -> Range<usize> {
        let from = self.head.text.len();
        self.head.text.extend_from_slice(bytes);
        from..self.head.text.len()
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadHead> {
        // They come first, each once, and are text without spaces (section 8.3).
        let is_text = value.iter().all(|byte| byte.is_ascii_graphic());
        if self.head.count > 0 || !is_text || value.is_empty() {
            return Err(BadHead::Malformed);
        }
        let range = self.push(value);
        let head = &mut self.head;
        let slot = match name {
            b":method" if head.method.is_empty() && is_token(value) => {
                head.method = range;
                return Ok(());
            }
            b":scheme" => &mut head.scheme,
            b":authority" => &mut head.authority,
            b":path" => &mut head.path,
            _ => return Err(BadHead::Malformed),
        };
        if slot.is_some() {
            return Err(BadHead::Malformed);
        }
        *slot = Some(range);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<RequestHead, BadHead> {
        if let Some(bad) = self.bad {
            return Err(bad);
        }
        if !self.cookie.is_empty() {
            let cookie = std::mem::take(&mut self.cookie);
            self.push_line(b"cookie", &cookie);
        }
        let head = self.head;
        let is_connect = head.method() == "CONNECT";
        let is_whole = if is_connect {
            // No extended CONNECT is offered (RFC 8441).
            head.scheme.is_none() && head.path.is_none() && head.authority.is_some()
        } else {
            let path = head.path();
            let is_path = path.is_some_and(|path| path.starts_with('/') || path == "*");
            !head.method.is_empty() && head.scheme.is_some() && is_path
        };
        if is_whole {
            Ok(head)
        } else {
            Err(BadHead::Malformed)
        }
    }
}

/// A field of a request or a trailer section (sections 8.2.1 and 8.2.2).
pub(super) fn check_field(name: &[u8], value: &[u8]) -> Result<(), BadHead> {
    let is_name = is_token(name) && !name.iter().any(u8::is_ascii_uppercase);
    let is_control = |byte: &u8| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f;
    let has_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_value =
        !value.iter().any(is_control) && !has_space(value.first()) && !has_space(value.last());
    let is_of_connection = match name {
        b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
            true
        }
        b"te" => !value.eq_ignore_ascii_case(b"trailers"),
        _ => false,
    };
    if is_name && is_value && !is_of_connection {
        Ok(())
    } else {
        Err(BadHead::Malformed)
    }
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| crate::http1::is_token(*byte))
}

#[cfg(test)]
mod tests {
    use super::{BadHead, Builder, RequestHead};

    const GET: &str = ":method=GET :scheme=https :authority=a.example :path=/x?y";

    fn head(lines: &str) -> Result<RequestHead, BadHead> {
        let mut builder = Builder::new(4096);
        for line in lines.split(' ') {
            let (name, value) = line.split_once('=').expect("a line");
            let value = value.replace('_', " ").replace('%', "\n");
            builder.put(name.as_bytes(), value.as_bytes());
        }
        builder.finish()
    }

    #[test]
    fn a_head_is_read_and_crumbs_are_one_cookie() {
        let head = head(&format!(
            "{GET} cookie=a=1 x-a=1 cookie=b=2 content-length=07"
        ))
        .expect("a request");
        assert_eq!(
            (head.method(), head.authority(), head.path()),
            ("GET", Some("a.example"), Some("/x?y"))
        );
        let fields: Vec<_> = head.fields().map(|f| (f.name, f.value)).collect();
        assert_eq!(
            fields,
            [
                (&b"x-a"[..], &b"1"[..]),
                (b"content-length", b"07"),
                (b"cookie", b"a=1; b=2")
            ]
        );
        assert_eq!((head.length(), head.count()), (Some(7), 4));
        assert_eq!(head.field("x-a"), Some(&b"1"[..]));
    }

    #[test]
    fn malformed_heads_are_no_requests() {
        for lines in [
            ":method=GET :scheme=https :authority=a",
            ":scheme=https :authority=a :path=/",
            ":method=GET :authority=a :path=/",
            ":method=GET :scheme=https :authority=a :path=x",
            ":method=GET :method=GET :scheme=https :path=/",
            ":method=GET :scheme=https :path=/ :path=/",
            ":method=GET :scheme=https :path=/ :status=200",
            ":method=GET :scheme=https x=y :path=/",
            ":method=G(T :scheme=https :path=/",
            ":method=GET :scheme=https :path=/a_b",
            ":method=CONNECT :authority=a:1 :path=/",
            ":method=CONNECT :authority=a:1 :protocol=websocket :scheme=https :path=/",
        ] {
            assert_eq!(head(lines).err(), Some(BadHead::Malformed), "{lines}");
        }
        for field in [
            "X-Upper=1",
            "a:b=1",
            "=1",
            "x=_1",
            "x=1_",
            "x=1%2",
            "connection=close",
            "transfer-encoding=chunked",
            "upgrade=h2c",
            "te=gzip",
            "content-length=-1",
            "content-length=+1",
            "content-length=1 content-length=2",
        ] {
            let lines = format!("{GET} {field}");
            assert_eq!(head(&lines).err(), Some(BadHead::Malformed), "{lines}");
        }
    }

    #[test]
    fn what_is_unusual_and_right() {
        for lines in [
            format!("{GET} te=trailers"),
            format!("{GET} content-length=1 content-length=1"),
            ":method=OPTIONS :scheme=http :authority=a :path=*".to_owned(),
            ":method=CONNECT :authority=a:443".to_owned(),
            format!("{GET} x="),
        ] {
            head(&lines).expect(&lines);
        }
        let huge = format!("{GET} x={}", "1".repeat(4096));
        assert_eq!(head(&huge).err(), Some(BadHead::TooLarge));
    }
}
