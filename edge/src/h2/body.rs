//! Bodies on their way through HTTP/2: each kind of source as one type, each with its limits and deadlines.
//!
//! Room  polling and counting; how a failure is reported to the peer is hyper's (RST_STREAM).
//! Holds a body that broke is never ended as if it were whole.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::front::OpenStream;
use super::over_http1::Http1Body;
use super::slot::Fed;
use crate::end::End;
use crate::policy::{Permit, may_forward_trailer};
use crate::request::Account;
use crate::timers::{NEVER, Timer, later};
use crate::worker::Worker;

/// Why a body broke.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.as_str())]
pub(crate) struct Broken(pub(crate) End);

/// What a client gets.
#[derive(Debug)]
pub(crate) struct FrontBody {
    source: Source,
    status: u16,
    /// Closed with the body's end.
    account: Account,
    /// What the end of the body means.
    end: End,
    _open: OpenStream,
    _permits: Option<[Permit; 2]>,
}

#[derive(Debug)]
enum Source {
    Whole(Full<Bytes>),
    Http1(Box<Http1Body>),
    Http2(Box<Http2Body>),
    Over,
}

impl FrontBody {
    /// An answer of our own.
    pub(crate) fn whole(body: Bytes, status: u16, end: End, account: Account, open: OpenStream) -> Self {
        Self::new(Source::Whole(Full::new(body)), status, end, account, open)
    }

    pub(crate) fn http1(body: Http1Body, status: u16, account: Account, open: OpenStream) -> Self {
        Self::new(Source::Http1(Box::new(body)), status, End::Done, account, open)
    }

    pub(crate) fn http2(body: Http2Body, status: u16, account: Account, open: OpenStream) -> Self {
        Self::new(Source::Http2(Box::new(body)), status, End::Done, account, open)
    }

    /// Holds these places until the answer has ended.
    pub(crate) fn with(mut self, permits: [Permit; 2]) -> Self {
        self._permits = Some(permits);
        self
    }

    fn new(source: Source, status: u16, end: End, account: Account, open: OpenStream) -> Self {
        let mut body = Self {
            source,
            status,
            account,
            end,
            _open: open,
            _permits: None,
        };
        // hyper does not poll a body that says it is over.
        if body.source.is_end_stream() {
            body.finish(end);
        }
        body
    }

    fn finish(&mut self, end: End) {
        let received = match &self.source {
            Source::Http1(body) => body.received(),
            Source::Http2(body) => body.received(),
            Source::Whole(_) | Source::Over => 0,
        };
        self.account.received += received;
        if let Source::Http1(body) = std::mem::replace(&mut self.source, Source::Over) {
            body.release();
        }
        self.account.close(end, self.status);
    }
}

impl Source {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Over => true,
        }
    }
}

impl Body for FrontBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let body = self.get_mut();
        let polled = match &mut body.source {
            Source::Whole(whole) => match ready!(Pin::new(whole).poll_frame(cx)) {
                Some(Ok(frame)) => Some(Ok(frame)),
                Some(Err(never)) => match never {},
                None => None,
            },
            Source::Http1(http1) => ready!(http1.poll_frame(cx)),
            Source::Http2(http2) => ready!(http2.poll_frame(cx)),
            Source::Over => None,
        };
        match &polled {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                body.account.sent += u64::try_from(length).unwrap_or(0);
                if body.source.is_end_stream() {
                    let end = body.end;
                    body.finish(end);
                }
            }
            Some(Err(Broken(end))) => body.finish(*end),
            None => {
                let end = body.end;
                body.finish(end);
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(body) => body.size_hint(),
            Source::Http1(body) => body.size_hint(),
            Source::Http2(body) => body.size_hint(),
            Source::Over => SizeHint::with_exact(0),
        }
    }
}

/// An answer from an HTTP/2 backend.
#[derive(Debug)]
pub(crate) struct Http2Body {
    incoming: Incoming,
    timer: Timer,
    idle: Duration,
    due: u64,
    total_due: u64,
    /// Held until the answer has ended.
    _place: super::back::StreamPlace,
    received: Rc<Cell<u64>>,
}

impl Http2Body {
    pub(crate) fn new(
        incoming: Incoming,
        timer: Timer,
        idle: Duration,
        total_due: u64,
        place: super::back::StreamPlace,
        received: Rc<Cell<u64>>,
    ) -> Self {
        Self {
            due: timer.in_ms(idle),
            incoming,
            timer,
            idle,
            total_due,
            _place: place,
            received,
        }
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.get()
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.due = self.timer.in_ms(self.idle);
                self.timer.disarm();
                Poll::Ready(Some(Ok(without_forbidden_trailers(frame))))
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(%error, "a backend's answer broke");
                Poll::Ready(Some(Err(Broken(End::BackendTruncated))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                if self.timer.is_past(self.total_due) {
                    return Poll::Ready(Some(Err(Broken(End::TotalTimeout))));
                }
                if self.timer.is_past(self.due) {
                    return Poll::Ready(Some(Err(Broken(End::BackendIdleTimeout))));
                }
                self.timer.arm(self.due.min(self.total_due), cx);
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
    incoming: Incoming,
    timer: Timer,
    idle: Duration,
    rate_min: u32,
    due: u64,
    window_received: u64,
    limit: u64,
    facts: UploadFacts,
}

impl Upload {
    pub(crate) fn new(incoming: Incoming, worker: &Worker, site: &crate::site::Site, limit: u64) -> Self {
        let timer = worker.timers.register();
        let timeouts = &site.settings.timeouts;
        Self {
            due: timer.in_ms(timeouts.body_idle),
            incoming,
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
        match Pin::new(&mut body.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let length = u64::try_from(frame.data_ref().map_or(0, Bytes::len)).unwrap_or(0);
                body.facts.received.set(body.facts.received.get() + length);
                body.window_received += length;
                if body.facts.received.get() > body.limit {
                    return body.fail(End::TooLarge);
                }
                Poll::Ready(Some(Ok(without_forbidden_trailers(frame))))
            }
            Poll::Ready(Some(Err(_))) => body.fail(End::ClientClosed),
            Poll::Ready(None) => {
                body.facts.ended_at.set(body.timer.now_ms());
                body.timer.disarm();
                Poll::Ready(None)
            }
            Poll::Pending => {
                if body.timer.is_past(body.due) && !body.judge_rate() {
                    return body.fail(End::ClientBodyTimeout);
                }
                body.timer.arm(body.due, cx);
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
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
            Self::Upload(body) => body.size_hint(),
            Self::Fed(_) => SizeHint::default(),
        }
    }
}
