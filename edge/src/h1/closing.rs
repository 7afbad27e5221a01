//! The end of a client's connection, and answers of our own on the way to it.
//!
//! Room  writing and closing with deadlines.
//! Holds an answer is not destroyed by the reset that follows a close with unread bytes: what still comes is
//!       read and thrown away for a moment (RFC 9112 section 9.6).

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::io::AsyncWrite as _;

use super::{Answered, Connection, Next, answer};
use crate::buffer::Buffer;
use crate::end::End;
use crate::policy::RequestId;
use crate::request::Account;
use crate::site::Site;
use crate::stream::Stream;
use crate::timers::Timer;
use crate::totals::Count;

/// How long a client may go on sending after its connection is closed on our side.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes thrown away meanwhile.
const LINGER_BYTES: usize = 512 * 1024;

impl Connection {
    /// Writes an answer of our own. A body that was not read closes the connection: whether the client sends it
    /// at all is not known.
    pub(super) async fn answer(&mut self, answered: Answered) -> Next {
        let Answered {
            answer,
            origin,
            mut account,
            facts,
            is_head,
        } = answered;
        let site = self.worker.site();
        let stays = facts.has_no_body() && self.may_stay(&site, &facts);
        let mut bytes = Vec::with_capacity(512 + answer.body.len());
        let framing = answer::Framing {
            is_head,
            close: !stays,
        };
        answer::whole(
            &site.policy,
            &answer,
            &self.client,
            origin.as_deref(),
            framing,
            &mut bytes,
        );
        let is_delivered = self.write_all(&site, &bytes).await;
        account.sent = u64::try_from(answer.body.len()).unwrap_or(u64::MAX);
        let end = if is_delivered {
            answered_end(answer.status, answer.end)
        } else {
            End::ClientClosed
        };
        account.close(end, answer.status);
        match (is_delivered, stays) {
            (true, true) => Next::Again,
            (true, false) => Next::Close,
            (false, _) => Next::Drop,
        }
    }

    /// An error for bytes that never became a request.
    pub(super) async fn refuse(&mut self, site: &std::sync::Arc<Site>, status: u16, end: End) {
        let id = RequestId::generated(fastrand::u128(..));
        let answer = site.policy.error(status, end.as_str(), None, &id);
        let mut account = Account::open(&self.worker, site, Count::Http1, Instant::now(), None);
        let mut bytes = Vec::with_capacity(512);
        let framing = answer::Framing {
            is_head: false,
            close: true,
        };
        answer::whole(
            &site.policy,
            &answer,
            &self.client,
            None,
            framing,
            &mut bytes,
        );
        let is_delivered = self.write_all(site, &bytes).await;
        account.close(if is_delivered { end } else { End::ClientClosed }, status);
    }

    /// Writes everything, as long as the client takes it.
    pub(super) async fn write_all(&mut self, site: &Site, bytes: &[u8]) -> bool {
        let idle = site.settings.timeouts.body_idle;
        let (stream, timer) = (&mut self.stream, &self.timer);
        let mut at = 0;
        let mut due = timer.in_ms(idle);
        poll_fn(|cx| {
            loop {
                let rest = bytes.get(at..).unwrap_or_default();
                let progress = if rest.is_empty() {
                    stream.poll_sent(cx).map_ok(|()| 0)
                } else {
                    stream.poll_write_some(cx, rest)
                };
                match progress {
                    Poll::Ready(Ok(0)) => return Poll::Ready(true),
                    Poll::Ready(Ok(count)) => {
                        at += count;
                        due = timer.in_ms(idle);
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(false),
                    Poll::Pending if timer.is_past(due) => return Poll::Ready(false),
                    Poll::Pending => {
                        timer.arm(due, cx);
                        return Poll::Pending;
                    }
                }
            }
        })
        .await
    }
}

/// The end of a request that the policy answered, by the answer's own word.
pub(crate) fn answered_end(status: u16, word: &str) -> End {
    if let Some(end) = End::ALL.into_iter().find(|end| end.as_str() == word) {
        return end;
    }
    match (status, word) {
        (421, _) => End::Misdirected,
        (403, "access_denied") => End::Denied,
        (429, _) => End::RateLimited,
        (503, _) => End::Overloaded,
        (404 | 405, "no_route" | "method_not_allowed") => End::NoRoute,
        (413, "body_too_large") => End::TooLarge,
        (400, _) => End::ClientMalformed,
        _ => End::Answered,
    }
}

/// Closes our side and waits a moment for the client's.
pub(super) async fn linger(stream: &mut Stream, input: &mut Buffer, timer: &Timer) {
    let due = timer.in_ms(LINGER);
    let mut scrap = [0_u8; 4096];
    let mut left = LINGER_BYTES;
    let mut is_shut = false;
    input.consume(usize::MAX);
    poll_fn(|cx| {
        if !is_shut {
            match Pin::new(&mut *stream).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => is_shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        loop {
            match stream.poll_read_into(cx, &mut scrap) {
                Poll::Ready(Ok(count)) if count > 0 && left > count => left -= count,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        if timer.is_past(due) {
            return Poll::Ready(());
        }
        timer.arm(due, cx);
        Poll::Pending
    })
    .await;
}
