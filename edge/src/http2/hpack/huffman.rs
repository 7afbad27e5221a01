//! Huffman codes of field strings (RFC 7541 section 5.2 and appendix B).
//!
//! ```text
//!   byte ──▶ two steps of four bits through a table of 256 states ──▶ at most one symbol for each step
//! ```
//!
//! Room  pure. The table is made once from the lengths of the codes: they are canonical (ordered by length, then
//!       by symbol).
//! Holds padding longer than seven bits, padding that is not ones, and the end symbol are errors.

use std::sync::LazyLock;

/// Bits of each symbol's code.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// Code of the end symbol: thirty ones. It may not occur in a string.
const END: (u32, u8) = (0x3fff_ffff, 30);

/// A string that is no Huffman code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadCode;

/// What four bits do.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    next: u8,
    symbol: Option<u8>,
    /// No code begins like this, or it is the end symbol's.
    is_bad: bool,
}

/// State 0 is the beginning of a code.
struct Machine {
    steps: Vec<[Step; 16]>,
    /// A string may end here: seven ones at most.
    ends: Vec<bool>,
}

static MACHINE: LazyLock<Machine> = LazyLock::new(Machine::new);

/// Appends what `code` stands for to `out`.
///
/// # Errors
/// [`BadCode`]; `out` then holds a part.
pub(super) fn decode(code: &[u8], out: &mut Vec<u8>) -> Result<(), BadCode> {
    let machine = &*MACHINE;
    let mut state = 0_u8;
    for byte in code {
        for nibble in [byte >> 4, byte & 15] {
            let step = machine
                .steps
                .get(usize::from(state))
                .and_then(|steps| steps.get(usize::from(nibble)))
                .ok_or(BadCode)?;
            if step.is_bad {
                return Err(BadCode);
            }
            if let Some(symbol) = step.symbol {
                out.push(symbol);
            }
            state = step.next;
        }
    }
    let may_end = machine.ends.get(usize::from(state)).copied();
    may_end
        .filter(|may_end| *may_end)
        .map(|_| ())
        .ok_or(BadCode)
}

/// The code of every symbol: value and bits.
fn codes() -> Vec<(u32, u8)> {
    let mut order: Vec<usize> = (0..LENGTHS.len()).collect();
    let bits = |symbol: usize| LENGTHS.get(symbol).copied().unwrap_or(0);
    order.sort_by_key(|symbol| (bits(*symbol), *symbol));
    let mut codes = vec![(0, 0); LENGTHS.len()];
    let (mut code, mut length) = (0_u32, 5_u8);
    for symbol in order {
        code <<= bits(symbol) - length;
        length = bits(symbol);
        if let Some(slot) = codes.get_mut(symbol) {
            *slot = (code, length);
        }
        code += 1;
    }
    codes
}

/// A branch of the tree of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Branch {
    Nowhere,
    Inner(usize),
    Symbol(u8),
    End,
}

impl Machine {
    fn new() -> Self {
        let tree = tree();
        let steps = (0..tree.len())
            .map(|state| {
                let mut steps = [Step::default(); 16];
                for (nibble, step) in (0_u8..16).zip(&mut steps) {
                    *step = walk(&tree, state, nibble);
                }
                steps
            })
            .collect();
        let mut ends = vec![false; tree.len()];
        let mut state = 0;
        for _ in 0..8 {
            if let Some(end) = ends.get_mut(state) {
                *end = true;
            }
            match tree.get(state).map(|branches| branches[1]) {
                Some(Branch::Inner(next)) => state = next,
                _ => break,
            }
        }
        Self { steps, ends }
    }
}

fn tree() -> Vec<[Branch; 2]> {
    let mut tree = vec![[Branch::Nowhere; 2]];
    let symbols = (0_u8..=255).map(Branch::Symbol).zip(codes());
    for (leaf, (code, length)) in symbols.chain([(Branch::End, END)]) {
        let mut state = 0;
        for bit in (0..length).rev() {
            let side = usize::from(code >> bit & 1 == 1);
            let free = tree.len();
            let Some(branch) = tree.get_mut(state).and_then(|b| b.get_mut(side)) else {
                break;
            };
            if bit == 0 {
                *branch = leaf;
            } else if let Branch::Inner(next) = *branch {
                state = next;
            } else {
                *branch = Branch::Inner(free);
                tree.push([Branch::Nowhere; 2]);
                state = free;
            }
        }
    }
    tree
}

/// Four bits from `state` on.
fn walk(tree: &[[Branch; 2]], mut state: usize, nibble: u8) -> Step {
    let mut step = Step::default();
    for bit in (0..4).rev() {
        let side = usize::from(nibble >> bit & 1 == 1);
        let branch = tree.get(state).and_then(|branches| branches.get(side));
        match branch.copied().unwrap_or(Branch::Nowhere) {
            Branch::Inner(next) => state = next,
            Branch::Symbol(symbol) => {
                step.symbol = Some(symbol);
                state = 0;
            }
            Branch::Nowhere | Branch::End => {
                step.is_bad = true;
                return step;
            }
        }
    }
    // 256 symbols and the end make 256 inner branches.
    step.next = u8::try_from(state).unwrap_or(0);
    step
}

#[cfg(test)]
mod tests {
    use super::{BadCode, codes, decode, tree};

    fn encode(text: &[u8]) -> Vec<u8> {
        let codes = codes();
        let mut bits: Vec<bool> = Vec::new();
        for byte in text {
            let (code, length) = codes[usize::from(*byte)];
            bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
        }
        while !bits.len().is_multiple_of(8) {
            bits.push(true);
        }
        bits.chunks(8)
            .map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | u8::from(*bit)))
            .collect()
    }

    fn decoded(code: &[u8]) -> Result<Vec<u8>, BadCode> {
        let mut out = Vec::new();
        decode(code, &mut out).map(|()| out)
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 7541 appendix C.4.1, C.4.2, C.6.1.
        for (code, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            (
                "d07abe941054d444a8200595040b8166e082a62d1bff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
        ] {
            let code: Vec<u8> = (0..code.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&code[at..at + 2], 16).expect("hex"))
                .collect();
            assert_eq!(decoded(&code).expect("a code"), text.as_bytes());
            assert_eq!(encode(text.as_bytes()), code);
        }
    }

    #[test]
    fn every_byte_comes_back_and_the_tree_is_full() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&encode(&all)).expect("a code"), all);
        assert_eq!(tree().len(), 256);
    }

    #[test]
    fn wrong_padding_and_the_end_symbol_are_refused() {
        for code in [
            &[0xff][..],               // eight ones: longer than padding may be
            &[0x1f, 0xff],             // a symbol, then too much
            &[0b0001_1000],            // '1', padded with a zero
            &[0xff, 0xff, 0xff, 0xff], // the end symbol
        ] {
            assert_eq!(decoded(code), Err(BadCode), "{code:x?}");
        }
        assert_eq!(decoded(&[]), Ok(Vec::new()));
    }
}
