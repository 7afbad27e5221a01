//! Field lines into a header block (RFC 7541 section 6).
//!
//! ```text
//!   in a table whole ──▶ its index
//!   worth keeping ──▶ literal, kept by both ends: an index the next time
//!   changes with every answer, or is secret ──▶ literal, not kept
//! ```
//!
//! Room  pure. Nothing is Huffman-coded: the answers' fields repeat, and then they are one byte.
//! Holds what the client's SETTINGS allow for its table is not exceeded.

use super::table::{STATIC, TABLE_SIZE, Table};
use crate::field::FieldSink;

/// The encoder of one connection.
#[derive(Debug)]
pub(crate) struct Encoder {
    table: Table,
    limit: usize,
    /// The table's size has changed: the least that it was since the last block, to be said before the size in force
    /// (RFC 7541 section 4.2).
    least: Option<usize>,
    name: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self {
            table: Table::new(),
            limit: TABLE_SIZE,
            least: None,
            name: Vec::new(),
        }
    }

    /// What the client's SETTINGS allow, in octets.
    pub(crate) fn set_limit(&mut self, allowed: usize) {
        let limit = allowed.min(TABLE_SIZE);
        if limit != self.limit {
            self.limit = limit;
            self.table.set_limit(limit);
            self.least = Some(self.least.map_or(limit, |least| least.min(limit)));
        }
    }

    /// A block of an answer: its status comes first.
    pub(crate) fn begin<'e>(&'e mut self, out: &'e mut Vec<u8>) -> Block<'e> {
        if let Some(least) = self.least.take() {
            if least < self.limit {
                number(out, 0x20, 5, least);
            }
            number(out, 0x20, 5, self.limit);
        }
        Block { encoder: self, out }
    }
}

/// A block that is being written.
#[derive(Debug)]
pub(crate) struct Block<'e> {
    encoder: &'e mut Encoder,
    out: &'e mut Vec<u8>,
}

impl Block<'_> {
    pub(crate) fn status(&mut self, status: u16) {
        let digits = [status / 100 % 10, status / 10 % 10, status % 10]
            .map(|digit| b'0' + u8::try_from(digit).unwrap_or(0));
        self.field(b":status", &digits);
    }

    /// `name` is in lower case.
    fn field(&mut self, name: &[u8], value: &[u8]) {
        let place = place(name);
        if let Some(index) = place.and_then(|place| whole(place, name, value)) {
            number(self.out, 0x80, 7, index);
            return;
        }
        let named = place.map_or(0, |place| place + 1);
        if !is_kept(name, value) {
            self.literal(0x00, 4, named, name, value);
            return;
        }
        let hash = hash(name, value);
        if let Some(index) = self.encoder.table.find(hash, name, value) {
            number(self.out, 0x80, 7, index);
            return;
        }
        self.literal(0x40, 6, named, name, value);
        self.encoder.table.insert(hash, name, value);
    }

    fn literal(&mut self, mark: u8, prefix: u32, named: usize, name: &[u8], value: &[u8]) {
        number(self.out, mark, prefix, named);
        if named == 0 {
            number(self.out, 0, 7, name.len());
            self.out.extend_from_slice(name);
        }
        number(self.out, 0, 7, value.len());
        self.out.extend_from_slice(value);
    }
}

impl FieldSink for Block<'_> {
    fn put(&mut self, name: &[u8], value: &[u8]) {
        let mut lower = std::mem::take(&mut self.encoder.name);
        lower.clear();
        lower.extend_from_slice(name);
        lower.make_ascii_lowercase();
        self.field(&lower, value);
        self.encoder.name = lower;
    }
}

/// Where the names of each first letter begin and end in the static table: names of one letter stand together.
const LETTERS: [(usize, usize); 256] = {
    let mut letters = [(0, 0); 256];
    let mut at = 0;
    while at < STATIC.len() {
        let first = STATIC[at].0.as_bytes()[0] as usize;
        if letters[first].1 == 0 {
            letters[first].0 = at;
        }
        letters[first].1 = at + 1;
        at += 1;
    }
    letters
};

/// Where the name stands first in the static table.
fn place(name: &[u8]) -> Option<usize> {
    let (from, to) = *LETTERS.get(usize::from(*name.first()?))?;
    let place = STATIC
        .get(from..to)?
        .iter()
        .position(|(known, _)| known.as_bytes() == name)?;
    Some(from + place)
}

