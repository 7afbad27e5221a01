//! One client's HTTP/2 connection: the loop around hyper, and every deadline that hyper does not have.
//!
//! ```text
//!   turn: hyper moves ──▶ what it queued leaves in one write ──▶ deadlines ──▶ wait
//!   leaving: GOAWAY (all streams go on) ──▶ GOAWAY (last id) ──▶ streams end ──▶ closed
//! ```
//!
//! Room  the connection; requests are in `stream`.
//! Holds no connection is silent, unfinished or unread for longer than its deadline.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::LocalExecutor;
use super::stream::serve_stream;
use super::wire::{WireControl, wire};
use crate::linger::Linger;
use crate::policy::Client;
use crate::site::Site;
use crate::stream::Stream;
use crate::timers::{Timer, Wait, later};
use crate::totals::Count;
use crate::worker::{Covered, Worker};

/// Window of a stream and of a connection, in bytes: what a client may send ahead of a slow backend.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Bytes of answers that one stream may queue within hyper.
const SEND_BUFFER: usize = 64 * 1024;

/// How long a connection may take to close once it has no streams and was told to go.
const LEAVE: Duration = Duration::from_secs(2);

/// How long a GOAWAY may take to leave before the connection is cut.
const GOAWAY_GRACE: Duration = Duration::from_secs(1);

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) worker: Rc<Worker>,
    pub(crate) timer: Timer,
    pub(crate) client: Client,
    pub(crate) covered: Option<Covered>,
}

/// What the streams of a connection share.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) worker: Rc<Worker>,
    pub(crate) client: Client,
    pub(crate) covered: Option<Covered>,
    /// Streams whose answer has not ended.
    pub(crate) open: Cell<u64>,
    /// When the last stream ended, in milliseconds.
    pub(crate) idle_since: Cell<u64>,
    pub(crate) served: Cell<u64>,
}

/// A stream for as long as it lives.
#[derive(Debug)]
pub(crate) struct OpenStream(Rc<Session>);

impl OpenStream {
    pub(crate) fn new(session: &Rc<Session>) -> Self {
        session.open.set(session.open.get() + 1);
        session.served.set(session.served.get() + 1);
        Self(Rc::clone(session))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
        self.0.idle_since.set(self.0.worker.timers.now_ms());
    }
}

impl Front {
    pub(crate) fn new(
        worker: Rc<Worker>,
        timer: Timer,
        client: Client,
        covered: Option<Covered>,
    ) -> Self {
        Self {
            worker,
            timer,
            client,
            covered,
        }
    }

    /// Serves until the connection ends; `read` was read of it already.
    pub(crate) async fn serve(self, stream: Stream, read: Vec<u8>) {
        let site = self.worker.site();
        let limits = &site.settings.limits;
        let (io, control) = wire(stream, read, limits.http2_resets);
        let session = Rc::new(Session {
            worker: Rc::clone(&self.worker),
            client: self.client,
            covered: self.covered,
            open: Cell::new(0),
            idle_since: Cell::new(self.timer.now_ms()),
            served: Cell::new(0),
        });
        let handler = {
            let session = Rc::clone(&session);
            service_fn(move |request| {
                let session = Rc::clone(&session);
                async move { Ok::<_, Infallible>(serve_stream(session, request).await) }
            })
        };
        let mut builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.http2_streams)
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .auto_date_header(false);
        let connection = builder.serve_connection(TokioIo::new(io), handler);
        let mut connection = pin!(connection);
        let mut watchman = Watchman::new(&self.worker, &self.timer, &site, &control, &session);
        let is_orderly = poll_fn(|cx| {
            loop {
                control.set_now(self.timer.now_ms());
                let ended = connection.as_mut().poll(cx);
                if control.abuse().is_some() {
                    self.worker.counters.count(Count::Http2Abuse);
                    return Poll::Ready(false);
                }
                let (sent, asks) = control.poll_send(cx);
                if matches!(sent, Poll::Ready(Err(_))) {
                    return Poll::Ready(false);
                }
                if ended.is_ready() {
                    return Poll::Ready(true);
                }
                if asks {
                    continue;
                }
                match watchman.look(sent.is_pending()) {
                    Look::Wait(due) => {
                        self.timer.arm_for(Wait::Streams, due, cx);
                        return Poll::Pending;
                    }
                    // A drain brings this deadline forward.
                    Look::WaitIdle(due) => {
                        self.timer.arm_idle(due, cx);
                        return Poll::Pending;
                    }
                    Look::Leave => connection.as_mut().graceful_shutdown(),
                    Look::Cut => return Poll::Ready(false),
                }
            }
        })
        .await;
        if is_orderly {
            let mut linger = Linger::new(&self.timer);
            poll_fn(|cx| control.poll_linger(&mut linger, &self.timer, cx)).await;
        }
    }
}

