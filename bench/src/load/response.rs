//! Reads HTTP/1.1 answers: the head, and chunked bodies (RFC 9112 sections 4, 6 and 7.1).
//!
//! Room  pure: bytes in, meaning out; nothing is kept but what a body's framing needs.
//! In    bytes as they arrive, in pieces of any size.
//! Out   status, how the body is framed, whether the connection ends after it; pieces of the body.
//! Holds bytes from the network never panic; a head and a chunk's size line have a limit.

/// The longest head that is read, in bytes.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The longest chunk-size line with its extensions, and the longest trailer line, in bytes.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// How the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// After this many bytes.
    Exact(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    UntilEnd,
}

/// The head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) length: Length,
    /// The connection ends after this answer.
    pub(crate) closes: bool,
    /// Bytes of the head itself, with the empty line.
    pub(crate) size: usize,
}

/// Not HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the answer does not begin with an HTTP/1.x status line")]
    StatusLine,
    #[error("a header line of the answer is malformed")]
    Header,
    #[error("the answer's Content-Length is malformed or contradicts itself")]
    Length,
    #[error("the head of the answer is longer than {HEAD_BYTES_MAX} bytes")]
    TooLong,
    #[error("a chunk of the answer is malformed")]
    Chunk,
}

/// Reads a head at the beginning of `bytes`; `None`: it is not complete yet.
pub(crate) fn parse_head(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > HEAD_BYTES_MAX {
            Err(Malformed::TooLong)
        } else {
            Ok(None)
        };
    };
    let text = bytes
        .get(..end)
        .and_then(|head| std::str::from_utf8(head).ok())
        .ok_or(Malformed::Header)?;
    let mut lines = text.split("\r\n");
    let (status, is_http_10) = parse_status_line(lines.next().unwrap_or_default())?;
    let mut head = Head {
        status,
        length: Length::UntilEnd,
        closes: is_http_10,
        size: end + 4,
    };
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Malformed::Header)?;
        parse_header(&mut head, name, value.trim())?;
    }
    if matches!(status, 100..=199 | 204 | 304) {
        head.length = Length::Exact(0);
    }
    head.closes |= head.length == Length::UntilEnd;
    Ok(Some(head))
}

fn parse_status_line(line: &str) -> Result<(u16, bool), Malformed> {
    let rest = line.strip_prefix("HTTP/1.").ok_or(Malformed::StatusLine)?;
    let (minor, rest) = rest.split_once(' ').ok_or(Malformed::StatusLine)?;
    let status = rest
        .get(..3)
        .and_then(|digits| digits.parse().ok())
        .ok_or(Malformed::StatusLine)?;
    match minor {
        "0" => Ok((status, true)),
        "1" => Ok((status, false)),
        _ => Err(Malformed::StatusLine),
    }
}

fn parse_header(head: &mut Head, name: &str, value: &str) -> Result<(), Malformed> {
    if name.eq_ignore_ascii_case("content-length") {
        let length = value.parse().map_err(|_| Malformed::Length)?;
        match head.length {
            Length::UntilEnd => head.length = Length::Exact(length),
            // Transfer-Encoding overrides (RFC 9112 6.3).
            Length::Chunked => {}
            Length::Exact(known) if known == length => {}
            Length::Exact(_) => return Err(Malformed::Length),
        }
    } else if name.eq_ignore_ascii_case("transfer-encoding") {
        head.length = Length::Chunked;
    } else if name.eq_ignore_ascii_case("connection") {
        let mut options = value.split(',').map(str::trim);
        if options
            .clone()
            .any(|option| option.eq_ignore_ascii_case("close"))
        {
            head.closes = true;
        } else if options.any(|option| option.eq_ignore_ascii_case("keep-alive")) {
            head.closes = false;
        }
    }
    Ok(())
}

/// Takes a chunked body apart.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    state: ChunkState,
}

#[derive(Clone, Copy, Debug)]
enum ChunkState {
    /// In a size line: value so far, how many bytes of the line were read, whether digits still count.
    Size {
        value: u64,
        read: usize,
        digits: bool,
    },
    /// In a chunk's data.
    Data { left: u64 },
    /// Expecting the line end after data; `true` once CR was read.
    DataEnd { cr: bool },
    /// After the last chunk: bytes in the current line without its CR.
    Trailer { read: usize },
    /// The body is complete.
    Done,
}

impl Default for ChunkState {
    fn default() -> Self {
        Self::Size {
            value: 0,
            read: 0,
            digits: true,
        }
    }
}

impl Chunks {
    /// True after the last chunk and its trailer.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, ChunkState::Done)
    }

    /// Takes the next bytes; hands pieces of the body to `sink`; gives back what comes after the body.
    pub(crate) fn take<'a, E: From<Malformed>>(
        &mut self,
        bytes: &'a [u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<&'a [u8], E> {
        let mut rest = bytes;
        while let Some((first, tail)) = rest.split_first() {
            match self.state {
                ChunkState::Done => break,
                ChunkState::Data { left } => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let (data, after) = rest.split_at(length);
                    sink(data)?;
                    rest = after;
                    let left = left - length as u64;
                    self.state = if left == 0 {
                        ChunkState::DataEnd { cr: false }
                    } else {
                        ChunkState::Data { left }
                    };
                }
                _ => {
                    self.state = self.state.step(*first)?;
                    rest = tail;
                }
            }
        }
        Ok(rest)
    }
}

