//! A tunnel after a 101: bytes both ways until both sides have ended.
//!
//! Room  two pipes without framing; half-close is kept.
//! Holds what came with or right after the heads is not lost; a tunnel in which nothing moves ends, and so does
//!       one that outlives its process's drain.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite as _;

use super::pipe::{Framing, Pipe, PipeError};
use crate::backend::BackendConnection;
use crate::buffer::Buffer;
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

    /// Ready when the source has ended and the sink was told.
    fn poll(
        &mut self,
        source: &mut Stream,
        buffer: &mut Buffer,
        sink: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PipeError>> {
        if self.is_shut {
            return Poll::Ready(Ok(()));
        }
        match self.pipe.poll(source, buffer, sink, cx) {
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

/// Until both sides have ended.
pub(super) async fn run(
    worker: &Worker,
    timer: &Timer,
    idle: Duration,
    client: (&mut Stream, &mut Buffer),
    backend: &mut BackendConnection,
    account: &mut Account,
) -> End {
    worker.counters.count(Count::TunnelsBegun);
    let (stream, input) = client;
    let (mut up, mut down) = (Way::new(), Way::new());
    worker.buffers.lend(input);
    worker.buffers.lend(&mut backend.input);
    let mut seen = 0;
    let mut due = timer.in_ms(idle);
    let end = poll_fn(|cx| {
        let up_polled = up.poll(stream, input, &mut backend.stream, cx);
        let down_polled = down.poll(&mut backend.stream, &mut backend.input, stream, cx);
        match (up_polled, down_polled) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::TunnelClosed),
            (Poll::Ready(Err(PipeError::Source)), _) | (_, Poll::Ready(Err(PipeError::Sink))) => {
                return Poll::Ready(End::ClientClosed);
            }
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => {
                return Poll::Ready(End::BackendTruncated);
            }
            _ => {}
        }
        let moved = up.pipe.progress() + down.pipe.progress();
        if moved != seen {
            seen = moved;
            due = timer.in_ms(idle);
        }
        if worker.is_cut() {
            return Poll::Ready(End::CutByDrain);
        }
        if timer.is_past(due) {
            return Poll::Ready(End::TunnelIdle);
        }
        timer.arm_for(Wait::Tunnel, due, cx);
        Poll::Pending
    })
    .await;
    account.received += up.pipe.body_bytes();
    account.sent += down.pipe.body_bytes();
    worker.counters.count(Count::TunnelsEnded);
    end
}