/// What the deadlines say.
enum Look {
    Wait(u64),
    WaitIdle(u64),
    /// Say GOAWAY; streams end as they do.
    Leave,
    Cut,
}

/// Looks at every deadline of a connection.
struct Watchman<'w> {
    worker: &'w Worker,
    timer: &'w Timer,
    site: &'w Site,
    control: &'w WireControl,
    session: &'w Session,
    began_at: u64,
    written: u64,
    written_at: u64,
    /// When GOAWAY was said.
    leaving_since: Option<u64>,
    /// When a drain wants it to leave.
    leave_at: Option<u64>,
}

impl<'w> Watchman<'w> {
    fn new(
        worker: &'w Worker,
        timer: &'w Timer,
        site: &'w Site,
        control: &'w WireControl,
        session: &'w Session,
    ) -> Self {
        Self {
            worker,
            timer,
            site,
            control,
            session,
            began_at: timer.now_ms(),
            written: 0,
            written_at: timer.now_ms(),
            leaving_since: None,
            leave_at: None,
        }
    }

    fn look(&mut self, is_sending: bool) -> Look {
        let now = self.timer.now_ms();
        if self.worker.is_cut() {
            return Look::Cut;
        }
        if self.control.written() != self.written || !is_sending {
            self.written = self.control.written();
            self.written_at = now;
        }
        let timeouts = &self.site.settings.timeouts;
        let mut cut_at = u64::MAX;
        if !self.control.has_begun() {
            cut_at = cut_at.min(later(self.began_at, timeouts.first_byte));
        }
        if let Some(since) = self.control.block_since() {
            let due = later(since, timeouts.header);
            // First the word, then the cut: once GOAWAY has left there is nothing to wait for.
            if now >= due && self.leaving_since.is_none() {
                self.leaving_since = Some(now);
                return Look::Leave;
            }
            let is_told = now >= due && !is_sending;
            cut_at = cut_at.min(if is_told {
                now
            } else {
                later(due, GOAWAY_GRACE)
            });
            if now < due {
                cut_at = cut_at.min(due);
            }
        }
        if is_sending {
            cut_at = cut_at.min(later(self.written_at, timeouts.body_idle));
        }
        let is_idle = self.session.open.get() == 0;
        if let (Some(since), true) = (self.leaving_since, is_idle) {
            let since = since.max(self.session.idle_since.get());
            cut_at = cut_at.min(later(since, LEAVE));
        }
        if now >= cut_at {
            return Look::Cut;
        }
        if self.leaving_since.is_none() {
            let leave_at = self.leave_at(now, is_idle);
            if now >= leave_at {
                self.leaving_since = Some(now);
                return Look::Leave;
            }
            let due = cut_at.min(leave_at);
            return Look::WaitIdle(due);
        }
        Look::Wait(cut_at)
    }

    /// When GOAWAY is said, as things stand.
    fn leave_at(&mut self, now: u64, is_idle: bool) -> u64 {
        let timeouts = &self.site.settings.timeouts;
        let mut at = u64::MAX;
        if is_idle {
            let since = self.session.idle_since.get().max(self.began_at);
            let wait = timeouts.http2_idle;
            at = at.min(later(since, wait));
        }
        if self.session.served.get() >= self.site.settings.limits.requests_per_connection {
            at = 0;
        }
        if let Some(left) = self.worker.drain_left() {
            // Spread over the first part of the window: clients come back one by one.
            let span = u64::try_from((left / 2).as_millis()).unwrap_or(0);
            let leave_at = *self
                .leave_at
                .get_or_insert_with(|| now + fastrand::u64(0..=span));
            at = at.min(leave_at);
        }
        at
    }
}
