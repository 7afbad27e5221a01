//! One body on its way: from a source's buffer to a sink, framed anew.
//!
//! ```text
//!   source ──fill──▶ Buffer ──decode──▶ staged (head, chunks) or direct (plain runs) ──write──▶ sink
//! ```
//!
//! Room  moves bytes; who waits too long is `exchange`'s matter.
//! Holds the source is read only when all that was read before has been written: a slow sink never makes us
//!       hold more than one buffer. Framing is never passed on raw: a chunk is decoded and written as a chunk of
//!       ours.

use std::task::{Context, Poll};

use crate::buffer::Buffer;
use crate::field::{Field, FieldSink as _};
use crate::http1::{BodyDecoder, Refused, Truncated, chunk_header};
use crate::stream::Stream;

/// Bytes of a plain run that are copied behind a head to leave in one write.
const COPY_MAX: usize = 16 * 1024;

/// Bytes staged before they are written. Sized: one read of a wide buffer with its chunk lines.
const STAGED_MAX: usize = 64 * 1024;

/// How the body is framed on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// By Content-Length, by the end of the connection, or no body at all.
    Plain,
    Chunked,
}

/// What a pipe that is not done waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitsFor {
    Source,
    Sink,
}

/// Why a pipe cannot go on.
#[derive(Debug)]
pub(crate) enum PipeError {
    /// The source broke.
    Source,
    /// The source ended before its body did.
    Truncated,
    /// The source's framing is wrong.
    Malformed(Refused),
    /// More bytes than allowed.
    TooLarge,
    /// The sink broke.
    Sink,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Pipe {
    decoder: BodyDecoder,
    framing: Framing,
    /// What leaves before anything else; the head, at first.
    staged: Vec<u8>,
    at: usize,
    /// Bytes at the front of the buffer that leave as they are.
    direct: usize,
    /// The last chunk was staged.
    closed: bool,
    done: bool,
    limit: u64,
    /// Body bytes without framing.
    body_bytes: u64,
    /// Bytes written to the sink; grows with every progress.
    written: u64,
    /// Bytes read from the source since the pipe began.
    read: u64,
    waits_for: WaitsFor,
    /// Which trailers may pass; decided by the policy.
    trailer_passes: fn(&[u8]) -> bool,
}

impl Pipe {
    /// `head` leaves first. `limit` bounds the body's bytes.
    pub(crate) fn new(
        head: Vec<u8>,
        decoder: BodyDecoder,
        framing: Framing,
        limit: u64,
        trailer_passes: fn(&[u8]) -> bool,
    ) -> Self {
        Self {
            decoder,
            framing,
            staged: head,
            at: 0,
            direct: 0,
            closed: false,
            done: false,
            limit,
            body_bytes: 0,
            written: 0,
            read: 0,
            waits_for: WaitsFor::Sink,
            trailer_passes,
        }
    }

    /// Everything has been written.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// True when the source owes nothing more.
    pub(crate) fn source_is_done(&self) -> bool {
        self.decoder.is_end()
    }

    pub(crate) fn waits_for(&self) -> WaitsFor {
        self.waits_for
    }

    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Grows whenever a byte moved.
    pub(crate) fn progress(&self) -> u64 {
        self.written + self.read
    }

    /// Bytes counted and still in the buffer.
    pub(crate) fn unsent(&self) -> u64 {
        length(self.direct)
    }

    /// True when the buffer holds all that is on its way.
    pub(crate) fn has_nothing_staged(&self) -> bool {
        self.at >= self.staged.len()
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) fn read(&self) -> u64 {
        self.read
    }

    /// The memory of the head, to be used again.
    pub(crate) fn into_staged(self) -> Vec<u8> {
        self.staged
    }

    /// Takes what the buffer holds already, so that it leaves with the head.
    pub(crate) fn absorb(&mut self, buffer: &mut Buffer) -> Result<(), PipeError> {
        self.take(buffer)
    }

