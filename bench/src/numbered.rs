//! Numbered, checksummed blocks: the byte stream that a long-lived connection carries both ways.
//!
//! Room  pure: writes the blocks of one connection and checks the stream that comes back.
//! In    the connection's number, the block's number, received bytes in pieces of any size.
//! Out   the bytes of a block; how many blocks came back whole; or what is wrong, in words.
//! Holds a stream of connection C is block 0, 1, 2 … of C, nothing between, nothing twice.
//!
//! ```text
//! block = connection u64 | number u64 | length of filling u64 | checksum u64 | filling      (big endian)
//! ```

use crate::payload::{Payload, mix};

/// Bytes before the filling of a block.
const HEADER_BYTES: usize = 32;

/// The filling of a block has this many bytes or more …
const FILLING_BYTES_MIN: u64 = 32;

/// … and fewer than this: a block stays a trickle, and often fits one segment.
const FILLING_BYTES_LIMIT: u64 = 1_024;

/// Appends block `number` of `connection` to `out`.
pub(crate) fn write_block(connection: u64, number: u64, out: &mut Vec<u8>) {
    let random = mix(mix(connection) ^ number);
    let length = FILLING_BYTES_MIN + random % (FILLING_BYTES_LIMIT - FILLING_BYTES_MIN);
    let filling = Payload::new(random >> 32, length).chunk(0);
    out.reserve(HEADER_BYTES + filling.len());
    for word in [
        connection,
        number,
        length,
        checksum(connection, number, filling),
    ] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(filling);
}

/// FNV-1a over 64-bit words: finds damage, keeps no secret.
fn checksum(connection: u64, number: u64, filling: &[u8]) -> u64 {
    let mut sum = 0xCBF2_9CE4_8422_2325_u64;
    let mut add = |word: u64| sum = (sum ^ word).wrapping_mul(0x0000_0100_0000_01B3);
    add(connection);
    add(number);
    for piece in filling.chunks(8) {
        let mut word = [0_u8; 8];
        for (to, from) in word.iter_mut().zip(piece) {
            *to = *from;
        }
        add(u64::from_be_bytes(word));
    }
    sum
}

/// Checks the stream that comes back on one connection.
#[derive(Debug)]
pub(crate) struct Checker {
    connection: u64,
    number: u64,
    expected: Vec<u8>,
    at: usize,
}

impl Checker {
    /// Expects block 0 of `connection` first.
    pub(crate) fn new(connection: u64) -> Self {
        let mut expected = Vec::new();
        write_block(connection, 0, &mut expected);
        Self {
            connection,
            number: 0,
            expected,
            at: 0,
        }
    }

    /// Blocks that came back whole so far: also the number of the block expected now.
    pub(crate) fn blocks(&self) -> u64 {
        self.number
    }

    /// True between two blocks: the only place where a stream may end.
    pub(crate) fn is_between_blocks(&self) -> bool {
        self.at == 0
    }

    /// Takes the next received bytes and says how many blocks they completed.
    ///
    /// # Errors
    /// What arrived instead of the promised bytes, as a sentence for a person.
    pub(crate) fn take(&mut self, received: &[u8]) -> Result<u64, String> {
        let mut rest = received;
        let mut completed = 0;
        while !rest.is_empty() {
            let expected = self.expected.get(self.at..).unwrap_or_default();
            let length = expected.len().min(rest.len());
            let (head, tail) = rest.split_at(length);
            if expected.get(..length) != Some(head) {
                return Err(self.explain(expected, rest));
            }
            self.at += length;
            rest = tail;
            if self.at == self.expected.len() {
                completed += 1;
                self.advance();
            }
        }
        Ok(completed)
    }

    fn advance(&mut self) {
        self.number += 1;
        self.at = 0;
        self.expected.clear();
        write_block(self.connection, self.number, &mut self.expected);
    }

    fn explain(&self, expected: &[u8], arrived: &[u8]) -> String {
        let wanted = format!("block {} of connection {}", self.number, self.connection);
        if self.at == 0
            && let Some((connection, number)) = intact_block(arrived)
        {
            return format!(
                "block {number} of connection {connection} arrived where {wanted} was expected"
            );
        }
        let same = expected
            .iter()
            .zip(arrived)
            .take_while(|(a, b)| a == b)
            .count();
        format!(
            "byte {} of {wanted} is not the one that was sent",
            self.at + same
        )
    }
}

/// Whose block it is, when `bytes` begin with a whole one whose checksum is right.
fn intact_block(bytes: &[u8]) -> Option<(u64, u64)> {
    let word = |at: usize| -> Option<u64> {
        let bytes = bytes.get(at * 8..at * 8 + 8)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    };
    let (connection, number, length, sum) = (word(0)?, word(1)?, word(2)?, word(3)?);
    let end = HEADER_BYTES.checked_add(usize::try_from(length).ok()?)?;
    let filling = bytes.get(HEADER_BYTES..end)?;
    (checksum(connection, number, filling) == sum).then_some((connection, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(connection: u64, blocks: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        (0..blocks).for_each(|number| write_block(connection, number, &mut bytes));
        bytes
    }

    #[test]
    fn a_stream_that_comes_back_in_pieces_of_any_size_is_whole() {
        let bytes = stream(9, 50);
        for size in [1, 7, 32, 1_000, bytes.len()] {
            let mut checker = Checker::new(9);
            let completed: u64 = bytes
                .chunks(size)
                .map(|piece| checker.take(piece).unwrap())
                .sum();
            assert_eq!((completed, checker.blocks()), (50, 50));
            assert!(checker.is_between_blocks());
        }
    }

    #[test]
    fn a_block_of_another_connection_and_a_skipped_block_are_named() {
        let mut checker = Checker::new(1);
        let message = checker.take(&stream(2, 1)).unwrap_err();
        assert_eq!(
            message,
            "block 0 of connection 2 arrived where block 0 of connection 1 was expected"
        );

        let mut checker = Checker::new(1);
        let mut second = Vec::new();
        write_block(1, 1, &mut second);
        let message = checker.take(&second).unwrap_err();
        assert_eq!(
            message,
            "block 1 of connection 1 arrived where block 0 of connection 1 was expected"
        );
    }

    #[test]
    fn a_damaged_byte_is_found_wherever_it_is() {
        let bytes = stream(3, 2);
        for wrong in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[wrong] ^= 0x40;
            let mut checker = Checker::new(3);
            let message = checker.take(&damaged).unwrap_err();
            assert!(
                message.contains("is not the one that was sent"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_stream_that_stops_inside_a_block_is_not_between_blocks() {
        let bytes = stream(4, 1);
        let mut checker = Checker::new(4);
        assert_eq!(checker.take(&bytes[..bytes.len() - 1]), Ok(0));
        assert!(!checker.is_between_blocks());
    }
}
