//! Frames: their nine bytes of header, and those that we write (RFC 9113 sections 4 and 6).
//!
//! Room  pure: numbers to bytes and back; what a frame means is `reader`'s and `output`'s.

/// Bytes before each payload.
pub(super) const HEADER_BYTES: usize = 9;

/// Largest payload that we take, the least that everybody must take (RFC 9113 section 4.2).
pub(super) const PAYLOAD_MAX: usize = 16 * 1024;

/// What a client's connection begins with (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Largest window (RFC 9113 section 6.9.1).
pub(super) const WINDOW_MAX: i64 = 0x7fff_ffff;

/// Window of whoever said nothing (RFC 9113 section 6.9.2).
pub(super) const WINDOW_DEFAULT: i64 = 65_535;

pub(super) mod kind {
    pub(crate) const DATA: u8 = 0x0;
    pub(crate) const HEADERS: u8 = 0x1;
    pub(crate) const PRIORITY: u8 = 0x2;
    pub(crate) const RST_STREAM: u8 = 0x3;
    pub(crate) const SETTINGS: u8 = 0x4;
    pub(crate) const PUSH_PROMISE: u8 = 0x5;
    pub(crate) const PING: u8 = 0x6;
    pub(crate) const GOAWAY: u8 = 0x7;
    pub(crate) const WINDOW_UPDATE: u8 = 0x8;
    pub(crate) const CONTINUATION: u8 = 0x9;
}

pub(super) mod flag {
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

pub(super) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 0x1;
    pub(crate) const ENABLE_PUSH: u16 = 0x2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 0x5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 0x6;
}

/// Why a stream or a connection ends (RFC 9113 section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    NoError = 0x0,
    Protocol = 0x1,
    Internal = 0x2,
    FlowControl = 0x3,
    StreamClosed = 0x5,
    FrameSize = 0x6,
    RefusedStream = 0x7,
    Cancel = 0x8,
    Compression = 0x9,
    EnhanceYourCalm = 0xb,
}

/// What comes before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the payload.
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Header {
    /// `None`: there are not enough bytes.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let [high, middle, low, kind, flags, a, b, c, d] = *bytes.first_chunk::<HEADER_BYTES>()?;
        Some(Self {
            length: usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low),
            kind,
            flags,
            // The first bit is reserved and ignored.
            stream: u32::from_be_bytes([a & 0x7f, b, c, d]),
        })
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The header of a frame whose payload follows.
pub(super) fn put_header(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let [a, b, c, d] = stream.to_be_bytes();
    let [high, middle, low] = length_bytes(length);
    out.extend_from_slice(&[high, middle, low, kind, flags, a, b, c, d]);
}

/// A payload's length as it stands in a header.
pub(super) fn length_bytes(length: usize) -> [u8; 3] {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let [_, high, middle, low] = length.to_be_bytes();
    [high, middle, low]
}

pub(super) fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    put_header(out, settings.len() * 6, kind::SETTINGS, 0, 0);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(super) fn put_settings_ack(out: &mut Vec<u8>) {
    put_header(out, 0, kind::SETTINGS, flag::ACK, 0);
}

pub(super) fn put_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    put_header(out, 4, kind::WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&increment.to_be_bytes());
}

pub(super) fn put_reset(out: &mut Vec<u8>, stream: u32, code: Code) {
    put_header(out, 4, kind::RST_STREAM, 0, stream);
    out.extend_from_slice(&(code as u32).to_be_bytes());
}

pub(super) fn put_goaway(out: &mut Vec<u8>, last: u32, code: Code) {
    put_header(out, 8, kind::GOAWAY, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&(code as u32).to_be_bytes());
}

pub(super) fn put_ping(out: &mut Vec<u8>, flags: u8, payload: [u8; 8]) {
    put_header(out, 8, kind::PING, flags, 0);
    out.extend_from_slice(&payload);
}

#[cfg(test)]
mod tests {
    use super::{Code, Header, put_goaway, put_header};

    #[test]
    fn a_header_comes_back_and_the_reserved_bit_is_ignored() {
        let mut out = Vec::new();
        put_header(&mut out, 0x01_0203, 0x9, 0x4, 0x8000_0005);
        assert_eq!(Header::parse(&out[..8]), None);
        let header = Header::parse(&out).expect("nine bytes");
        assert_eq!(
            header,
            Header {
                length: 0x01_0203,
                kind: 0x9,
                flags: 0x4,
                stream: 5
            }
        );
        assert!(header.has(0x4) && !header.has(0x1));
    }

    #[test]
    fn goaway_says_who_was_served_and_why_it_ends() {
        let mut out = Vec::new();
        put_goaway(&mut out, 7, Code::EnhanceYourCalm);
        assert_eq!(out, [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0xb]);
    }
}
