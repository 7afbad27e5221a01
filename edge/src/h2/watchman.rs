//! Every deadline of a client's HTTP/2 connection.
//!
//! Room  decides what the moment asks for; `front` does it.
//! Holds no connection is silent, unfinished or unread for longer than its deadline.

use std::time::Duration;

use super::session::Session;
use crate::site::Site;
use crate::timers::{Timer, later};
use crate::worker::Worker;

/// How long a connection may take to close once it has no streams and was told to go.
const LEAVE: Duration = Duration::from_secs(2);

/// How long a GOAWAY may take to leave before the connection is cut, and the client to answer the PING behind it.
const GOAWAY_GRACE: Duration = Duration::from_secs(1);

/// What the deadlines say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Wait(u64),
    WaitIdle(u64),
    /// Say GOAWAY; streams end as they do.
    Leave,
    /// Say which stream was the last.
    RefuseFurther,
    Cut,
}

/// What the loop knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Something waits to be sent.
    pub(super) is_sending: bool,
    /// Bytes that left; grows with every progress of the client's reading.
    pub(super) written: u64,
    pub(super) has_begun: bool,
    /// Since when a header block waits for its end, in milliseconds.
    pub(super) block_since: Option<u64>,
}

/// See the module.
pub(super) struct Watchman<'w> {
    worker: &'w Worker,
    timer: &'w Timer,
    site: &'w Site,
    session: &'w Session,
    began_at: u64,
    written: u64,
    written_at: u64,
    /// When GOAWAY was said.
    leaving_since: Option<u64>,
    refuses: bool,
    /// When a drain wants it to leave.
    leave_at: Option<u64>,
}

impl<'w> Watchman<'w> {
    pub(super) fn new(
        worker: &'w Worker,
        timer: &'w Timer,
        site: &'w Site,
        session: &'w Session,
    ) -> Self {
        Self {
            worker,
            timer,
            site,
            session,
            began_at: timer.now_ms(),
            written: 0,
            written_at: timer.now_ms(),
            leaving_since: None,
            refuses: false,
            leave_at: None,
        }
    }

    pub(super) fn look(&mut self, seen: Seen) -> Look {
        let now = self.timer.now_ms();
        if self.worker.is_cut() {
            return Look::Cut;
        }
        if seen.written != self.written || !seen.is_sending {
            self.written = seen.written;
            self.written_at = now;
        }
        let timeouts = &self.site.settings.timeouts;
        let mut cut_at = u64::MAX;
        if !seen.has_begun {
            cut_at = cut_at.min(later(self.began_at, timeouts.first_byte));
        }
        if let Some(since) = seen.block_since {
            let due = later(since, timeouts.header);
            // First the word, then the cut: once GOAWAY has left there is nothing to wait for.
            if now >= due && self.leaving_since.is_none() {
                self.leaving_since = Some(now);
                return Look::Leave;
            }
            let is_told = now >= due && !seen.is_sending;
            cut_at = cut_at.min(if is_told {
                now
            } else {
                later(due, GOAWAY_GRACE)
            });
            if now < due {
                cut_at = cut_at.min(due);
            }
        }
        if seen.is_sending {
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
        match self.leaving_since {
            None => {
                let leave_at = self.leave_at(now, is_idle);
                if now >= leave_at {
                    self.leaving_since = Some(now);
                    return Look::Leave;
                }
                Look::WaitIdle(cut_at.min(leave_at))
            }
            Some(since) if !self.refuses => {
                let due = later(since, GOAWAY_GRACE);
                if now >= due {
                    self.refuses = true;
                    return Look::RefuseFurther;
                }
                Look::Wait(cut_at.min(due))
            }
            Some(_) => Look::Wait(cut_at),
        }
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