/// The index of name and value in the static table, from the name's place on.
fn whole(place: usize, name: &[u8], value: &[u8]) -> Option<usize> {
    let same = STATIC.get(place..)?;
    let offset = same
        .iter()
        .take_while(|(known, _)| known.as_bytes() == name)
        .position(|(_, known)| known.as_bytes() == value && !value.is_empty())?;
    Some(place + offset + 1)
}

/// True for what comes again as it is. Others would push those out; secrets are not kept at all
/// (RFC 7541 section 7.1.3).
fn is_kept(name: &[u8], value: &[u8]) -> bool {
    let changes: [&[u8]; 13] = [
        b"content-length",
        b"content-range",
        b"etag",
        b"last-modified",
        b"location",
        b"set-cookie",
        b"age",
        b"x-request-id",
        b"expires",
        b"grpc-message",
        b"authorization",
        b"www-authenticate",
        b"traceparent",
    ];
    value.len() <= 256 && !changes.contains(&name)
}

/// Multiply and rotate: these are our own answers' fields, and a clash costs a comparison.
fn hash(name: &[u8], value: &[u8]) -> u64 {
    const K: u64 = 0x517c_c1b7_2722_0a95;
    let mut hash = u64::try_from(name.len()).unwrap_or(0);
    for part in [name, value] {
        let mut words = part.chunks_exact(8);
        for word in &mut words {
            let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
            hash = (hash.rotate_left(5) ^ word).wrapping_mul(K);
        }
        for byte in words.remainder() {
            hash = (hash.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(K);
        }
    }
    hash
}

fn number(out: &mut Vec<u8>, mark: u8, prefix: u32, value: usize) {
    let full = (1_usize << prefix) - 1;
    let low = |value: usize| u8::try_from(value & 0xff).unwrap_or(0);
    if value < full {
        out.push(mark | low(value));
        return;
    }
    out.push(mark | low(full));
    let mut rest = value - full;
    while rest >= 0x80 {
        out.push(low(rest & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.push(low(rest));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Decoder;
    use super::Encoder;
    use crate::field::FieldSink as _;

    type Lines = Vec<(Vec<u8>, Vec<u8>)>;

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Lines {
        let mut lines = Vec::new();
        decoder
            .decode(block, |name, value| {
                lines.push((name.to_vec(), value.to_vec()));
            })
            .expect("a block of ours");
        lines
    }

    #[test]
    fn an_answer_that_comes_again_is_a_few_bytes() {
        let mut encoder = Encoder::new();
        let mut sizes = Vec::new();
        for length in ["1024", "1025"] {
            let mut out = Vec::new();
            let mut block = encoder.begin(&mut out);
            block.status(200);
            block.put(b"Content-Type", b"application/json");
            block.put(b"X-Served-By", b"edge");
            block.put(b"Content-Length", length.as_bytes());
            sizes.push(out.len());
        }
        assert_eq!(sizes, [1 + 18 + 18 + 7, 1 + 1 + 1 + 7]);
    }

    #[test]
    fn a_smaller_table_is_said_and_kept_to() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        encoder.set_limit(0);
        for _ in 0..2 {
            let mut out = Vec::new();
            encoder.begin(&mut out).put(b"server", b"edge");
            let lines = decoded(&mut decoder, &out);
            assert_eq!(lines, [(b"server".to_vec(), b"edge".to_vec())]);
        }
        encoder.set_limit(100);
        encoder.set_limit(0);
        encoder.set_limit(200);
        let mut out = Vec::new();
        encoder.begin(&mut out);
        assert_eq!(out, [0x20, 0x3f, 0xa9, 1], "the least, then the last");
        encoder.set_limit(0);
        let mut out = Vec::new();
        encoder.begin(&mut out);
        let mut out = Vec::new();
        encoder.begin(&mut out).status(418);
        assert_eq!(out, [0x48, 3, b'4', b'1', b'8'], "nothing of it is kept");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_what_is_decoded(
            blocks in proptest::collection::vec(
                proptest::collection::vec(("[a-z-]{1,20}", "[ -~]{0,300}"), 0..20),
                1..10,
            ),
            limit in 0_usize..5000,
        ) {
            let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
            encoder.set_limit(limit);
            for fields in blocks {
                let mut out = Vec::new();
                let mut block = encoder.begin(&mut out);
                for (name, value) in &fields {
                    block.put(name.as_bytes(), value.as_bytes());
                }
                let expected: Lines = fields
                    .into_iter()
                    .map(|(name, value)| (name.into_bytes(), value.into_bytes()))
                    .collect();
                prop_assert_eq!(decoded(&mut decoder, &out), expected);
            }
        }
    }
}
