//! Hears whether the server said a polite GOAWAY: the library tells it only as long as nothing else happens after it.
//!
//! ```text
//!   bytes ──▶ frame header (9 bytes) ──▶ payload …
//!                                          └─ of a GOAWAY: last stream (4 bytes), error (4 bytes)
//! ```
//!
//! Room  the byte stream of a connection, passed through (RFC 9113 sections 4.1 and 6.8).
//! In    what the server sends.
//! Out   the same bytes; one flag.
//! Holds memory is constant; the library still judges every frame.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::load::stream::Stream;

/// Bytes of a frame's header.
const HEADER_BYTES: usize = 9;

/// A header, and the part of a GOAWAY's payload that has the error.
const KEPT_BYTES: usize = HEADER_BYTES + 8;

const GOAWAY: u8 = 0x7;

/// A connection that is listened to.
#[derive(Debug)]
pub(super) struct Heard {
    stream: Stream,
    frames: Frames,
    farewell: Arc<AtomicBool>,
}

impl Heard {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            frames: Frames::default(),
            farewell: Arc::default(),
        }
    }

    /// True once a GOAWAY without an error has come.
    pub(super) fn farewell(&self) -> Arc<AtomicBool> {
        self.farewell.clone()
    }
}

/// Where the stream of frames stands.
#[derive(Debug, Default)]
struct Frames {
    kept: Vec<u8>,
    /// Bytes of the payload that are not kept.
    skip: usize,
}

impl Frames {
    /// Takes the next bytes; true: a polite GOAWAY was among them.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let mut is_heard = false;
        let mut rest = bytes;
        while !rest.is_empty() {
            let skipped = self.skip.min(rest.len());
            self.skip -= skipped;
            rest = rest.get(skipped..).unwrap_or_default();
            let wanted = self.wanted() - self.kept.len();
            let (more, after) = rest.split_at(wanted.min(rest.len()));
            self.kept.extend_from_slice(more);
            rest = after;
            // A whole header may show that more is kept.
            if self.kept.len() == self.wanted() {
                is_heard |= self.kept.len() == KEPT_BYTES && self.kept.ends_with(&[0; 4]);
                self.skip = self.length() - (self.kept.len() - HEADER_BYTES);
                self.kept.clear();
            }
        }
        is_heard
    }

    /// How many bytes of this frame are kept.
    fn wanted(&self) -> usize {
        let is_goaway = self.kept.get(3) == Some(&GOAWAY);
        if is_goaway && self.length() >= KEPT_BYTES - HEADER_BYTES {
            KEPT_BYTES
        } else {
            HEADER_BYTES
        }
    }

    fn length(&self) -> usize {
        self.kept
            .iter()
            .take(3)
            .fold(0, |length, byte| length << 8 | usize::from(*byte))
    }
}

impl AsyncRead for Heard {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if this
            .frames
            .take(buffer.filled().get(before..).unwrap_or_default())
        {
            this.farewell.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(payload);
        bytes
    }

    /// In pieces of `size` bytes.
    fn is_heard(bytes: &[u8], size: usize) -> bool {
        let mut frames = Frames::default();
        bytes
            .chunks(size)
            .fold(false, |heard, piece| frames.take(piece) | heard)
    }

    #[test]
    fn a_polite_goaway_is_heard_between_other_frames_and_nothing_else_is() {
        let settings = frame(0x4, &[7; 12]);
        // A payload that looks like a GOAWAY.
        let data = frame(0x0, &frame(GOAWAY, &[0; 8]));
        let empty = frame(0x4, &[]);
        let table = [
            (frame(GOAWAY, &[0, 0, 0, 5, 0, 0, 0, 0]), true),
            (frame(GOAWAY, &[0, 0, 0, 5, 0, 0, 0, 0, 9, 9]), true),
            (frame(GOAWAY, &[0, 0, 0, 5, 0, 0, 0, 2]), false),
            (frame(GOAWAY, &[0; 4]), false),
            (data.clone(), false),
        ];
        for (last, expected) in table {
            let bytes = [&settings[..], &data, &empty, &last, &settings, &data].concat();
            for size in [1, 2, 5, 9, 16, bytes.len()] {
                assert_eq!(is_heard(&bytes, size), expected, "{last:?} by {size}");
            }
        }
    }
}
