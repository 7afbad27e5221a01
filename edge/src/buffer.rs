//! Bytes read and not yet passed on, in buffers that a worker lends to connections while they are busy.
//!
//! Room  memory only. Holds `data` is what was filled and not consumed; an idle connection has no buffer.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};

use crate::stream::Stream;

/// Size of a lent buffer. Sized: the default socket reads of browsers and APIs fit; a busy connection holds two.
const LENT_BYTES: usize = 16 * 1024;

/// Buffers that a worker keeps for the next request. Sized: 256 x 16 KiB are 4 MiB.
const KEPT_MAX: usize = 256;

/// Size that a buffer grows to once a body has filled it: fewer system calls for bulk.
const BULK_BYTES: usize = 64 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// What was read elsewhere.
    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        Self {
            start: 0,
            end: bytes.len(),
            bytes,
        }
    }

    /// Lets go of its memory when nothing is held in it.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    pub(crate) fn data(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// The first `count` bytes of `data` have been dealt with.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Makes room for at least one more byte, up to `most` bytes held.
    pub(crate) fn make_room(&mut self, most: usize) {
        if self.end < self.bytes.len() {
            return;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            return;
        }
        let wanted = (self.bytes.len() * 2).clamp(LENT_BYTES, most.max(LENT_BYTES));
        self.bytes.resize(wanted.max(self.bytes.len() + 1), 0);
    }

    /// A body that fills the buffer gets a larger one: it is empty now.
    pub(crate) fn widen_for_bulk(&mut self) {
        if self.is_empty() && self.bytes.len() < BULK_BYTES {
            self.bytes.resize(BULK_BYTES, 0);
        }
    }

    /// True when the last read left no room.
    pub(crate) fn is_full(&self) -> bool {
        self.end == self.bytes.len()
    }

    /// Reads what is there into the free room; 0 is the end of the stream.
    pub(crate) fn poll_fill(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let end = self.end;
        let Some(room) = self.bytes.get_mut(end..).filter(|room| !room.is_empty()) else {
            return Poll::Ready(Err(io::Error::other("the buffer has no room")));
        };
        let count = ready!(stream.poll_read_into(cx, room))?;
        self.end += count;
        Poll::Ready(Ok(count))
    }
}

/// Buffers of one worker that nobody uses now.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    free: RefCell<Vec<Vec<u8>>>,
}

impl BufferPool {
    /// Gives `buffer` memory, if it has none.
    pub(crate) fn lend(&self, buffer: &mut Buffer) {
        if buffer.bytes.is_empty() {
            buffer.bytes = self
                .free
                .borrow_mut()
                .pop()
                .unwrap_or_else(|| vec![0; LENT_BYTES]);
        }
    }

    /// Takes the memory back when nothing is held in it.
    pub(crate) fn take_back(&self, buffer: &mut Buffer) {
        if !buffer.is_empty() || buffer.bytes.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut buffer.bytes);
        let mut free = self.free.borrow_mut();
        // Grown ones go: what one request needed is not held for all.
        if bytes.len() == LENT_BYTES && free.len() < KEPT_MAX {
            free.push(bytes);
        }
    }
}

/// Memory for heads on their way out.
#[derive(Debug, Default)]
pub(crate) struct HeadPool {
    free: RefCell<Vec<Vec<u8>>>,
}

impl HeadPool {
    /// Empty, with room.
    pub(crate) fn lend(&self) -> Vec<u8> {
        let kept = self.free.borrow_mut().pop();
        kept.unwrap_or_else(|| Vec::with_capacity(2048))
    }

    pub(crate) fn take_back(&self, mut head: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        if head.capacity() <= 2 * LENT_BYTES && free.len() < KEPT_MAX {
            head.clear();
            free.push(head);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BULK_BYTES, Buffer, BufferPool, LENT_BYTES};

    #[test]
    fn room_comes_from_consumed_bytes_first_and_growth_is_bounded() {
        let pool = BufferPool::default();
        let mut buffer = Buffer::default();
        pool.lend(&mut buffer);
        buffer.end = LENT_BYTES;
        buffer.consume(10);
        buffer.make_room(LENT_BYTES);
        assert_eq!(
            (buffer.len(), buffer.bytes.len()),
            (LENT_BYTES - 10, LENT_BYTES)
        );
        buffer.end = LENT_BYTES;
        buffer.make_room(3 * LENT_BYTES);
        assert_eq!(buffer.bytes.len(), 2 * LENT_BYTES);
        buffer.consume(usize::MAX);
        buffer.widen_for_bulk();
        assert_eq!(buffer.bytes.len(), BULK_BYTES);
        pool.take_back(&mut buffer);
        pool.lend(&mut buffer);
        assert_eq!(buffer.bytes.len(), LENT_BYTES, "a grown buffer is not kept");
    }
}
