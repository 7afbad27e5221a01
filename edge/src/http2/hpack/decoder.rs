//! Field lines out of a header block (RFC 7541 section 6).
//!
//! Room  pure: bytes in, names and values out, in order.
//! Holds a block that is refused leaves the table unusable: the connection ends (RFC 9113 section 4.3). A value is
//!       never longer than the block's limit, however well it was compressed.

use super::huffman;
use super::table::{TABLE_SIZE, Table};

/// Why a block cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadBlock {
    /// It ends in the middle of a field line.
    #[error("a header block ends in a field")]
    Short,
    /// A number that is no sensible index or length.
    #[error("a number in a header block is too large")]
    Number,
    /// There is no such entry.
    #[error("a header block refers to an entry that is not there")]
    Index,
    /// See `huffman`.
    #[error("a string in a header block is no Huffman code")]
    Huffman,
    /// Larger than allowed, or not at the beginning of a block.
    #[error("a header block changes the table's size where it may not")]
    Resize,
}

/// The decoder of one connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: Table,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            table: Table::new(),
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Hands every field line of a whole block to `put`.
    ///
    /// # Errors
    /// See [`BadBlock`].
    pub(crate) fn decode(
        &mut self,
        mut block: &[u8],
        mut put: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), BadBlock> {
        let mut may_resize = true;
        while let Some(first) = block.first().copied() {
            if first & 0x80 != 0 {
                let index = number(&mut block, 7)?;
                let (name, value) = self.table.get(index).ok_or(BadBlock::Index)?;
                put(name, value);
            } else if first & 0xc0 == 0x40 {
                self.literal(&mut block, 6)?;
                put(&self.name, &self.value);
                self.table.insert(0, &self.name, &self.value);
            } else if first & 0xe0 == 0x20 {
                let size = number(&mut block, 5)?;
                if size > TABLE_SIZE || !may_resize {
                    return Err(BadBlock::Resize);
                }
                self.table.set_limit(size);
                continue;
            } else {
                self.literal(&mut block, 4)?;
                put(&self.name, &self.value);
            }
            may_resize = false;
        }
        // What one huge block needed is not kept for the connection's life.
        self.name.shrink_to(KEPT);
        self.value.shrink_to(KEPT);
        Ok(())
    }

    fn literal(&mut self, block: &mut &[u8], prefix: u32) -> Result<(), BadBlock> {
        let index = number(block, prefix)?;
        self.name.clear();
        if index == 0 {
            string(block, &mut self.name)?;
        } else {
            let (name, _) = self.table.get(index).ok_or(BadBlock::Index)?;
            self.name.extend_from_slice(name);
        }
        self.value.clear();
        string(block, &mut self.value)
    }
}

/// Bytes of scratch that a connection keeps.
const KEPT: usize = 1024;

/// Numbers beyond this are no lengths and no indices of ours (RFC 7541 section 5.1).
const NUMBER_MAX: usize = 1 << 24;

fn number(block: &mut &[u8], prefix: u32) -> Result<usize, BadBlock> {
    let full = (1_usize << prefix) - 1;
    let mut value = usize::from(next(block)?) & full;
    if value < full {
        return Ok(value);
    }
    let mut shift = 0;
    loop {
        let byte = usize::from(next(block)?);
        value += (byte & 0x7f) << shift;
        if value > NUMBER_MAX || shift > 21 {
            return Err(BadBlock::Number);
        }
        if byte & 0x80 == 0 {
            return Ok(value);
        }
        shift += 7;
    }
}

fn next(block: &mut &[u8]) -> Result<u8, BadBlock> {
    let (first, rest) = block.split_first().ok_or(BadBlock::Short)?;
    *block = rest;
    Ok(*first)
}

fn string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), BadBlock> {
    let is_huffman = block.first().ok_or(BadBlock::Short)? & 0x80 != 0;
    let length = number(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(BadBlock::Short)?;
    *block = rest;
    if is_huffman {
        return huffman::decode(text, out).map_err(|_| BadBlock::Huffman);
    }
    out.extend_from_slice(text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BadBlock, Decoder};

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex"))
            .collect()
    }

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<String, BadBlock> {
        let mut out = String::new();
        decoder.decode(block, |name, value| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            out.push_str(&format!("{}: {}\n", text(name), text(value)));
        })?;
        Ok(out)
    }

    #[test]
    fn three_requests_on_one_connection() {
        // RFC 7541 appendix C.4: with Huffman codes, each refers to what the last one left.
        let mut decoder = Decoder::new();
        for (block, text) in [
            (
                "828684418cf1e3c2e5f23a6ba0ab90f4ff",
                ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n",
            ),
            (
                "828684be5886a8eb10649cbf",
                ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache\n",
            ),
            (
                "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
                ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value\n",
            ),
        ] {
            assert_eq!(decoded(&mut decoder, &hex(block)).expect("a block"), text);
        }
    }

    #[test]
    fn what_is_refused() {
        for (block, why) in [
            ("80", BadBlock::Index),
            ("ff00", BadBlock::Index),
            ("be", BadBlock::Index),
            ("40", BadBlock::Short),
            ("4003616263", BadBlock::Short),
            ("400361626305", BadBlock::Short),
            ("7fffffffffffff7f", BadBlock::Number),
            ("3fe21f", BadBlock::Resize),
            ("823f00", BadBlock::Resize),
            ("408180", BadBlock::Huffman),
        ] {
            let block = hex(block);
            assert_eq!(decoded(&mut Decoder::new(), &block), Err(why), "{block:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decoded(&mut Decoder::new(), &bytes);
        }
    }
}
