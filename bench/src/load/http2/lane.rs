//! One of the requests that are under way at the same time on an HTTP/2 connection, one after the other.
//!
//! Room  ask, check, and what a failure means; the connection is the caller's.
//! In    a handle to send on.
//! Out   exchanges in the ledger.
//! Holds an exchange that was begun stays here until it is settled, over several connections where needed.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::Request;
use tokio::time::{timeout, timeout_at};

use super::{Sender, Share};
use crate::ledger::{Class, Phase, Traffic};
use crate::load::Expect;
use crate::load::wire::{self, Failure};
use crate::load::worker::Worker;
use crate::payload::{PERIOD, Payload};
use crate::target::Target;

/// Connections that may leave a request untouched, one after the other. More is a server that serves nobody.
const ATTEMPTS_MAX: u32 = 4;

/// An exchange that was begun.
#[derive(Clone, Copy)]
struct Pending {
    start: Instant,
    offset: u64,
    attempts: u32,
}

pub(super) struct Lane {
    worker: Worker,
    /// Drawn, and not begun yet.
    due: Option<Instant>,
    pending: Option<Pending>,
}

/// What became of a request.
enum Asked {
    Good(Traffic),
    /// The connection takes no requests any more.
    Unsent,
    /// It was sent, and the server said that it did not look at it.
    Untouched,
    Lost(Failure),
}

impl Lane {
    pub(super) fn new(worker: Worker) -> Self {
        Self {
            worker,
            due: None,
            pending: None,
        }
    }

    /// Takes the number of the connection that it runs on now.
    pub(super) fn follow(&mut self, owner: &Worker) {
        self.worker.follow(owner);
    }

    /// Something is under way or was due before the end of the run.
    pub(super) fn has_work(&self) -> bool {
        self.pending.is_some() || self.due.is_some_and(|due| !self.worker.is_over(due))
    }

    /// There is no connection: what is under way is lost, and so is what is due already.
    pub(super) fn give_up(&mut self, failure: &Failure) {
        if self.due.is_none() && self.pending.is_none() {
            self.due = Some(self.worker.draw());
        }
        if let Some(due) = self.due
            && due <= Instant::now()
            && self.pending.is_none()
        {
            self.begin(due);
        }
        if self.pending.take().is_some() {
            self.worker.lose_exchange(failure);
        }
    }

    fn begin(&mut self, due: Instant) {
        self.due = None;
        let offset = self.worker.random.u64(..PERIOD as u64);
        self.pending = self.worker.begin_exchange(due).map(|start| Pending {
            start,
            offset,
            attempts: 0,
        });
    }

    /// Asks until the connection has had its share, takes no more, or the run is over.
    pub(super) async fn run(mut self, mut sender: Sender, share: Arc<Share>) -> Self {
        loop {
            let Some(mut pending) = self.pending else {
                if self.due.is_none() && !share.take() {
                    return self;
                }
                let due = *self.due.get_or_insert_with(|| self.worker.draw());
                tokio::select! {
                    is_due = self.worker.wait_until(due) => if !is_due {
                        self.due = None;
                        return self;
                    },
                    () = share.over() => return self,
                }
                self.begin(due);
                continue;
            };
            let asked = self.ask(&mut sender, pending).await;
            pending.attempts += 1;
            match asked {
                Asked::Good(traffic) => self.worker.end_exchange(pending.start, &Ok(traffic)),
                Asked::Lost(failure) => self.worker.lose_exchange(&failure),
                Asked::Unsent | Asked::Untouched if pending.attempts >= ATTEMPTS_MAX => {
                    let what = format!("{ATTEMPTS_MAX} connections did not take the request");
                    let failure = Failure::new(Class::Refused, Phase::Sending, what);
                    self.worker.lose_exchange(&failure);
                }
                Asked::Untouched => {
                    self.worker.count_retry();
                    self.pending = Some(pending);
                    share.end();
                    return self;
                }
                Asked::Unsent => {
                    self.pending = Some(pending);
                    share.end();
                    return self;
                }
            }
            self.pending = None;
        }
    }

