//! Finding a backend for a request: one after the other, as often as count and budget allow.
//!
//! ```text
//!   choose ──▶ kept connection ──▶ use it
//!      ▲  └──▶ connect ──failed──▶ health is told ──allowed?──┐
//!      └───────────────────────────────────────────────────────┘
//! ```
//!
//! Room  the loop around `dataplane`'s decisions (balance, health, budget); what a failure means is `life`'s.
//! Holds a backend that failed this request is not asked again for it while another is left.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use dataplane::backend::{Backend, Lease};

use crate::backend::{BackendConnection, connect};
use crate::end::End;
use crate::h1::Interrupted;
use crate::life::{Situation, Verdict, verdict};
use crate::site::UpstreamInForce;
use crate::timers::Timer;
use crate::totals::Count;
use crate::worker::Worker;

/// See the module.
#[derive(Debug)]
pub(crate) struct Attempts<'s> {
    worker: Rc<Worker>,
    upstream: &'s UpstreamInForce,
    client: IpAddr,
    tried: Vec<Arc<Backend>>,
    /// Why the last of them failed: what the client is told when nobody is left.
    last_failure: Option<End>,
    /// Attempts begun.
    pub(crate) count: u32,
    most: u32,
}

impl<'s> Attempts<'s> {
    /// A request that begins: the budget grows by its share.
    pub(crate) fn new(worker: &Rc<Worker>, upstream: &'s UpstreamInForce, client: IpAddr) -> Self {
        if let Some(budget) = &upstream.budget {
            budget.deposit(Instant::now());
        }
        Self {
            worker: Rc::clone(worker),
            upstream,
            client,
            tried: Vec::new(),
            last_failure: None,
            count: 0,
            most: upstream.upstream.settings().retries.saturating_add(1),
        }
    }

    /// A place at a backend that was not tried.
    pub(crate) fn lease(&mut self) -> Result<Lease, End> {
        self.count += 1;
        self.worker
            .choose(self.upstream, self.client, &self.tried)
            .ok_or_else(|| self.last_failure.unwrap_or(End::NoBackend))
    }

    /// True when another attempt may be made; takes it from the budget.
    pub(crate) fn may_go_again(&self) -> bool {
        if self.count >= self.most {
            return false;
        }
        let allowed = self
            .upstream
            .budget
            .as_ref()
            .is_some_and(|budget| budget.try_withdraw(Instant::now()));
        let what = if allowed {
            Count::Retries
        } else {
            Count::RetriesDenied
        };
        self.worker.counters.count(what);
        allowed
    }

    /// A backend that takes the request: a kept connection, or a new one.
    pub(crate) async fn connection(&mut self, timer: &Timer) -> Result<BackendConnection, End> {
        loop {
            let lease = self.lease()?;
            let tls = self.upstream.tls.as_ref();
            let lease = match self.worker.backends.take(lease, tls) {
                Ok(kept) => {
                    self.worker.counters.count(Count::BackendReuses);
                    return Ok(kept);
                }
                Err(lease) => lease,
            };
            let upstream = &self.upstream.upstream;
            let due = timer.in_ms(upstream.settings().connect_timeout);
            match connect(lease, tls, timer, due).await {
                Ok(connection) => {
                    self.worker.counters.count(Count::BackendConnects);
                    upstream.connect_succeeded(connection.lease.backend(), Instant::now());
                    return Ok(connection);
                }
                Err((lease, end)) => {
                    self.failed(&lease, end);
                    if !self.may_go_again() {
                        return Err(end);
                    }
                }
            }
        }
    }

    /// This backend did not connect.
    pub(crate) fn failed(&mut self, lease: &Lease, end: End) {
        self.last_failure = Some(end);
        self.worker.counters.count(Count::BackendConnectFailures);
        self.upstream
            .upstream
            .connect_failed(lease.backend(), Instant::now());
        self.tried.push(Arc::clone(lease.backend()));
    }

    /// What the backend answered, for its health.
    pub(crate) fn answered(&self, backend: &Backend, status: u16) {
        if matches!(status, 500 | 502 | 503 | 504) {
            self.upstream
                .upstream
                .response_failed(backend, Instant::now());
        } else {
            self.upstream.upstream.response_succeeded(backend);
        }
    }

    /// What an exchange that broke leads to; the backend's health is told where it is to blame.
    pub(crate) fn judge(
        &self,
        backend: &BackendConnection,
        idempotent: bool,
        interrupted: &Interrupted,
    ) -> Verdict {
        let situation = Situation {
            stage: interrupted.stage,
            idempotent,
            body_was_sent: interrupted.body_was_sent,
            reused: backend.reused,
            attempts_left: true,
        };
        let is_backends = interrupted.end.as_str().starts_with("backend:");
        // A kept connection that was closing says nothing about the backend.
        if is_backends && !(backend.reused && interrupted.end == End::BackendClosed) {
            self.broke(backend.lease.backend());
        }
        verdict(&situation, interrupted.end)
    }

    /// The backend took the request and gave no proper answer.
    pub(crate) fn broke(&self, backend: &Backend) {
        self.upstream
            .upstream
            .response_failed(backend, Instant::now());
    }
}
