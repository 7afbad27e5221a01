//! One forwarded request, whichever version it came in: where it goes, what is known of it for its end.
//!
//! Room  the facts that both engines share, and what is recorded once a request is over.
//! Holds a request that was begun is recorded exactly once, by [`Account::close`] or by its drop.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use dataplane::backend::Lease;

use crate::access_log::Record;
use crate::end::End;
use crate::policy::{CompiledRoute, Forwarding, RequestId};
use crate::site::{Site, UpstreamInForce};
use crate::totals::Count;
use crate::worker::Worker;

/// What a request's account needs, forwarded or answered.
#[derive(Debug)]
pub(crate) struct Account {
    worker: Rc<Worker>,
    site: Arc<Site>,
    began: Instant,
    pub(crate) route: Option<usize>,
    pub(crate) record: Option<Box<Record>>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) attempts: u32,
    is_over: bool,
}

impl Account {
    /// Opens the account of a request whose head has arrived.
    pub(crate) fn open(
        worker: &Rc<Worker>,
        site: &Arc<Site>,
        version: Count,
        began: Instant,
        record: Option<Box<Record>>,
    ) -> Self {
        worker.counters.count(version);
        Self {
            worker: Rc::clone(worker),
            site: Arc::clone(site),
            began,
            route: None,
            record,
            received: 0,
            sent: 0,
            attempts: 0,
            is_over: false,
        }
    }

    /// Who asked, for the access log.
    pub(crate) fn note(&mut self, id: &RequestId, client: Option<IpAddr>) {
        if let Some(record) = &mut self.record {
            record.request_id = id.to_string();
            if let Some(client) = client {
                record.client = client;
            }
        }
    }

    /// Where it goes, for the access log.
    pub(crate) fn name_upstream(&mut self, upstream: &UpstreamInForce, route: &CompiledRoute) {
        if let Some(record) = &mut self.record {
            record.upstream = Some(upstream.upstream.name().to_owned());
            record.route = Some(route.name.to_string());
        }
    }

    /// Who answers, for the access log.
    pub(crate) fn name_backend(&mut self, lease: &Lease) {
        if let Some(record) = &mut self.record {
            record.backend = Some(lease.backend().label().to_owned());
        }
    }

    /// The request is over; `status` is what the client was told, 0 for nothing.
    pub(crate) fn close(&mut self, end: End, status: u16) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        #[cfg(feature = "slowdown")]
        crate::slowdown::burn();
        let took = self.began.elapsed();
        let counters = &self.worker.counters;
        counters.ended(end, status);
        if status != 0 {
            counters.took(took);
        }
        counters.add(Count::BytesFromClients, self.received);
        counters.add(Count::BytesToClients, self.sent);
        if let Some(route) = self.route.and_then(|route| self.site.routes.get(route)) {
            route.record(self.worker.index, took);
        }
        if let (Some(mut record), Some(log)) = (self.record.take(), &self.site.access_log) {
            record.status = status;
            record.end_reason = end.as_str().into();
            record.duration_ms = took.as_secs_f64() * 1000.0;
            record.bytes_received = self.received;
            record.bytes_sent = self.sent;
            record.attempts = self.attempts;
            self.worker.log_lines.borrow_mut().write(log, &record);
        }
    }
}

/// What is left of a request whose tunnel moves: it is closed by whoever serves the tunnel to its end.
#[derive(Debug)]
pub(crate) struct AccountLeft {
    pub(crate) record: Option<Box<Record>>,
    pub(crate) began: Instant,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) attempts: u32,
}

impl Account {
    /// Leaves without an end: it moves.
    pub(crate) fn leave(mut self) -> AccountLeft {
        self.is_over = true;
        AccountLeft {
            record: self.record.take(),
            began: self.began,
            received: self.received,
            sent: self.sent,
            attempts: self.attempts,
        }
    }

    /// The account of a request that began elsewhere.
    pub(crate) fn resume(worker: &Rc<Worker>, site: &Arc<Site>, left: AccountLeft) -> Self {
        Self {
            worker: Rc::clone(worker),
            site: Arc::clone(site),
            began: left.began,
            // Its route's times are counted where it was chosen.
            route: None,
            record: left.record,
            received: left.received,
            sent: left.sent,
            attempts: left.attempts,
            is_over: false,
        }
    }
}

impl Drop for Account {
    /// Dropped in the middle: the client's stream or connection is gone.
    fn drop(&mut self) {
        let end = if std::thread::panicking() {
            End::Internal
        } else {
            End::ClientClosed
        };
        self.close(end, 0);
    }
}

/// A request on its way to a backend.
#[derive(Debug)]
pub(crate) struct Request<'s> {
    pub(crate) site: &'s Site,
    pub(crate) forwarding: Forwarding<'s>,
    pub(crate) account: Account,
    pub(crate) is_head: bool,
    pub(crate) idempotent: bool,
    /// Of the Accept field, what an error page needs.
    pub(crate) accept: Option<&'static str>,
    /// For CORS.
    pub(crate) origin: Option<String>,
    /// The protocol asked for.
    pub(crate) upgrade: Option<String>,
}

impl<'s> Request<'s> {
    /// The upstream it goes to.
    pub(crate) fn upstream(&self) -> Option<&'s UpstreamInForce> {
        self.site.upstreams.get(self.forwarding.upstream)
    }

    /// Largest body, in bytes.
    pub(crate) fn body_limit(&self) -> u64 {
        self.forwarding.route.body_bytes.unwrap_or(u64::MAX)
    }
}

/// What an error page needs to know of an Accept field.
pub(crate) fn accept_class(accept: Option<&[u8]>) -> Option<&'static str> {
    let accept = std::str::from_utf8(accept?).ok()?;
    if accept.contains("text/html") {
        Some("text/html")
    } else if accept.contains("json") {
        Some("application/json")
    } else {
        None
    }
}
