//! A tunnel after a 101: bytes both ways until both sides have ended, or another process serves it.
//!
//! Room  two pipes without framing; half-close is kept.
//! Holds an idle tunnel has no buffer; what came with or right after the heads is not lost; a tunnel in which nothing moves ends, and so does
//!       one that outlives its process's drain.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite as _;

use super::pipe::{Framing, Pipe, PipeError};
use crate::backend::BackendConnection;
use crate::buffer::{Buffer, BufferPool};
use crate::end::End;
use crate::http1::BodyDecoder;
use crate::request::Account;
use crate::stream::Stream;
use crate::timers::{Timer, Wait};
use crate::totals::Count;
use crate::worker::Worker;

/// One direction.
struct Way {
    pipe: Pipe,
    is_shut: bool,
}

impl Way {
    fn new() -> Self {
        Self {
            pipe: Pipe::new(
                Vec::new(),
                BodyDecoder::until_close(),
                Framing::Plain,
                u64::MAX,
                |_| false,
            ),
            is_shut: false,
        }
    }

    /// Ready when the source has ended and the sink was told. A direction in which nothing is on its way has no buffer.
    fn poll(
        &mut self,
        (source, buffer): (&mut Stream, &mut Buffer),
        sink: &mut Stream,
        buffers: &BufferPool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PipeError>> {
        if self.is_shut {
            return Poll::Ready(Ok(()));
        }
        if !self.pipe.is_done() && buffer.is_empty() && source.poll_readable(cx).is_pending() {
            return Poll::Pending;
        }
        buffers.lend(buffer);
        let polled = self.pipe.poll(source, buffer, sink, cx);
        buffers.take_back(buffer);
        match polled {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
        let shut = Pin::new(sink)
            .poll_shutdown(cx)
            .map_err(|_| PipeError::Sink);
        if let Poll::Ready(Ok(())) = &shut {
            self.is_shut = true;
        }
        shut
    }
}

/// How a tunnel left this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ended(End),
    /// It is asked to move: what was read and not written lies in the buffers. Which sides were told an end, the backend
    /// first; what is left of its idle time, in milliseconds.
    Moves {
        is_shut: (bool, bool),
        left_ms: u64,
    },
}

/// How a tunnel begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning {
    pub(super) idle: Duration,
    /// What is left of it, in milliseconds; another process used up the rest.
    pub(super) left_ms: Option<u64>,
    pub(super) is_shut: (bool, bool),
}

/// Until both sides have ended, or it moves.
pub(super) async fn run(
    worker: &Worker,
    timer: &Timer,
    beginning: Beginning,
    client: (&mut Stream, &mut Buffer),
    backend: &mut BackendConnection,
    account: &mut Account,
) -> Outcome {
    worker.counters.count(Count::TunnelsBegun);
    let (stream, input) = client;
    let (mut up, mut down) = (Way::new(), Way::new());
    (up.is_shut, down.is_shut) = beginning.is_shut;
    let buffers = &worker.buffers;
    let in_clear = stream.is_clear() && backend.stream.is_clear();
    let idle = beginning.idle;
    let mut seen = 0;
    let mut due = timer.in_ms(idle);
    if let Some(left) = beginning.left_ms {
        due = due.min(timer.now_ms().saturating_add(left));
    }
    let outcome = poll_fn(|cx| {
        let BackendConnection {
            stream: far,
            input: far_input,
            ..
        } = &mut *backend;
        let up_polled = up.poll((stream, input), far, buffers, cx);
        let down_polled = down.poll((far, far_input), stream, buffers, cx);
        if let Some(end) = end_of(&up_polled, &down_polled) {
            return Poll::Ready(Outcome::Ended(end));
        }
        let moved = up.pipe.progress() + down.pipe.progress();
        if moved != seen {
            seen = moved;
            due = timer.in_ms(idle);
        }
        if worker.is_cut() {
            return Poll::Ready(Outcome::Ended(End::CutByDrain));
        }
        if timer.is_past(due) {
            return Poll::Ready(Outcome::Ended(End::TunnelIdle));
        }
        let is_plain = in_clear && up.pipe.has_nothing_staged() && down.pipe.has_nothing_staged();
        if timer.take_ask() && is_plain {
            return Poll::Ready(Outcome::Moves {
                is_shut: (up.is_shut, down.is_shut),
                left_ms: due.saturating_sub(timer.now_ms()),
            });
        }
        timer.arm_for(Wait::Tunnel, due, cx);
        Poll::Pending
    })
    .await;
    // What is in the buffers counts where it is written.
    let counted = |pipe: &Pipe| match outcome {
        Outcome::Ended(_) => pipe.body_bytes(),
        Outcome::Moves { .. } => pipe.body_bytes() - pipe.unsent(),
    };
    account.received += counted(&up.pipe);
    account.sent += counted(&down.pipe);
    worker.counters.count(Count::TunnelsEnded);
    outcome
}

fn end_of(up: &Poll<Result<(), PipeError>>, down: &Poll<Result<(), PipeError>>) -> Option<End> {
    match (up, down) {
        (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Some(End::TunnelClosed),
        (Poll::Ready(Err(PipeError::Source)), _) | (_, Poll::Ready(Err(PipeError::Sink))) => {
            Some(End::ClientClosed)
        }
        (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Some(End::BackendTruncated),
        _ => None,
    }
}
