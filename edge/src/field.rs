//! Header fields as both HTTP versions see them: a name and a value, borrowed.
//!
//! Room  pure. The engines turn their own representation into these, `policy` reads and writes nothing else.

use http::{HeaderMap, HeaderName, HeaderValue};

/// One field line. The name is in the case it was sent in; the value has no white space at its ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field<'f> {
    pub name: &'f [u8],
    pub value: &'f [u8],
}

impl Field<'_> {
    /// Compares names as HTTP does (RFC 9110 section 5.1); `name` is lower-case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// Where the fields of a forwarded message are written, in order.
pub trait FieldSink {
    /// One field line; both parts are valid as field name and field value.
    fn put(&mut self, name: &[u8], value: &[u8]);

    /// Fields that follow each other unchanged, as they stand in a head: `fields` lie one after the other
    /// in one buffer. An HTTP/1.1 sink may copy them as one run.
    fn put_run(&mut self, fields: &[Field<'_>]) {
        for field in fields {
            self.put(field.name, field.value);
        }
    }
}

/// Field lines of an HTTP/1.1 head.
impl FieldSink for Vec<u8> {
    fn put(&mut self, name: &[u8], value: &[u8]) {
        self.reserve(name.len() + value.len() + 4);
        self.extend_from_slice(name);
        self.extend_from_slice(b": ");
        self.extend_from_slice(value);
        self.extend_from_slice(b"\r\n");
    }
}

/// What cannot be a field is left out: the sources of fields have been checked before.
impl FieldSink for HeaderMap {
    fn put(&mut self, name: &[u8], value: &[u8]) {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            self.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::{Field, FieldSink};

    #[test]
    fn both_sinks_hold_what_was_put() {
        let mut head = Vec::new();
        let mut map = HeaderMap::new();
        for sink in [&mut head as &mut dyn FieldSink, &mut map] {
            sink.put(b"X-A", b"1");
            sink.put_run(&[Field {
                name: b"x-b",
                value: b"2",
            }]);
        }
        assert_eq!(head, b"X-A: 1\r\nx-b: 2\r\n");
        assert_eq!(map.get("x-a").expect("is there"), "1");
        assert_eq!(map.get("x-b").expect("is there"), "2");
    }
}