impl ChunkState {
    /// One byte of framing.
    fn step(self, byte: u8) -> Result<Self, Malformed> {
        Ok(match (self, byte) {
            (
                Self::Size {
                    read: LINE_BYTES_MAX..,
                    ..
                }
                | Self::Trailer {
                    read: LINE_BYTES_MAX..,
                },
                _,
            ) => {
                return Err(Malformed::Chunk);
            }
            (Self::Size { read: 0, .. }, b'\r' | b'\n' | b';') => return Err(Malformed::Chunk),
            (Self::Size { value: 0, .. }, b'\n') => Self::Trailer { read: 0 },
            (Self::Size { value, .. }, b'\n') => Self::Data { left: value },
            (Self::Size { value, read, .. }, b'\r' | b';' | b' ' | b'\t') => Self::Size {
                value,
                read: read + 1,
                digits: false,
            },
            (
                Self::Size {
                    value,
                    read,
                    digits: false,
                },
                _,
            ) => Self::Size {
                value,
                read: read + 1,
                digits: false,
            },
            (
                Self::Size {
                    value,
                    read,
                    digits: true,
                },
                byte,
            ) => {
                let digit = char::from(byte).to_digit(16).ok_or(Malformed::Chunk)?;
                let value = value
                    .checked_mul(16)
                    .and_then(|value| value.checked_add(u64::from(digit)));
                Self::Size {
                    value: value.ok_or(Malformed::Chunk)?,
                    read: read + 1,
                    digits: true,
                }
            }
            (Self::DataEnd { cr: false }, b'\r') => Self::DataEnd { cr: true },
            (Self::DataEnd { .. }, b'\n') => Self::default(),
            (Self::DataEnd { .. }, _) => return Err(Malformed::Chunk),
            (Self::Trailer { read: 0 }, b'\n') => Self::Done,
            (Self::Trailer { .. }, b'\n') => Self::Trailer { read: 0 },
            (Self::Trailer { read }, b'\r') => Self::Trailer { read },
            (Self::Trailer { read }, _) => Self::Trailer { read: read + 1 },
            (state @ (Self::Data { .. } | Self::Done), _) => state,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Option<Head>, Malformed> {
        parse_head(text.as_bytes())
    }

    #[test]
    fn a_head_tells_status_framing_and_whether_the_connection_ends() {
        let table = [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n",
                200,
                Length::Exact(12),
                false,
            ),
            (
                "HTTP/1.1 503 x\r\ncontent-length: 0\r\nconnection: Close\r\n\r\n",
                503,
                Length::Exact(0),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                200,
                Length::Chunked,
                false,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", 200, Length::UntilEnd, true),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n",
                200,
                Length::Exact(1),
                true,
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n",
                200,
                Length::Exact(1),
                false,
            ),
            (
                "HTTP/1.1 204 No Content\r\n\r\n",
                204,
                Length::Exact(0),
                false,
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\n",
                100,
                Length::Exact(0),
                false,
            ),
        ];
        for (text, status, length, closes) in table {
            assert_eq!(
                head(text),
                Ok(Some(Head {
                    status,
                    length,
                    closes,
                    size: text.len()
                })),
                "{text}"
            );
        }
    }

    #[test]
    fn an_incomplete_head_waits_and_a_wrong_one_is_refused() {
        assert_eq!(head("HTTP/1.1 200 OK\r\nContent-"), Ok(None));
        assert_eq!(head("SSH-2.0-x\r\n\r\n"), Err(Malformed::StatusLine));
        assert_eq!(head("HTTP/1.1 2\r\n\r\n"), Err(Malformed::StatusLine));
        assert_eq!(
            head("HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"),
            Err(Malformed::Header)
        );
        assert_eq!(
            head("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
            Err(Malformed::Length)
        );
        assert_eq!(
            head("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
            Err(Malformed::Length)
        );
        assert_eq!(
            head(&"x".repeat(HEAD_BYTES_MAX + 1)),
            Err(Malformed::TooLong)
        );
    }

    fn dechunk(text: &str, piece: usize) -> Result<(Vec<u8>, Vec<u8>, bool), Malformed> {
        let (mut chunks, mut body, mut after) = (Chunks::default(), Vec::new(), Vec::new());
        for bytes in text.as_bytes().chunks(piece) {
            let rest = chunks.take(bytes, |data| {
                body.extend_from_slice(data);
                Ok::<_, Malformed>(())
            })?;
            after.extend_from_slice(rest);
        }
        Ok((body, after, chunks.is_done()))
    }

    #[test]
    fn a_chunked_body_is_taken_apart_in_pieces_of_any_size() {
        let text = "5\r\nhello\r\nA;ext=1\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nafter";
        for piece in 1..=text.len() {
            let (body, after, done) = dechunk(text, piece).unwrap();
            assert_eq!(
                (body.as_slice(), after.as_slice(), done),
                (&b"hello0123456789"[..], &b"after"[..], true)
            );
        }
        assert_eq!(dechunk("5\r\nhel", 3).map(|(_, _, done)| done), Ok(false));
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for text in [
            "x\r\n",
            "\r\n",
            "5\r\nhello!",
            "fffffffffffffffff\r\n",
            ";\r\n",
        ] {
            assert_eq!(dechunk(text, 1), Err(Malformed::Chunk), "{text}");
        }
        assert_eq!(
            dechunk(&format!("1{}", ";".repeat(LINE_BYTES_MAX + 1)), 100),
            Err(Malformed::Chunk)
        );
    }
}
