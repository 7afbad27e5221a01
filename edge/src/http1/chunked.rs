//! The chunked coding, strictly (RFC 9112 section 7.1).
//!
//! ```text
//!   Size ──CRLF──▶ Data ──▶ DataEnd ──CRLF──▶ Size … ──0──▶ Trailers ──empty line──▶ End
//! ```
//!
//! Room  pure.
//! Holds any split of the same bytes gives the same data; lines end in CR LF only; extensions and trailers are
//!       bounded.

use std::ops::Range;

use crate::field::Field;
use crate::http1::{Decoded, Refused};

/// Bytes of one chunk's extension; they are read over.
const EXTENSION_BYTES_MAX: u32 = 256;

/// Bytes and lines of a trailer section.
const TRAILER_BYTES_MAX: usize = 8 * 1024;
const TRAILER_LINES_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Within the size; so many digits so far.
    Size {
        digits: u8,
    },
    Extension {
        bytes: u32,
    },
    /// After the CR of a size line.
    SizeEnd,
    Data,
    /// The CR and the LF after a chunk's data.
    DataCr,
    DataLf,
    Trailers,
    End,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct ChunkedDecoder {
    state: State,
    left: u64,
    /// The trailer section as it was sent.
    trailers: Vec<u8>,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkedDecoder {
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Size { digits: 0 },
            left: 0,
            trailers: Vec::new(),
        }
    }

    /// True once the last line of the last chunk was read.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.state == State::End
    }

    /// The trailers; complete at the end.
    pub fn trailers(&self) -> impl Iterator<Item = Field<'_>> {
        self.trailers
            .split(|byte| *byte == b'\n')
            .filter_map(trailer)
    }

    /// Takes bytes until a run of data is found, the input ends, or the body does.
    ///
    /// # Errors
    /// The coding is broken; the connection is good for nothing more.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, Refused> {
        let mut at = 0;
        while let Some(byte) = input.get(at) {
            match self.state {
                State::End => break,
                State::Data => return Ok(self.run(input, at)),
                State::Trailers => {
                    at += self.take_trailers(input.get(at..).unwrap_or_default())?;
                    continue;
                }
                _ => self.step(*byte)?,
            }
            at += 1;
        }
        Ok(Decoded {
            consumed: at,
            data: None,
            end: self.is_end(),
        })
    }

    fn run(&mut self, input: &[u8], at: usize) -> Decoded {
        let there = input.len() - at;
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(there);
        self.left -= u64::try_from(count).unwrap_or(0);
        if self.left == 0 {
            self.state = State::DataCr;
        }
        Decoded {
            consumed: at + count,
            data: Some(Range {
                start: at,
                end: at + count,
            }),
            end: false,
        }
    }

    fn step(&mut self, byte: u8) -> Result<(), Refused> {
        self.state = match (self.state, byte) {
            (State::Size { digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits >= 16 {
                    return Err(Refused::ChunkSize);
                }
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                self.left = self
                    .left
                    .checked_mul(16)
                    .and_then(|left| left.checked_add(u64::from(digit)))
                    .ok_or(Refused::ChunkSize)?;
                State::Size { digits: digits + 1 }
            }
            (State::Size { digits: 0 }, _) => return Err(Refused::ChunkSize),
            (State::Size { .. }, b';') => State::Extension { bytes: 0 },
            (State::Size { .. } | State::Extension { .. }, b'\r') => State::SizeEnd,
            (State::Size { .. }, _) => return Err(Refused::ChunkSize),
            (State::Extension { bytes }, byte) => {
                let is_control = (byte < 0x20 && byte != b'\t') || byte == 0x7f;
                if is_control || bytes >= EXTENSION_BYTES_MAX {
                    return Err(Refused::ChunkExtension);
                }
                State::Extension { bytes: bytes + 1 }
            }
            (State::SizeEnd, b'\n') if self.left == 0 => State::Trailers,
            (State::SizeEnd, b'\n') => State::Data,
            (State::SizeEnd, _) => return Err(Refused::ChunkSize),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { digits: 0 },
            (State::DataCr | State::DataLf, _) => return Err(Refused::ChunkEnd),
            (state @ (State::Data | State::Trailers | State::End), _) => state,
        };
        Ok(())
    }

    /// Takes up to the end of a line.
    fn take_trailers(&mut self, input: &[u8]) -> Result<usize, Refused> {
        // Nearly every body ends without trailers: no memory for their line end.
        if self.trailers.is_empty() && input.starts_with(b"\r\n") {
            self.state = State::End;
            return Ok(2);
        }
        let end = memchr::memchr(b'\n', input).map_or(input.len(), |end| end + 1);
        let line = input.get(..end).unwrap_or_default();
        self.trailers.extend_from_slice(line);
        if self.trailers.len() > TRAILER_BYTES_MAX {
            return Err(Refused::Trailers);
        }
        if line.last() != Some(&b'\n') {
            return Ok(end);
        }
        let last = last_line(&self.trailers);
        match last {
            b"\r\n" => {
                let length = self.trailers.len() - 2;
                self.trailers.truncate(length);
                if self.trailers().count() > TRAILER_LINES_MAX {
                    return Err(Refused::Trailers);
                }
                self.state = State::End;
            }
            line if trailer(line.strip_suffix(b"\n").unwrap_or(line)).is_some() => {}
            _ => return Err(Refused::Trailers),
        }
        Ok(end)
    }
}

/// The last line with its end.
fn last_line(section: &[u8]) -> &[u8] {
    let body = section
        .get(..section.len().saturating_sub(1))
        .unwrap_or_default();
    let start = memchr::memrchr(b'\n', body).map_or(0, |end| end + 1);
    section.get(start..).unwrap_or_default()
}

/// A field line without its LF; its CR must be there.
fn trailer(line: &[u8]) -> Option<Field<'_>> {
    let line = line.strip_suffix(b"\r")?;
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
    // Not `trim_ascii`: that would take a lone CR or a form feed for white space.
    let value = super::fields::trim(value);
    let is_name = !name.is_empty() && name.iter().all(|byte| super::fields::is_token(*byte));
    let is_value = value
        .iter()
        .all(|byte| (*byte >= 0x20 || *byte == b'\t') && *byte != 0x7f);
    (is_name && is_value).then_some(Field { name, value })
}

/// Writes the line that begins a chunk of `length` bytes (not 0: that would be the last one).
pub fn chunk_header(length: usize, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0_u8; 16];
    let mut at = digits.len();
    let mut left = length;
    loop {
        at -= 1;
        if let (Some(slot), Some(digit)) = (digits.get_mut(at), DIGITS.get(left & 15)) {
            *slot = *digit;
        }
        left >>= 4;
        if left == 0 || at == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
    out.extend_from_slice(b"\r\n");
}
