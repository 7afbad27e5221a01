//! The bytes below an HTTP/2 connection: what the library writes in one turn leaves in one write.
//!
//! ```text
//!   hyper ──poll_write──▶ queued ──turn ends──▶ one write (one TLS record where it fits) ──▶ client
//!   client ──read──▶ Watch ──▶ hyper
//! ```
//!
//! Room  a stream shared by the library, which reads and queues, and the connection's loop, which sends.
//! Holds at most [`QUEUED_MAX`] bytes wait; then the library waits, so that a client that reads nothing costs no
//!       more.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::watch::{Abuse, Watch};
use crate::linger::Linger;
use crate::stream::Stream;
use crate::timers::Timer;

/// Bytes that wait to be sent. Sized: four full DATA frames and their neighbours.
const QUEUED_MAX: usize = 80 * 1024;

/// What is kept of a queue's memory between turns.
const QUEUE_KEPT: usize = 32 * 1024;

/// The library's end.
#[derive(Debug)]
pub(crate) struct Wire(Rc<RefCell<State>>);

/// The loop's end.
#[derive(Debug)]
pub(crate) struct WireControl(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    stream: Stream,
    /// Read before this was known to be HTTP/2.
    prefix: Vec<u8>,
    queue: Vec<u8>,
    sent: usize,
    /// The library waits for room.
    blocked: bool,
    watch: Watch,
    abuse: Option<Abuse>,
    now_ms: u64,
    resets_max: u32,
    written: u64,
}

/// Both ends over a stream of which `prefix` was read already.
pub(crate) fn wire(stream: Stream, prefix: Vec<u8>, resets_max: u32) -> (Wire, WireControl) {
    let mut watch = Watch::new();
    let abuse = watch.take(&prefix, 0, resets_max).err();
    let state = Rc::new(RefCell::new(State {
        stream,
        prefix,
        queue: Vec::new(),
        sent: 0,
        blocked: false,
        watch,
        abuse,
        now_ms: 0,
        resets_max,
        written: 0,
    }));
    (Wire(Rc::clone(&state)), WireControl(state))
}

impl WireControl {
    /// To be told before each turn.
    pub(crate) fn set_now(&self, now_ms: u64) {
        self.0.borrow_mut().now_ms = now_ms;
    }

    pub(crate) fn abuse(&self) -> Option<Abuse> {
        self.0.borrow().abuse
    }

    pub(crate) fn block_since(&self) -> Option<u64> {
        self.0.borrow().watch.block_since()
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.0.borrow().watch.has_begun()
    }

    /// Bytes that left; grows with every progress of the client's reading.
    pub(crate) fn written(&self) -> u64 {
        self.0.borrow().written
    }

    /// Ends the connection in order, once the library is done with it.
    pub(crate) fn poll_linger(
        &self,
        linger: &mut Linger,
        timer: &Timer,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        linger.poll(&mut self.0.borrow_mut().stream, timer, cx)
    }

    /// Sends what is queued. Ready: everything has left. The flag: the library has room again and must be asked.
    pub(crate) fn poll_send(&self, cx: &mut Context<'_>) -> (Poll<io::Result<()>>, bool) {
        let mut state = self.0.borrow_mut();
        let polled = state.poll_send(cx);
        let has_room = state.queue.len() - state.sent < QUEUED_MAX;
        let asks = has_room && std::mem::take(&mut state.blocked);
        (polled, asks)
    }
}

impl State {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.queue.len() {
            let rest = self.queue.get(self.sent..).unwrap_or_default();
            let count = ready!(self.stream.poll_write_some(cx, rest))?;
            self.sent += count;
            self.written += u64::try_from(count).unwrap_or(0);
        }
        self.queue.clear();
        self.queue.shrink_to(QUEUE_KEPT);
        self.sent = 0;
        self.stream.poll_sent(cx)
    }

    fn queue(&mut self, bytes: &[u8]) -> Option<usize> {
        let room = QUEUED_MAX.saturating_sub(self.queue.len() - self.sent);
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        if taken.is_empty() && !bytes.is_empty() {
            self.blocked = true;
            return None;
        }
        self.queue.extend_from_slice(taken);
        Some(taken.len())
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        let state = &mut *state;
        if state.abuse.is_some() {
            return Poll::Ready(Err(io::Error::other("abuse of HTTP/2")));
        }
        if !state.prefix.is_empty() {
            let count = state.prefix.len().min(buffer.remaining());
            buffer.put_slice(state.prefix.get(..count).unwrap_or_default());
            state.prefix.drain(..count);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut state.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        if let Err(abuse) = state.watch.take(read, state.now_ms, state.resets_max) {
            state.abuse = Some(abuse);
            return Poll::Ready(Err(io::Error::other("abuse of HTTP/2")));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.0.borrow_mut().queue(bytes) {
            Some(count) => Poll::Ready(Ok(count)),
            // The loop asks again when there is room: it polls in the same task.
            None => Poll::Pending,
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.borrow_mut();
        let mut total = 0;
        for slice in slices.iter().filter(|slice| !slice.is_empty()) {
            match state.queue(slice) {
                Some(count) => total += count,
                None if total == 0 => return Poll::Pending,
                None => break,
            }
        }
        Poll::Ready(Ok(total))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The loop sends at the end of the turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        ready!(state.poll_send(cx))?;
        Pin::new(&mut state.stream).poll_shutdown(cx)
    }
}
