//! Deterministic bytes: what the loads send and the origins answer, so that every received byte can be checked.
//!
//! Room  pure: a fixed pattern and arithmetic on positions.
//! In    where a payload begins in the pattern and how long it is.
//! Out   slices to send without copying, and a block comparison of what came back.
//! Holds byte i of a payload is PATTERN[(offset + i) mod PERIOD]; two payloads with different offsets differ in
//!       almost every byte, so bytes of another connection never pass for one's own.

use std::sync::LazyLock;

/// Length of the pattern in bytes before it repeats: the largest prime below 2^16, so that a shift by any buffer
/// size (a power of two) is never invisible.
pub const PERIOD: usize = 65_521;

/// The longest slice given out at once, in bytes.
pub const CHUNK_BYTES_MAX: usize = 65_536;

/// One period and as much of the next as a chunk may need: every chunk is one contiguous slice.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = Vec::with_capacity(PERIOD + CHUNK_BYTES_MAX + 8);
    let mut word = 0_u64;
    while bytes.len() < PERIOD {
        word = word.wrapping_add(1);
        bytes.extend_from_slice(&mix(word).to_le_bytes());
    }
    bytes.truncate(PERIOD);
    while bytes.len() < PERIOD + CHUNK_BYTES_MAX {
        let more = (PERIOD + CHUNK_BYTES_MAX - bytes.len()).min(PERIOD);
        bytes.extend_from_within(..more);
    }
    bytes
});

/// Spreads a number over 64 bits (the finaliser of SplitMix64, Steele et al. 2014): same input, same output, everywhere.
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A run of the pattern: where it begins and how many bytes it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    offset: u64,
    length: u64,
}

/// The position of the first byte that is not the promised one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} is not the one that was promised")]
pub struct Mismatch {
    /// Position in the payload, in bytes from its beginning.
    pub at: u64,
}

impl Payload {
    /// `length` bytes beginning at `offset` of the pattern (any number: it is taken modulo [`PERIOD`]).
    pub fn new(offset: u64, length: u64) -> Self {
        Self {
            offset: offset % PERIOD as u64,
            length,
        }
    }

    /// Where in the pattern it begins.
    pub fn offset(self) -> u64 {
        self.offset
    }

    /// How many bytes it has.
    pub fn length(self) -> u64 {
        self.length
    }

    /// The bytes from position `at` on: at most [`CHUNK_BYTES_MAX`], empty at the end.
    pub fn chunk(self, at: u64) -> &'static [u8] {
        let left = self.length.saturating_sub(at);
        let begin =
            usize::try_from((self.offset + at % PERIOD as u64) % PERIOD as u64).unwrap_or(0);
        let length = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(CHUNK_BYTES_MAX);
        PATTERN.get(begin..begin + length).unwrap_or_default()
    }

    /// Compares bytes that arrived at position `at` with what they must be.
    ///
    /// # Errors
    /// The first position that differs; bytes beyond the payload's length differ by being there.
    pub fn check(self, at: u64, received: &[u8]) -> Result<(), Mismatch> {
        let (mut at, mut rest) = (at, received);
        while !rest.is_empty() {
            let expected = self.chunk(at);
            let length = expected.len().min(rest.len());
            let (head, tail) = rest.split_at(length);
            if length == 0 || expected.get(..length) != Some(head) {
                let same = head
                    .iter()
                    .zip(expected)
                    .take_while(|(a, b)| a == b)
                    .count();
                return Err(Mismatch {
                    at: at + same as u64,
                });
            }
            at += length as u64;
            rest = tail;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(payload: Payload) -> Vec<u8> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < payload.length() {
            bytes.extend_from_slice(payload.chunk(bytes.len() as u64));
        }
        bytes
    }

    #[test]
    fn a_payload_is_the_same_every_time_and_has_its_length() {
        for length in [0, 1, 4_096, 65_521, 65_536, 300_000] {
            let payload = Payload::new(77, length);
            let bytes = collect(payload);
            assert_eq!(bytes.len() as u64, length);
            assert_eq!(payload.check(0, &bytes), Ok(()));
            for (at, byte) in bytes.iter().enumerate() {
                assert_eq!(*byte, PATTERN[(77 + at) % PERIOD]);
            }
        }
    }

    #[test]
    fn bytes_may_be_checked_in_pieces_of_any_size() {
        let payload = Payload::new(65_000, 200_000);
        let bytes = collect(payload);
        let mut at = 0;
        for piece in bytes.chunks(7_919) {
            assert_eq!(payload.check(at, piece), Ok(()));
            at += piece.len() as u64;
        }
    }

    #[test]
    fn the_first_wrong_byte_is_named() {
        let payload = Payload::new(3, 100_000);
        for wrong in [0, 1, 65_520, 65_521, 99_999] {
            let mut bytes = collect(payload);
            bytes[wrong] ^= 1;
            assert_eq!(payload.check(0, &bytes), Err(Mismatch { at: wrong as u64 }));
        }
    }

    #[test]
    fn a_byte_too_many_and_bytes_of_another_offset_are_wrong() {
        let payload = Payload::new(0, 10);
        let longer = collect(Payload::new(0, 11));
        assert_eq!(payload.check(0, &longer), Err(Mismatch { at: 10 }));
        let other = collect(Payload::new(4_096, 10));
        assert!(payload.check(0, &other).is_err());
    }
}
