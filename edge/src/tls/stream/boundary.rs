//! Where TLS records end in the bytes that were received.
//!
//! Room  pure: counts lengths, decrypts nothing.
//! In    every received byte, in order.
//! Out   whether the last one ended a record.
//! Holds the form of a record header (RFC 8446, section 5.1) is the same before and after the handshake, in
//!       1.2 and 1.3. rustls does not say whether it holds part of a record, and secrets taken out in the
//!       middle of one would lose its first half.

/// Bytes of a record's header; the last two are the length of what follows.
const HEADER: u8 = 5;

/// Follows records through the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Boundary {
    /// Header bytes seen of the record under way.
    header: u8,
    /// The length as far as it was seen.
    length: u16,
    /// Bytes of the record's body still to come.
    body: u16,
}

impl Boundary {
    /// Takes the next bytes of the stream.
    pub(crate) fn advance(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.body > 0 {
                let skipped = usize::from(self.body).min(bytes.len());
                self.body -= u16::try_from(skipped).unwrap_or(self.body);
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            self.header += 1;
            // The shift drops type and version: only the last two bytes are left.
            self.length = (self.length << 8) | u16::from(*first);
            if self.header == HEADER {
                *self = Self {
                    body: self.length,
                    ..Self::default()
                };
            }
            bytes = rest;
        }
    }

    /// The last byte ended a record, or there was none yet.
    pub(crate) fn is_between_records(self) -> bool {
        self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Boundary;

    fn record(length: u16) -> Vec<u8> {
        let mut record = vec![23, 3, 3];
        record.extend(length.to_be_bytes());
        record.resize(5 + usize::from(length), 0xff);
        record
    }

    #[test]
    fn an_empty_stream_is_between_records() {
        assert!(Boundary::default().is_between_records());
    }

    proptest! {
        #[test]
        fn only_whole_records_end_at_a_boundary(
            lengths in prop::collection::vec(0_u16..600, 1..6),
            piece in 1_usize..700,
        ) {
            let records: Vec<Vec<u8>> = lengths.iter().map(|length| record(*length)).collect();
            let mut ends = vec![0];
            for record in &records {
                ends.push(ends.last().unwrap() + record.len());
            }
            let mut boundary = Boundary::default();
            let mut at = 0;
            for bytes in records.concat().chunks(piece) {
                boundary.advance(bytes);
                at += bytes.len();
                prop_assert_eq!(boundary.is_between_records(), ends.contains(&at));
            }
        }
    }
}