    async fn ask(&self, sender: &mut Sender, pending: Pending) -> Asked {
        let limit = self.worker.load.limits.exchange;
        let asking = self.exchange(sender, pending);
        timeout_at((pending.start + limit).into(), asking)
            .await
            .unwrap_or_else(|_| Asked::Lost(Failure::timed_out(limit)))
    }

    async fn exchange(&self, sender: &mut Sender, pending: Pending) -> Asked {
        let load = &self.worker.load;
        let stall = load.limits.stall;
        let promised = match (load.expect, load.target.promised_length()) {
            (Expect::Pattern, Some(length)) => Some(Payload::new(pending.offset, length)),
            _ => None,
        };
        let Some(request) = request(&load.target, promised) else {
            let what = "the target is no URI";
            return Asked::Lost(Failure::new(Class::Failed, Phase::Sending, what));
        };
        // Waits while the server's limit of concurrent streams is reached.
        match timeout(stall, poll_fn(|cx| sender.poll_ready(cx))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Asked::Unsent,
            Err(_) => return Asked::Lost(Failure::hung(Phase::Sending, stall)),
        }
        let Ok((answer, _)) = sender.send_request(request, true) else {
            return Asked::Unsent;
        };
        let answer = match timeout(stall, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if is_untouched(&error) => return Asked::Untouched,
            Ok(Err(error)) => return Asked::Lost(failure(Phase::Receiving, &error)),
            Err(_) => return Asked::Lost(Failure::hung(Phase::Receiving, stall)),
        };
        if !answer.status().is_success() {
            let what = format!("status {}", answer.status());
            return Asked::Lost(Failure::new(Class::BadStatus, Phase::Receiving, what));
        }
        match body(answer.into_body(), promised, stall).await {
            Ok(received) => Asked::Good(Traffic { sent: 0, received }),
            Err(failure) => Asked::Lost(failure),
        }
    }
}

fn request(target: &Target, promised: Option<Payload>) -> Option<Request<()>> {
    let Target::Http {
        authority,
        path,
        is_tls,
        ..
    } = target
    else {
        return None;
    };
    let scheme = if *is_tls { "https" } else { "http" };
    let query = promised
        .map(|payload| format!("?offset={}", payload.offset()))
        .unwrap_or_default();
    Request::get(format!("{scheme}://{authority}{path}{query}"))
        .body(())
        .ok()
}

/// Reads the whole body, comparing as it comes.
async fn body(
    mut body: RecvStream,
    promised: Option<Payload>,
    stall: Duration,
) -> Result<u64, Failure> {
    let mut at = 0;
    loop {
        let data: Bytes = match timeout(stall, body.data()).await {
            Err(_) => return Err(Failure::hung(Phase::Receiving, stall)),
            Ok(None) => break,
            Ok(Some(data)) => data.map_err(|error| failure(Phase::Receiving, &error))?,
        };
        if let Some(payload) = promised {
            wire::check(payload, at, &data)?;
        }
        at += data.len() as u64;
        // Fails only on a stream that is over.
        body.flow_control()
            .release_capacity(data.len())
            .unwrap_or_default();
    }
    match promised {
        Some(payload) if at < payload.length() => {
            Err(Failure::cut(at, &payload.length().to_string()))
        }
        _ => Ok(at),
    }
}

/// The server says that it did nothing with the request: it is above the last stream of a GOAWAY (RFC 9113 section
/// 6.8), or was refused (section 8.7).
fn is_untouched(error: &h2::Error) -> bool {
    let is_refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    error.is_remote() && (error.is_go_away() || is_refused)
}

pub(super) fn failure(phase: Phase, error: &h2::Error) -> Failure {
    match error.get_io() {
        Some(io) => Failure {
            what: error.to_string(),
            ..Failure::from_io(phase, io)
        },
        None => Failure::new(Class::Reset, phase, error.to_string()),
    }
}
