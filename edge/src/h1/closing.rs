//! Answers of our own on their way to a client.
//!
//! Room  writing with deadlines; the orderly end itself is `linger`'s.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use super::{Answered, Connection, Next, answer};
use crate::end::End;
use crate::policy::RequestId;
use crate::request::Account;
use crate::site::Site;
use crate::timers::Wait;
use crate::totals::Count;

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
                        timer.arm_for(Wait::Close, due, cx);
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
