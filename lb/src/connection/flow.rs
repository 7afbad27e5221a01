//! The state of one direction of a connection between two of its turns.
//!
//! Room  a value: no system call.
//! In    what `relay` read and could not write yet, and how the source ended.
//! Out   what is still to be written.
//! Holds a direction without held bytes owns neither memory nor, once it rests, a pipe.

use crate::pipes::Pipe;

/// How a direction moves its bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    /// Through the shard's buffer; `filled` counts how often in a row a read filled it.
    Copy { filled: u8 },
    /// Through a pipe, without copying.
    Splice,
}

/// What is known of the side that a direction reads from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Source {
    /// More may come.
    Open,
    /// It said end of file.
    Ended,
    /// It was reset, or its host stopped answering: the stream was cut.
    Reset,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Flow {
    kept: Vec<u8>,
    written: usize,
    pub(crate) pipe: Option<Pipe>,
    pub(crate) mode: Mode,
    pub(crate) source: Source,
    /// The destination takes no more bytes: it was reset.
    pub(crate) broken: bool,
    /// The destination was told that the source ended.
    pub(crate) told: bool,
    /// Bytes written to the destination.
    pub(crate) bytes: u64,
}

impl Flow {
    pub(crate) fn new() -> Self {
        Self {
            kept: Vec::new(),
            written: 0,
            pipe: None,
            mode: Mode::Copy { filled: 0 },
            source: Source::Open,
            broken: false,
            told: false,
            bytes: 0,
        }
    }

    /// Bytes read and not yet written.
    pub(crate) fn held(&self) -> usize {
        self.kept().len() + self.pipe.as_ref().map_or(0, Pipe::held)
    }

    /// The held bytes that lie in memory.
    pub(crate) fn kept(&self) -> &[u8] {
        self.kept.get(self.written..).unwrap_or_default()
    }

    /// Keeps bytes for later, behind those kept already.
    pub(crate) fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
    }

    /// The first so many kept bytes were written. The memory goes with the last of them.
    pub(crate) fn release(&mut self, count: usize) {
        self.written += count;
        if self.written >= self.kept.len() {
            self.forget_kept();
        }
    }

    /// Drops the kept bytes and their memory.
    pub(crate) fn forget_kept(&mut self) {
        self.kept = Vec::new();
        self.written = 0;
    }

    /// Takes all kept bytes out, for instance to put others before them.
    pub(crate) fn take_kept(&mut self) -> Vec<u8> {
        let kept = self.kept().to_vec();
        self.forget_kept();
        kept
    }

    /// Nothing will pass here any more: all was delivered, or it cannot be.
    pub(crate) fn is_over(&self) -> bool {
        match self.source {
            Source::Open => self.broken,
            Source::Ended => self.broken || self.held() == 0,
            // A reset withdraws what was on its way; waiting for a slow reader would only hold it back.
            Source::Reset => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Flow, Source};

    #[test]
    fn kept_bytes_leave_in_order_and_take_their_memory_along() {
        let mut flow = Flow::new();
        flow.keep(b"one");
        flow.keep(b"two");
        flow.release(2);
        assert_eq!(flow.kept(), b"etwo");
        flow.release(4);
        assert_eq!(flow.held(), 0);
        assert_eq!(flow.kept.capacity(), 0);
    }

    #[test]
    fn an_end_of_file_waits_for_held_bytes_and_a_reset_does_not() {
        let mut flow = Flow::new();
        flow.keep(b"last words");
        assert!(!flow.is_over());
        flow.source = Source::Ended;
        assert!(!flow.is_over());
        flow.source = Source::Reset;
        assert!(flow.is_over());
        flow.source = Source::Ended;
        flow.release(10);
        assert!(flow.is_over());
    }
}
