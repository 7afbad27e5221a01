//! HTTP/1.1 towards clients: one connection from its first byte to its last.
//!
//! ```text
//!   wait (no buffer held) ──▶ head ──admit──┬─▶ answer of ours ─┬─▶ wait again, or close
//!                                           └─▶ exchange ───────┤
//!                                                └─▶ tunnel ────┴─▶ close
//! ```
//!
//! Room  the loop of a connection and its waits; decisions are `policy`'s, parsing is `http1`'s, a request's
//!       way to a backend is `exchange`'s.
//! Holds a connection is used again only when it is certain where the last request and its answer ended.

mod admit;
mod answer;
mod answering;
mod closing;
mod exchange;
mod forward;
mod moving;
mod over_http2;
mod pipe;
mod tunnel;

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use crate::backend::BackendConnection;
use crate::buffer::Buffer;
use crate::end::End;
use crate::http1::{HeadLimits, Refused};
use crate::linger::Linger;
use crate::policy::{Answer, Client};
use crate::request::{Account, AccountLeft, Request};
use crate::site::Site;
use crate::stream::Stream;
use crate::timers::{Timer, Wait};
use crate::worker::{Covered, Worker};

pub(crate) use admit::{host_of, printable};
pub(crate) use answer::phrase;
pub(crate) use closing::answered_end;
pub(crate) use exchange::Interrupted;

/// What HTTP/2 by prior knowledge begins with (RFC 9113 section 3.4); its first line is no HTTP/1.1 head.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    worker: Rc<Worker>,
    timer: Timer,
    stream: Stream,
    input: Buffer,
    client: Client,
    covered: Option<Covered>,
    /// Requests begun.
    served: u64,
    /// HTTP/2 may begin here.
    sniffs: bool,
    /// What is left of the wait for a request that began in another process, in milliseconds.
    left_ms: Option<u64>,
}

/// How a connection goes on that began in another process.
#[derive(Debug)]
pub(crate) struct Resumed {
    pub(crate) served: u64,
    pub(crate) sniffs: bool,
    pub(crate) left_ms: u64,
    pub(crate) input: Vec<u8>,
}

/// The far side of a tunnel that moves, or has moved.
#[derive(Debug)]
pub(crate) struct LeftTunnel {
    pub(crate) backend: BackendConnection,
    pub(crate) upstream: String,
    pub(crate) is_shut: (bool, bool),
    pub(crate) status: u16,
    pub(crate) account: AccountLeft,
}

/// A connection that turned out to speak HTTP/2.
#[derive(Debug)]
pub(crate) struct Sniffed {
    pub(crate) stream: Stream,
    pub(crate) timer: Timer,
    /// What was read of it.
    pub(crate) read: Vec<u8>,
}

/// What a head turned out to be.
enum Head<'s> {
    Forward(Box<Incoming<'s>>),
    Answer(Box<Answered>),
    Refused(Refused),
    Http2,
    /// The connection ended, with nothing to answer.
    Gone,
    /// No further request came in time.
    Silent,
    /// A head began and was not finished in time.
    TimedOut,
    /// Another process serves it from here; so many milliseconds of its wait are left.
    Moves(u64),
}

/// A request to be forwarded, with what its connection needs to know of it.
#[derive(Debug)]
struct Incoming<'s> {
    request: Request<'s>,
    facts: Facts,
    /// What is sent to the backend.
    outbound: admit::Outbound,
}

/// An answer of our own and the request it answers.
#[derive(Debug)]
struct Answered {
    answer: Answer,
    /// For CORS.
    origin: Option<String>,
    account: Account,
    facts: Facts,
    is_head: bool,
}

/// How a request's message is framed, and what its client can understand.
#[derive(Clone, Copy, Debug)]
struct Facts {
    version: crate::http1::Version,
    body: crate::http1::RequestBody,
    keep_alive: bool,
    expects_continue: bool,
}

impl Facts {
    /// True when nothing of the request is left to be read.
    fn has_no_body(&self) -> bool {
        matches!(self.body, crate::http1::RequestBody::None)
    }
}

/// What came first while nothing was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Byte,
    /// The deadline of an idle connection.
    Silence,
    End,
    /// It is asked to move; so many milliseconds of its wait are left.
    Moves(u64),
}

/// How the connection goes on.
#[derive(Debug)]
enum Next {
    /// Another request may come.
    Again,
    /// Closed in order: what was written arrives.
    Close,
    /// Closed at once: nothing more can be said.
    Drop,
    Http2,
    /// Another process serves it from here; so many milliseconds of its wait are left.
    Moves(u64, Option<Box<LeftTunnel>>),
}

impl Connection {
    pub(crate) fn new(
        worker: Rc<Worker>,
        timer: Timer,
        stream: Stream,
        client: Client,
        covered: Option<Covered>,
        sniffs: bool,
    ) -> Self {
        Self {
            worker,
            timer,
            stream,
            input: Buffer::default(),
            client,
            covered,
            served: 0,
            sniffs,
            left_ms: None,
        }
    }

    /// Whose it is.
    pub(crate) fn client(&self) -> Client {
        self.client
    }

    /// One that began in another process.
    pub(crate) fn resume(
        worker: Rc<Worker>,
        timer: Timer,
        stream: Stream,
        client: Client,
        resumed: Resumed,
    ) -> Self {
        Self {
            input: Buffer::holding(resumed.input),
            served: resumed.served,
            left_ms: Some(resumed.left_ms),
            ..Self::new(worker, timer, stream, client, None, resumed.sniffs)
        }
    }