    /// Moves what can be moved; ready when the body has been written whole.
    pub(crate) fn poll(
        &mut self,
        source: &mut Stream,
        buffer: &mut Buffer,
        sink: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PipeError>> {
        loop {
            if self.done {
                return Poll::Ready(Ok(()));
            }
            match self.poll_write(buffer, sink, cx) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            if self.is_over() {
                self.done = true;
                continue;
            }
            if !buffer.is_empty() {
                let before = (buffer.len(), self.direct);
                self.take(buffer)?;
                if before != (buffer.len(), self.direct) || self.is_pending() || self.is_over() {
                    continue;
                }
            }
            match self.poll_read(source, buffer, cx) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
        }
    }

    /// Nothing is left to be read or written.
    fn is_over(&self) -> bool {
        self.decoder.is_end()
            && !self.is_pending()
            && (self.framing == Framing::Plain || self.closed)
    }

    fn is_pending(&self) -> bool {
        self.at < self.staged.len() || self.direct > 0
    }

    fn poll_write(
        &mut self,
        buffer: &mut Buffer,
        sink: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PipeError>> {
        self.waits_for = WaitsFor::Sink;
        while let Some(rest) = self.staged.get(self.at..).filter(|rest| !rest.is_empty()) {
            let count = sink.poll_write_some(cx, rest).map_err(|_| PipeError::Sink);
            let Poll::Ready(count) = count? else {
                return Poll::Pending;
            };
            self.at += count;
            self.written += length(count);
        }
        self.staged.clear();
        self.at = 0;
        while self.direct > 0 {
            let run = buffer.data().get(..self.direct).unwrap_or_default();
            let count = sink.poll_write_some(cx, run).map_err(|_| PipeError::Sink);
            let Poll::Ready(count) = count? else {
                return Poll::Pending;
            };
            buffer.consume(count);
            self.direct -= count;
            self.written += length(count);
            if buffer.is_empty() {
                buffer.widen_for_bulk();
            }
        }
        sink.poll_sent(cx).map_err(|_| PipeError::Sink)
    }

    fn poll_read(
        &mut self,
        source: &mut Stream,
        buffer: &mut Buffer,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PipeError>> {
        self.waits_for = WaitsFor::Source;
        buffer.make_room(STAGED_MAX);
        let Poll::Ready(count) = buffer
            .poll_fill(source, cx)
            .map_err(|_| PipeError::Source)?
        else {
            return Poll::Pending;
        };
        self.read += length(count);
        if count == 0 {
            let ended: Result<(), Truncated> = self.decoder.on_eof();
            if ended.is_err() {
                return Poll::Ready(Err(PipeError::Truncated));
            }
            self.close();
        }
        Poll::Ready(Ok(()))
    }

    /// Decodes what the buffer holds.
    fn take(&mut self, buffer: &mut Buffer) -> Result<(), PipeError> {
        while !buffer.is_empty() && !self.decoder.is_end() && self.direct == 0 {
            if self.staged.len() - self.at > STAGED_MAX {
                return Ok(());
            }
            let decoded = self
                .decoder
                .decode(buffer.data())
                .map_err(PipeError::Malformed)?;
            let consumed = decoded.consumed;
            if let Some(range) = decoded.data {
                self.body_bytes += length(range.len());
                if self.body_bytes > self.limit {
                    return Err(PipeError::TooLarge);
                }
                self.stage(buffer, range, consumed);
            } else {
                buffer.consume(consumed);
            }
            if consumed == 0 {
                break;
            }
        }
        self.close();
        Ok(())
    }

    fn stage(&mut self, buffer: &mut Buffer, range: std::ops::Range<usize>, consumed: usize) {
        let is_run = range.start == 0 && range.end == consumed;
        let run = buffer.data().get(range).unwrap_or_default();
        match self.framing {
            Framing::Chunked => {
                chunk_header(run.len(), &mut self.staged);
                self.staged.extend_from_slice(run);
                self.staged.extend_from_slice(b"\r\n");
                buffer.consume(consumed);
            }
            Framing::Plain if is_run && (self.staged.is_empty() || run.len() > COPY_MAX) => {
                self.direct = consumed;
            }
            Framing::Plain => {
                self.staged.extend_from_slice(run);
                buffer.consume(consumed);
            }
        }
    }

    /// Writes the last chunk with its trailers, once.
    fn close(&mut self) {
        if !self.decoder.is_end() || self.framing == Framing::Plain || self.closed {
            return;
        }
        self.closed = true;
        self.staged.extend_from_slice(b"0\r\n");
        for Field { name, value } in self.decoder.trailers() {
            if (self.trailer_passes)(name) {
                self.staged.put(name, value);
            }
        }
        self.staged.extend_from_slice(b"\r\n");
    }
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
