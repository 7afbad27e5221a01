//! Bodies on their way through HTTP/2: each kind of source as one type, each with its limits and deadlines.
//!
//! Room  polling and counting; how a failure is reported to the client is `deliver`'s, to a backend hyper's.
//! Holds a body that broke is never ended as if it were whole.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::session::{OpenStream, Session};
use super::slot::Fed;
use crate::end::End;
use crate::http2::{Piece, Received};
use crate::policy::may_forward_trailer;
use crate::timers::{NEVER, Timer, later};

/// Why a body broke.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.as_str())]
pub(crate) struct Broken(pub(crate) End);

/// An answer from an HTTP/2 backend.
#[derive(Debug)]
pub(crate) struct Http2Body {
    incoming: Incoming,
    idle: Duration,
    due: u64,
    total_due: u64,
    /// Held until the answer has ended.
    _place: super::back::StreamPlace,
}

impl Http2Body {
    pub(crate) fn new(
        incoming: Incoming,
        timer: &Timer,
        idle: Duration,
        total_due: u64,
        place: super::back::StreamPlace,
    ) -> Self {
        Self {
            due: timer.in_ms(idle),
            incoming,
            idle,
            total_due,
            _place: place,
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(crate) fn poll_frame(
        &mut self,
        timer: &Timer,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.due = timer.in_ms(self.idle);
                timer.disarm();
                Poll::Ready(Some(Ok(without_forbidden_trailers(frame))))
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(%error, "a backend's answer broke");
                Poll::Ready(Some(Err(Broken(End::BackendTruncated))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                if timer.is_past(self.total_due) {
                    return Poll::Ready(Some(Err(Broken(End::TotalTimeout))));
                }
                if timer.is_past(self.due) {
                    return Poll::Ready(Some(Err(Broken(End::BackendIdleTimeout))));
                }
                timer.arm(self.due.min(self.total_due), cx);
                Poll::Pending
            }
        }
    }
}

fn without_forbidden_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    let mut trailers = match frame.into_trailers() {
        Ok(trailers) => trailers,
        Err(frame) => return frame,
    };
    keep_trailers(&mut trailers);
    Frame::trailers(trailers)
}

/// Removes what may not be a trailer.
pub(crate) fn keep_trailers(trailers: &mut HeaderMap) {
    let forbidden: Vec<_> = trailers
        .keys()
        .filter(|name| !may_forward_trailer(name.as_str().as_bytes()))
        .cloned()
        .collect();
    for name in forbidden {
        trailers.remove(name);
    }
}

/// What is known of an upload, also by those who do not hold it.
#[derive(Clone, Debug)]
pub(crate) struct UploadFacts {
    /// Body bytes so far.
    pub(crate) received: Rc<Cell<u64>>,
    /// Why it broke, for whoever answers.
    pub(crate) broke: Rc<Cell<Option<End>>>,
    /// When it was whole, in milliseconds of the worker's clock.
    pub(crate) ended_at: Rc<Cell<u64>>,
}

impl Default for UploadFacts {
    fn default() -> Self {
        Self {
            received: Rc::default(),
            broke: Rc::default(),
            ended_at: Rc::new(Cell::new(NEVER)),
        }
    }
}

/// A request's body from an HTTP/2 client, with its limit and its deadline.
#[derive(Debug)]
pub(crate) struct Upload {
    session: Rc<Session>,
    id: u32,
    timer: Timer,
    idle: Duration,
    rate_min: u32,
    due: u64,
    window_received: u64,
    limit: u64,
    facts: UploadFacts,
}

impl Upload {
    pub(super) fn new(open: &OpenStream, site: &crate::site::Site, limit: u64) -> Self {
        let timer = open.session.worker.timers.register();
        let timeouts = &site.settings.timeouts;
        Self {
            due: timer.in_ms(timeouts.body_idle),
            session: Rc::clone(&open.session),
            id: open.id,
            timer,
            idle: timeouts.body_idle,
            rate_min: timeouts.body_rate_min,
            window_received: 0,
            limit,
            facts: UploadFacts::default(),
        }
    }

    /// What others may look at.
    pub(crate) fn facts(&self) -> UploadFacts {
        self.facts.clone()
    }

    fn fail(&self, end: End) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.facts.broke.set(Some(end));
        Poll::Ready(Some(Err(Broken(end))))
    }

    /// The window is over: has the client sent enough in it?
    fn judge_rate(&mut self) -> bool {
        let wanted = u64::from(self.rate_min) * self.idle.as_secs().max(1);
        let enough = self.window_received > 0 && self.window_received >= wanted;
        self.window_received = 0;
        self.due = later(self.timer.now_ms(), self.idle);
        enough
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let body = self.get_mut();
        let id = body.id;
        let received = body
            .session
            .with(|connection| connection.body(id, cx.waker()));
        match received {
            Received::Piece(Piece::Data(data)) => {
                let length = u64::try_from(data.len()).unwrap_or(0);
                body.facts.received.set(body.facts.received.get() + length);
                body.window_received += length;
                if body.facts.received.get() > body.limit {
                    return body.fail(End::TooLarge);
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Received::Piece(Piece::Trailers(mut trailers)) => {
                keep_trailers(&mut trailers);
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Received::Gone => body.fail(End::ClientClosed),
            Received::End => {
                body.facts.ended_at.set(body.timer.now_ms());
                body.timer.disarm();
                Poll::Ready(None)
            }
            Received::Nothing => {
                if body.timer.is_past(body.due) && !body.judge_rate() {
                    return body.fail(End::ClientBodyTimeout);
                }
                body.timer.arm(body.due, cx);
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let id = self.id;
        self.session.with(|connection| connection.body_is_over(id))
    }
}

/// What an HTTP/2 backend gets.
#[derive(Debug)]
pub(crate) enum OutBody {
    Empty,
    /// From an HTTP/2 client.
    Upload(Box<Upload>),
    /// From an HTTP/1.1 client's connection, which reads for it.
    Fed(Fed),
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Upload(body) => Pin::new(body.as_mut()).poll_frame(cx),
            Self::Fed(fed) => fed.poll_take(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Upload(body) => body.is_end_stream(),
            Self::Fed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Upload(_) | Self::Fed(_) => SizeHint::default(),
        }
    }
}
