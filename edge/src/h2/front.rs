//! One client's HTTP/2 connection: the loop around `http2`.
//!
//! ```text
//!   turn: read what is there ──▶ streams that were woken ──▶ what waits leaves in one write ──▶ deadlines ──▶ wait
//!   leaving: GOAWAY (all streams go on) ──▶ GOAWAY (last id) ──▶ streams end ──▶ closed
//! ```
//!
//! Room  the connection; requests are in `stream`, deadlines in `watchman`.
//! Holds who does not read is not read from; every stream ends with its connection.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::session::{OpenStream, Session};
use super::stream::{Job, serve_streams};
use super::tasks::{Desk, Tasks};
use super::watchman::{Look, Seen, Watchman};
use crate::buffer::Buffer;
use crate::http2::{Arrived, Bounds, Connection, Fault};
use crate::linger::Linger;
use crate::policy::Client;
use crate::stream::Stream;
use crate::timers::{Timer, Wait};
use crate::totals::Count;
use crate::worker::{Covered, Worker};

/// Bytes of frames held while they are not whole. Sized: the largest frame, and as much again.
const INPUT_MAX: usize = 32 * 1024;

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Front {
    worker: Rc<Worker>,
    timer: Timer,
    client: Client,
    covered: Option<Covered>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// All was said: it closes in order.
    Orderly,
    /// Nothing more can be said.
    Broken,
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
        let bounds = Bounds {
            streams: limits.http2_streams,
            resets: limits.http2_resets,
            list_bytes: limits.head_bytes,
        };
        let connection = Connection::new(bounds);
        let session = Session::new(&self.worker, self.client, self.covered, connection);
        let mut turns = Turns {
            worker: &self.worker,
            timer: &self.timer,
            session: &session,
            tasks: Tasks::new(serve_streams),
            stream,
            input: Buffer::holding(read),
            written: 0,
            gathered: false,
            held_back: false,
            has_failed: false,
        };
        let mut watchman = Watchman::new(&self.worker, &self.timer, &site, &session);
        let ended = poll_fn(|cx| turns.poll(&mut watchman, cx)).await;
        session.in_loop(Connection::abandon);
        let mut stream = turns.end();
        if ended == Ended::Orderly {
            let mut linger = Linger::new(&self.timer);
            poll_fn(|cx| linger.poll(&mut stream, &self.timer, cx)).await;
        }
    }
}

/// A connection's turns; see `tasks` for `F` and `M`.
struct Turns<'t, F, M> {
    worker: &'t Rc<Worker>,
    timer: &'t Timer,
    session: &'t Rc<Session>,
    tasks: Tasks<Job, F, M>,
    stream: Stream,
    input: Buffer,
    /// Bytes that left.
    written: u64,
    /// The last turn left its output to this one.
    gathered: bool,
    /// The client was not read from: too much waited to be sent.
    held_back: bool,
    /// The client broke the protocol: it is told so, and nothing else is done.
    has_failed: bool,
}

