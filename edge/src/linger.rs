//! The orderly end of a client's connection.
//!
//! Room  closing with a deadline, for both engines.
//! Holds an answer is not destroyed by the reset that follows a close with unread bytes: what still comes is
//!       read and thrown away for a moment (RFC 9112 section 9.6).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite as _;

use crate::stream::Stream;
use crate::timers::{Timer, Wait};

/// How long a client may go on sending after its connection is closed on our side.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes thrown away meanwhile.
const LINGER_BYTES: usize = 512 * 1024;

/// A connection whose side is being closed.
#[derive(Debug)]
pub(crate) struct Linger {
    due: u64,
    left: usize,
    is_shut: bool,
}

impl Linger {
    pub(crate) fn new(timer: &Timer) -> Self {
        Self {
            due: timer.in_ms(LINGER),
            left: LINGER_BYTES,
            is_shut: false,
        }
    }

    /// Closes our side, then waits for the client's: its end, the deadline, or too many bytes.
    pub(crate) fn poll(
        &mut self,
        stream: &mut Stream,
        timer: &Timer,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if !self.is_shut {
            match Pin::new(&mut *stream).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => self.is_shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        let mut scrap = [0_u8; 4096];
        loop {
            match stream.poll_read_into(cx, &mut scrap) {
                Poll::Ready(Ok(count)) if count > 0 && self.left > count => self.left -= count,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        if timer.is_past(self.due) {
            return Poll::Ready(());
        }
        timer.arm_for(Wait::Close, self.due, cx);
        Poll::Pending
    }
}