    /// Serves until the connection ends; returns it when it speaks HTTP/2. By its box: a future holds its arguments twice.
    pub(crate) async fn serve(mut self: Box<Self>) -> Option<Sniffed> {
        loop {
            let site = self.worker.site();
            match self.one_request(&site).await {
                Next::Again => self.worker.buffers.take_back(&mut self.input),
                Next::Close => {
                    self.input.consume(usize::MAX);
                    let mut linger = Linger::new(&self.timer);
                    poll_fn(|cx| linger.poll(&mut self.stream, &self.timer, cx)).await;
                    return None;
                }
                Next::Drop => return None,
                Next::Moves(left_ms, tunnel) => {
                    self.leave(&site, left_ms, tunnel);
                    return None;
                }
                Next::Http2 => {
                    return Some(Sniffed {
                        read: self.input.data().to_vec(),
                        stream: self.stream,
                        timer: self.timer,
                    });
                }
            }
        }
    }

    async fn one_request(&mut self, site: &Arc<Site>) -> Next {
        match self.head(site).await {
            Head::Gone => Next::Drop,
            // In order: a request that is on its way meets the end of the connection, not a reset.
            Head::Silent => Next::Close,
            Head::Http2 => Next::Http2,
            Head::Moves(left_ms) => Next::Moves(left_ms, None),
            Head::TimedOut => {
                Box::pin(self.refuse(site, 408, End::ClientHeadTimeout)).await;
                Next::Close
            }
            Head::Refused(refused) => {
                tracing::debug!(peer = %self.client.peer, %refused, "a head was refused");
                Box::pin(self.refuse(site, refused.status(), End::ClientMalformed)).await;
                Next::Close
            }
            Head::Answer(answered) => {
                self.served += 1;
                Box::pin(self.answer(*answered)).await
            }
            Head::Forward(incoming) => {
                self.served += 1;
                // What a request needs is not part of an idle connection's memory.
                Box::pin(self.forward(*incoming)).await
            }
        }
    }

    /// Waits for a whole head and decides about it.
    async fn head<'s>(&mut self, site: &'s Arc<Site>) -> Head<'s> {
        let limits = &site.settings.limits;
        let head_limits = HeadLimits {
            bytes: limits.head_bytes,
            lines: limits.head_lines,
        };
        if self.input.is_empty() {
            match self.first_byte(site).await {
                First::Byte => {}
                First::Silence => return Head::Silent,
                First::End => return Head::Gone,
                First::Moves(left_ms) => return Head::Moves(left_ms),
            }
        }
        let due = self.timer.in_ms(site.settings.timeouts.header);
        loop {
            if !self.input.is_empty() {
                match self.admit(site, &head_limits) {
                    Some(head) => return head,
                    None if self.input.len() >= limits.head_bytes => {
                        return Head::Refused(Refused::HeadTooLarge);
                    }
                    None => {}
                }
            }
            self.worker.buffers.lend(&mut self.input);
            self.input.make_room(limits.head_bytes);
            match self.fill(due).await {
                Some(Ok(count)) if count > 0 => {}
                Some(_) => return Head::Gone,
                None => return Head::TimedOut,
            }
        }
    }

    /// Waits for the next request without holding a buffer.
    async fn first_byte(&mut self, site: &Site) -> First {
        let timeouts = &site.settings.timeouts;
        let is_first = self.served == 0;
        let wait = if is_first {
            timeouts.first_byte
        } else {
            timeouts.keep_alive
        };
        let mut due = self.timer.in_ms(wait);
        if let Some(left) = self.left_ms.take() {
            due = due.min(self.timer.now_ms().saturating_add(left));
        }
        if let Some(left) = self.worker.drain_left() {
            // As those that were idle when the drain began: its answer did not say yet that it closes.
            due = due.min(self.timer.farewell(left));
        }
        let (stream, timer, worker) = (&mut self.stream, &self.timer, &self.worker);
        let mut is_armed = false;
        poll_fn(|cx| {
            match stream.poll_readable(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(First::Byte),
                Poll::Ready(Err(_)) => return Poll::Ready(First::End),
                Poll::Pending => {}
            }
            // A drain brings the deadline forward.
            if is_armed {
                due = due.min(timer.due());
            }
            if worker.is_cut() || (is_first && timer.is_past(due)) {
                return Poll::Ready(First::End);
            }
            if timer.is_past(due) {
                return Poll::Ready(First::Silence);
            }
            if timer.take_ask() && stream.is_clear() {
                return Poll::Ready(First::Moves(due.saturating_sub(timer.now_ms())));
            }
            is_armed = true;
            timer.arm_idle(due, cx);
            Poll::Pending
        })
        .await
    }

    /// Reads once, by `due`.
    async fn fill(&mut self, due: u64) -> Option<io::Result<usize>> {
        let (stream, timer, input) = (&mut self.stream, &self.timer, &mut self.input);
        poll_fn(|cx| {
            if let Poll::Ready(count) = input.poll_fill(stream, cx) {
                return Poll::Ready(Some(count));
            }
            if timer.is_past(due) {
                return Poll::Ready(None);
            }
            timer.arm_for(Wait::Request, due, cx);
            Poll::Pending
        })
        .await
    }

    /// True when the connection may serve another request after this one.
    fn may_stay(&self, site: &Site, facts: &Facts) -> bool {
        facts.keep_alive
            && !self.worker.is_draining()
            && self.served < site.settings.limits.requests_per_connection
    }
}
