//! A short value built on the stack.
//!
//! Room  pure.
//! Holds no allocation up to 192 bytes; whatever is longer goes to the heap, nothing is cut off.

use std::fmt;

/// Bytes being written.
pub(super) struct Text {
    inline: [u8; 192],
    length: usize,
    /// Holds everything as soon as `inline` is too small.
    spilled: Vec<u8>,
}

impl Text {
    pub(super) fn new() -> Self {
        Self {
            inline: [0; 192],
            length: 0,
            spilled: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if self.spilled.is_empty() && end <= self.inline.len() {
            self.inline[self.length..end].copy_from_slice(bytes);
            self.length = end;
            return;
        }
        if self.spilled.is_empty() {
            self.spilled.extend_from_slice(&self.inline[..self.length]);
        }
        self.spilled.extend_from_slice(bytes);
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        if self.spilled.is_empty() {
            &self.inline[..self.length]
        } else {
            &self.spilled
        }
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn nothing_is_lost_at_the_border() {
        for total in [0_usize, 1, 191, 192, 193, 1000] {
            for step in [1_usize, 7, 192, 500] {
                let whole: Vec<u8> = (0..total)
                    .map(|n| u8::try_from(n % 251).expect("small"))
                    .collect();
                let mut text = Text::new();
                for part in whole.chunks(step) {
                    text.push(part);
                }
                assert_eq!(text.as_bytes(), whole);
            }
        }
    }
}
