//! An answer's body on its way into a client's stream.
//!
//! ```text
//!   source ──at most as much as there is room for──▶ DATA frames ──▶ the connection's loop
//! ```
//!
//! Room  one loop for every kind of source; windows and turns are `http2`'s.
//! Holds nothing is read from a backend that there is no room for; a client that opens no window is not waited for
//!       longer than for one that reads nothing. A body that broke is reset, never ended as if it were whole.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::body::Frame;

use super::body::{Broken, Http2Body};
use super::over_http1::{Http1Body, Moved};
use super::session::OpenStream;
use crate::end::End;
use crate::http2::Room;
use crate::timers::{Timer, later};

/// Where a body comes from.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the largest is the usual one; one of them lives in a stream's own memory"
)]
pub(super) enum Source {
    /// An answer of our own.
    Whole(Bytes),
    Http1(Http1Body),
    /// On the heap: the rarer kind of backend. With what was taken of it and not yet sent.
    Http2(Box<Http2Body>, Bytes),
}

impl Source {
    /// True where the head was all.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body, rest) => rest.is_empty() && body.is_end_stream(),
        }
    }
}

/// See the module.
pub(super) struct Delivery<'d> {
    pub(super) open: &'d OpenStream,
    pub(super) timer: &'d Timer,
    pub(super) source: &'d mut Source,
    /// How long a client may leave its window shut.
    pub(super) patience: Duration,
    /// When the whole request must be over, in milliseconds of the worker's clock.
    pub(super) total_due: u64,
    /// Body bytes that were put into the stream.
    pub(super) sent: &'d mut u64,
}

impl Delivery<'_> {
    /// Until the stream's end was written, or something broke.
    pub(super) async fn run(mut self) -> Result<(), End> {
        let mut shut_since = None;
        let result = poll_fn(|cx| self.poll(&mut shut_since, cx)).await;
        self.timer.disarm();
        result
    }

    fn poll(
        &mut self,
        shut_since: &mut Option<u64>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        if let Source::Http1(body) = self.source {
            body.poll_upload(cx)?;
        }
        loop {
            let id = self.open.id;
            let room = match self.open.session.with(|connection| connection.room(id)) {
                Room::Bytes(room) => room,
                Room::Gone => return Poll::Ready(Err(End::ClientClosed)),
                Room::Later => {
                    let since = *shut_since.get_or_insert(self.timer.now_ms());
                    let due = later(since, self.patience);
                    // Also for a client that opens its window byte by byte.
                    if self.timer.is_past(self.total_due) {
                        return Poll::Ready(Err(End::TotalTimeout));
                    }
                    if self.timer.is_past(due) {
                        return Poll::Ready(Err(End::ClientWriteTimeout));
                    }
                    self.timer.arm(due.min(self.total_due), cx);
                    return Poll::Pending;
                }
            };
            *shut_since = None;
            if ready!(self.poll_step(room, cx))? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// True when the stream's end was written.
    fn poll_step(&mut self, room: usize, cx: &mut Context<'_>) -> Poll<Result<bool, End>> {
        let (open, timer) = (self.open, self.timer);
        match self.source {
            Source::Whole(bytes) => {
                let part = bytes.split_to(room.min(bytes.len()));
                let is_last = bytes.is_empty();
                put(open, self.sent, &part, is_last);
                Poll::Ready(Ok(is_last))
            }
            Source::Http1(body) => {
                let (worker, sent) = (&open.session.worker, &mut *self.sent);
                let moved = body.poll_moved(worker, timer, room, cx, |bytes, is_last| {
                    put(open, sent, bytes, is_last);
                });
                Poll::Ready(Ok(match ready!(moved)? {
                    Moved::Data { is_last } => is_last,
                    Moved::End => end(open),
                    Moved::Trailers(trailers) => end_with(open, &trailers),
                }))
            }
            Source::Http2(body, rest) => {
                while rest.is_empty() {
                    match ready!(body.poll_frame(timer, cx)).map(|f| f.map(Frame::into_data)) {
                        Some(Ok(Ok(data))) => *rest = data,
                        Some(Ok(Err(frame))) => {
                            let trailers = frame.into_trailers().unwrap_or_default();
                            return Poll::Ready(Ok(end_with(open, &trailers)));
                        }
                        Some(Err(Broken(end))) => return Poll::Ready(Err(end)),
                        None => return Poll::Ready(Ok(end(open))),
                    }
                }
                let part = rest.get(..room.min(rest.len())).unwrap_or_default();
                let length = part.len();
                let is_last = length == rest.len() && body.is_end_stream();
                put(open, self.sent, part, is_last);
                rest.advance(length);
                Poll::Ready(Ok(is_last))
            }
        }
    }
}

fn put(open: &OpenStream, sent: &mut u64, bytes: &[u8], is_last: bool) {
    *sent += u64::try_from(bytes.len()).unwrap_or(0);
    let session = &open.session;
    session.with(|connection| connection.data(open.id, bytes, is_last));
}

/// An end without a last part.
fn end(open: &OpenStream) -> bool {
    open.session
        .with(|connection| connection.data(open.id, &[], true));
    true
}

fn end_with(open: &OpenStream, trailers: &hyper::HeaderMap) -> bool {
    if trailers.is_empty() {
        return end(open);
    }
    open.session
        .with(|connection| connection.trailers(open.id, trailers));
    true
}
