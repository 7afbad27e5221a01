//! What a client's HTTP/2 bytes look like from outside: enough to see abuse and stalls that the library does
//! not end by itself.
//!
//! ```text
//!   bytes ──▶ preface ──▶ frame header (9 bytes) ──▶ payload skipped ──▶ frame header …
//! ```
//!
//! Room  pure: bytes in, facts out (RFC 9113 sections 4.1 and 6). The library still judges every frame.
//! Holds memory is constant; any bytes are taken without a panic.

/// Bytes of the client's preface (RFC 9113 section 3.4).
const PREFACE_BYTES: u32 = 24;

/// Bytes of a frame's header.
const HEADER_BYTES: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    /// Bytes of the preface or of a payload that are still to come.
    skip: u32,
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    /// A header block was begun and not ended: when, in milliseconds.
    block_since: Option<u64>,
    block_frames: u32,
    /// Of the current window.
    window_began: u64,
    resets: u32,
    controls: u32,
    has_begun: bool,
}

/// What is counted over.
const WINDOW_MS: u64 = 10_000;

/// SETTINGS and PING frames of a window. Sized: a client that measures its round trip ten times a second.
const CONTROLS_MAX: u32 = 200;

/// Frames of one header block. Sized: 32 KiB of fields in frames of 4 KiB, twice.
const BLOCK_FRAMES_MAX: u32 = 16;

/// Why a connection is not served any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abuse {
    /// More resets than allowed (CVE-2023-44487).
    Resets,
    /// A flood of SETTINGS or PING.
    Controls,
    /// A header block in endless pieces (CVE-2024-27316).
    Block,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self {
            skip: PREFACE_BYTES,
            header: [0; HEADER_BYTES],
            header_filled: 0,
            block_since: None,
            block_frames: 0,
            window_began: 0,
            resets: 0,
            controls: 0,
            has_begun: false,
        }
    }

    /// Since when a header block has been waiting for its end.
    pub(crate) fn block_since(&self) -> Option<u64> {
        self.block_since
    }

    /// True once the preface and a frame have come.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// These bytes came; `now` in milliseconds.
    pub(crate) fn take(&mut self, mut bytes: &[u8], now: u64, resets_max: u32) -> Result<(), Abuse> {
        if now.saturating_sub(self.window_began) > WINDOW_MS {
            self.window_began = now;
            self.resets = 0;
            self.controls = 0;
        }
        while !bytes.is_empty() {
            if self.skip > 0 {
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(self.skip);
                self.skip -= length;
                let length = usize::try_from(length).unwrap_or(bytes.len());
                bytes = bytes.get(length..).unwrap_or_default();
                continue;
            }
            let Some((first, rest)) = bytes.split_first() else {
                break;
            };
            if let Some(slot) = self.header.get_mut(self.header_filled) {
                *slot = *first;
            }
            self.header_filled += 1;
            bytes = rest;
            if self.header_filled == HEADER_BYTES {
                self.header_filled = 0;
                self.frame(now, resets_max)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, now: u64, resets_max: u32) -> Result<(), Abuse> {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.skip = u32::from_be_bytes([0, high, middle, low]);
        self.has_begun = true;
        match kind {
            HEADERS | CONTINUATION => {
                if kind == HEADERS {
                    self.block_frames = 0;
                }
                self.block_frames += 1;
                if flags & END_HEADERS != 0 {
                    self.block_since = None;
                } else {
                    self.block_since.get_or_insert(now);
                }
                if self.block_frames > BLOCK_FRAMES_MAX {
                    return Err(Abuse::Block);
                }
            }
            RST_STREAM => {
                self.resets += 1;
                if self.resets > resets_max {
                    return Err(Abuse::Resets);
                }
            }
            SETTINGS | PING => {
                self.controls += 1;
                if self.controls > CONTROLS_MAX {
                    return Err(Abuse::Controls);
                }
            }
            DATA => {}
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Abuse, BLOCK_FRAMES_MAX, CONTROLS_MAX, PREFACE_BYTES, Watch};

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).expect("short").to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(bytes.len() + payload, 7);
        bytes
    }

    fn begun() -> Watch {
        let mut watch = Watch::new();
        watch
            .take(&[0; PREFACE_BYTES as usize], 0, 10)
            .expect("the preface");
        watch
    }

    #[test]
    fn an_unfinished_block_is_seen_until_it_ends() {
        let mut watch = begun();
        watch.take(&frame(0x1, 0, 20), 5, 10).expect("fine");
        assert_eq!(watch.block_since(), Some(5));
        watch.take(&frame(0x9, 0x4, 20), 9, 10).expect("fine");
        assert_eq!((watch.block_since(), watch.has_begun()), (None, true));
    }

    #[test]
    fn floods_are_abuse_and_patience_is_not() {
        for (kind, flags, most, abuse) in [
            (0x3, 0, 10, Abuse::Resets),
            (0x6, 0, CONTROLS_MAX, Abuse::Controls),
            (0x9, 0, BLOCK_FRAMES_MAX, Abuse::Block),
        ] {
            let mut watch = begun();
            for _ in 0..most {
                watch.take(&frame(kind, flags, 8), 0, 10).expect("allowed");
            }
            assert_eq!(watch.take(&frame(kind, flags, 8), 0, 10), Err(abuse));
        }
        let mut slow = begun();
        for second in 0..100 {
            slow.take(&frame(0x3, 0, 4), second * 5_000, 10)
                .expect("one in five seconds");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_are_taken(
            bytes in proptest::collection::vec(any::<u8>(), 0..2_000),
            cut in 1_usize..50,
        ) {
            let (mut whole, mut pieces) = (Watch::new(), Watch::new());
            let one = whole.take(&bytes, 1, 1_000_000);
            let mut other = Ok(());
            for piece in bytes.chunks(cut) {
                other = other.and_then(|()| pieces.take(piece, 1, 1_000_000));
            }
            prop_assert_eq!(one, other);
            if one.is_ok() {
                prop_assert_eq!(whole.has_begun, pieces.has_begun);
                prop_assert_eq!(whole.skip, pieces.skip);
            }
        }
    }
}