impl<F, M> Turns<'_, F, M>
where
    F: Future<Output = Infallible>,
    M: Fn(Rc<Desk<Job>>) -> F,
{
    fn poll(&mut self, watchman: &mut Watchman<'_>, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            self.session.begin_turn(cx);
            self.tasks.belong_to(cx);
            if !self.has_failed {
                match self.poll_receive(cx) {
                    Poll::Ready(Ok(())) => return Poll::Ready(Ended::Broken),
                    Poll::Ready(Err(fault)) => self.fail(fault),
                    Poll::Pending => {}
                }
                self.begin_streams();
                self.tasks.poll();
                if self.gathers(cx) {
                    return Poll::Pending;
                }
            }
            let is_sending = match self.poll_send(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(Ended::Broken),
                Poll::Ready(Ok(())) if self.has_failed || self.is_over() => {
                    return Poll::Ready(Ended::Orderly);
                }
                // It has read: now its turn to be read from.
                Poll::Ready(Ok(())) if self.held_back => continue,
                Poll::Ready(Ok(())) => false,
                Poll::Pending => true,
            };
            match watchman.look(self.seen(is_sending)) {
                Look::Wait(due) => self.timer.arm_for(Wait::Streams, due, cx),
                // A drain brings this deadline forward.
                Look::WaitIdle(due) => self.timer.arm_idle(due, cx),
                Look::Leave => {
                    self.session.in_loop(Connection::warn);
                    continue;
                }
                Look::RefuseFurther => {
                    self.session.in_loop(Connection::refuse_further);
                    continue;
                }
                Look::Cut => return Poll::Ready(Ended::Broken),
            }
            self.rest(is_sending);
            self.session.end_turn();
            return Poll::Pending;
        }
    }

    /// True where the write waits for one more turn: the answers of other streams that are ready by then leave in it, too.
    fn gathers(&mut self, cx: &Context<'_>) -> bool {
        let others_are_served = self.session.open.get() > 0;
        let has_output = self.session.in_loop(|connection| connection.queued() > 0);
        self.gathered = has_output && others_are_served && !self.gathered;
        if self.gathered {
            cx.waker().wake_by_ref();
        }
        self.gathered
    }

    fn is_over(&self) -> bool {
        self.session.in_loop(|connection| connection.is_over())
    }

    fn seen(&self, is_sending: bool) -> Seen {
        self.session.in_loop(|connection| Seen {
            is_sending,
            written: self.written,
            has_begun: connection.has_begun(),
            block_since: connection.block_since(),
        })
    }

    /// Reads and takes what is there. Ready: the client has closed, or broke the protocol.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let now = self.timer.now_ms();
        loop {
            if !self.input.is_empty() {
                let data = self.input.data();
                let taken = self
                    .session
                    .in_loop(|connection| connection.take(data, now))?;
                self.input.consume(taken);
            }
            // Who does not read is not read from: what it asks for would wait here.
            self.held_back = self.session.in_loop(|connection| connection.is_full());
            if self.held_back {
                return Poll::Pending;
            }
            if self.input.is_empty() && ready!(self.stream.poll_readable(cx)).is_err() {
                return Poll::Ready(Ok(()));
            }
            self.worker.buffers.lend(&mut self.input);
            self.input.make_room(INPUT_MAX);
            match ready!(self.input.poll_fill(&mut self.stream, cx)) {
                Ok(count) if count > 0 => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
    }

    fn fail(&mut self, fault: Fault) {
        tracing::debug!(peer = %self.session.client.peer, ?fault, "an HTTP/2 connection was ended");
        if matches!(fault, Fault::Abuse(_)) {
            self.worker.counters.count(Count::Http2Abuse);
        }
        self.has_failed = true;
        self.session.in_loop(|connection| {
            connection.abandon();
            connection.fail(fault);
        });
        self.tasks.clear();
    }

    fn begin_streams(&mut self) {
        for arrived in self.session.in_loop(Connection::arrived) {
            let Arrived {
                id,
                head,
                has_ended,
            } = arrived;
            let open = OpenStream::new(self.session, id);
            self.tasks.insert(Job {
                open,
                head,
                has_ended,
            });
        }
    }

    /// Sends what waits. Ready: everything has left.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (session, stream) = (self.session, &mut self.stream);
        loop {
            let count = session.in_loop(|connection| match connection.unsent() {
                [] => Poll::Ready(Ok(0)),
                bytes => stream.poll_write_some(cx, bytes),
            });
            match ready!(count)? {
                0 => return stream.poll_sent(cx),
                count => {
                    self.written += u64::try_from(count).unwrap_or(0);
                    session.in_loop(|connection| connection.has_sent(count));
                }
            }
        }
    }

    /// An idle connection holds no buffer.
    fn rest(&mut self, is_sending: bool) {
        self.worker.buffers.take_back(&mut self.input);
        if !is_sending && self.session.open.get() == 0 {
            self.input.release();
            self.tasks.rest();
            self.session.in_loop(Connection::rest);
        }
    }

    /// Every stream is over; what is left of the connection.
    fn end(self) -> Stream {
        self.stream
    }
}
