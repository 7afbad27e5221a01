//! One backend: an address and what is known about it, shared by every shard.
//!
//! Room  atomics on the data path: choosing, connecting and ending take no lock. The lock of a backend's health is
//!       for failures and for the control thread.
//! In    a `BackendSpec`; outcomes, through `upstream`.
//! Out   leases, counters, health.
//! Holds `active` is the number of living leases.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;

use crate::health::{Cause, Condition, Ejection, ProbeOutcome, RAMP_FULL_PERCENT};
use crate::upstream::BackendSpec;

/// An address behind an upstream. Compared by identity: a backend that leaves and comes back is another.
#[derive(Debug)]
pub struct Backend {
    id: String,
    label: String,
    weight: AtomicU32,
    /// [`UNLIMITED`]: no limit.
    max_connections: AtomicUsize,
    address: ArcSwapOption<SocketAddr>,
    draining: AtomicBool,
    /// No configuration names it any more.
    removed: AtomicBool,
    /// What the configuration last said about draining; a person's word holds until this changes.
    drain_configured: AtomicBool,
    active: AtomicUsize,
    connections_total: AtomicU64,
    connect_failures_total: AtomicU64,
    /// Answers in a row that say it is broken.
    response_failures: AtomicU32,
    requests_total: AtomicU64,
    response_failures_total: AtomicU64,
    condition: Mutex<Condition>,
    /// A connect that succeeds must be told to `condition`: there are failures to forget.
    is_suspect: AtomicBool,
    last_check: Mutex<Option<LastCheck>>,
}

/// What the last active check said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastCheck {
    /// When it ended, by the host's clock.
    pub at: SystemTime,
    /// "ok", or why not.
    pub text: String,
}

/// Heaviest weight of a backend.
pub const WEIGHT_MAX: u32 = 256;

/// The limit of a backend that has none.
const UNLIMITED: usize = usize::MAX;

impl Backend {
    pub(crate) fn new(spec: &BackendSpec, default_max: Option<usize>) -> Self {
        let address: Option<SocketAddr> = spec.label.parse().ok();
        let backend = Self {
            id: spec.id.clone().unwrap_or_else(|| spec.label.clone()),
            label: spec.label.clone(),
            weight: AtomicU32::new(1),
            max_connections: AtomicUsize::new(UNLIMITED),
            address: ArcSwapOption::from_pointee(address),
            draining: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            drain_configured: AtomicBool::new(false),
            active: AtomicUsize::new(0),
            connections_total: AtomicU64::new(0),
            connect_failures_total: AtomicU64::new(0),
            response_failures: AtomicU32::new(0),
            requests_total: AtomicU64::new(0),
            response_failures_total: AtomicU64::new(0),
            condition: Mutex::new(Condition::default()),
            is_suspect: AtomicBool::new(false),
            last_check: Mutex::new(None),
        };
        backend.adopt(spec, default_max);
        backend
    }

    /// Takes over what a configuration may change about a backend that stays: weight, limit, draining.
    pub(crate) fn adopt(&self, spec: &BackendSpec, default_max: Option<usize>) {
        let weight = spec.weight.clamp(1, WEIGHT_MAX);
        self.weight.store(weight, Ordering::Relaxed);
        let limit = spec.max_connections.or(default_max).unwrap_or(UNLIMITED);
        self.max_connections.store(limit, Ordering::Relaxed);
        if self.drain_configured.swap(spec.drain, Ordering::Relaxed) != spec.drain {
            self.set_draining(spec.drain);
        }
    }

    /// Stable name: what the operator calls it, or its address as written.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The address as written: `ip:port` or `host:port`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Where to connect; `None` while a host name does not resolve.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address.load().as_deref().copied()
    }

    /// True when the label is a host name that must be resolved now and then.
    pub fn needs_resolving(&self) -> bool {
        self.label.parse::<SocketAddr>().is_err()
    }

    /// Sets what the host name resolved to.
    pub fn set_address(&self, address: Option<SocketAddr>) {
        self.address.store(address.map(Arc::new));
    }

    /// As configured: 1 ..= [`WEIGHT_MAX`]. What a selection goes by may be less, during a slow start.
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// How heavy it is now, in hundredths of a weight: less than all of it during a slow start.
    pub fn weight_hundredths(&self, slow_start: Option<Duration>, now: Instant) -> u32 {
        let percent = match slow_start {
            // Without a lock where nobody asked for it.
            None => RAMP_FULL_PERCENT,
            Some(_) => self.condition().ramp_percent(slow_start, now),
        };
        self.weight() * percent
    }

    /// Leases held now: connections where connections are balanced, requests where requests are.
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Most connections at once; `None`: no limit.
    pub fn max_connections(&self) -> Option<usize> {
        let limit = self.max_connections.load(Ordering::Relaxed);
        (limit != UNLIMITED).then_some(limit)
    }

    /// True when no further place would be given.
    pub(crate) fn is_full(&self) -> bool {
        self.active() >= self.max_connections.load(Ordering::Relaxed)
    }

    /// Connections that ever reached it.
    pub fn connections_total(&self) -> u64 {
        self.connections_total.load(Ordering::Relaxed)
    }

    /// Attempts to connect that failed.
    pub fn connect_failures_total(&self) -> u64 {
        self.connect_failures_total.load(Ordering::Relaxed)
    }

    /// Requests that it answered or broke, where requests are seen.
    pub fn requests_total(&self) -> u64 {
        self.requests_total.load(Ordering::Relaxed)
    }

    /// Answers that said it is broken.
    pub fn response_failures_total(&self) -> u64 {
        self.response_failures_total.load(Ordering::Relaxed)
    }

    /// A proper answer: without a lock, and without a write where nothing went wrong before.
    pub(crate) fn note_answered(&self) {
        self.requests_total.fetch_add(1, Ordering::Relaxed);
        if self.response_failures.load(Ordering::Relaxed) != 0 {
            self.response_failures.store(0, Ordering::Relaxed);
        }
    }

    /// True when this failure is the one that should eject the backend.
    pub(crate) fn note_response_failed(&self, ejection: &Ejection) -> bool {
        self.requests_total.fetch_add(1, Ordering::Relaxed);
        self.response_failures_total.fetch_add(1, Ordering::Relaxed);
        let before = self.response_failures.fetch_add(1, Ordering::Relaxed);
        let in_a_row = before.wrapping_add(1);
        ejection.response_failures > 0 && in_a_row.is_multiple_of(ejection.response_failures)
    }

    /// Takes a place; `None` when every place is taken.
    pub fn try_acquire(self: &Arc<Self>) -> Option<Lease> {
        let limit = self.max_connections.load(Ordering::Relaxed);
        let one_more = |taken: usize| (taken < limit).then(|| taken + 1);
        self.active
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        Some(Lease(Arc::clone(self)))
    }

    /// A place beyond any limit, for a connection that another process made.
    pub(crate) fn acquire_arrived(self: &Arc<Self>) -> Lease {
        self.active.fetch_add(1, Ordering::Relaxed);
        Lease(Arc::clone(self))
    }

    pub(crate) fn note_removed(&self, removed: bool) {
        self.removed.store(removed, Ordering::Relaxed);
    }

    /// True when no configuration names it any more; its connections go on.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    /// Takes no new connections; existing ones go on.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// True when the backend takes new connections: healthy, and nobody drains it.
    pub fn is_fit(&self, now: Instant) -> bool {
        self.is_healthy(now) && !self.is_draining() && !self.is_removed()
    }

    pub(crate) fn set_draining(&self, on: bool) {
        self.draining.store(on, Ordering::Relaxed);
    }

    /// Healthy by its checks and not ejected.
    pub fn is_healthy(&self, now: Instant) -> bool {
        let condition = self.condition();
        condition.is_healthy() && !condition.is_ejected(now)
    }

    /// "healthy", "unchecked", "unhealthy", "ejected", "draining" or "removed".
    pub fn status(&self, now: Instant) -> &'static str {
        if self.is_removed() {
            return "removed";
        }
        if self.is_draining() {
            return "draining";
        }
        self.condition().word(now)
    }

    /// What the last active check said.
    pub fn last_check(&self) -> Option<LastCheck> {
        self.last_check
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn condition(&self) -> Condition {
        *self.condition_guard()
    }

    /// True when the word about the backend changed.
    pub(crate) fn note_probe(
        &self,
        outcome: &ProbeOutcome,
        (rise, fall): (u32, u32),
        now: Instant,
    ) -> bool {
        let text = match outcome {
            ProbeOutcome::Passed => "ok".to_owned(),
            ProbeOutcome::Failed(why) => why.clone(),
        };
        *self
            .last_check
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(LastCheck {
            at: SystemTime::now(),
            text,
        });
        let passed = matches!(outcome, ProbeOutcome::Passed);
        let mut condition = self.condition_guard();
        let changed = condition.probed(passed, rise, fall);
        if changed && passed {
            condition.begin_ramp(now);
            self.response_failures.store(0, Ordering::Relaxed);
        }
        changed
    }

    /// Without a lock unless connecting failed lately: called once for each connection.
    pub(crate) fn note_connected(&self) {
        self.connections_total.fetch_add(1, Ordering::Relaxed);
        if self.is_suspect.load(Ordering::Relaxed) {
            let mut condition = self.condition_guard();
            condition.connected();
            self.is_suspect
                .store(condition.is_suspect(), Ordering::Relaxed);
        }
    }

    /// True when this failure is the one that should eject the backend.
    pub(crate) fn note_connect_failed(&self, ejection: &Ejection) -> bool {
        self.connect_failures_total.fetch_add(1, Ordering::Relaxed);
        let mut condition = self.condition_guard();
        self.is_suspect.store(true, Ordering::Relaxed);
        condition.connect_failed(ejection)
    }

    pub(crate) fn eject(&self, cause: Cause, ejection: &Ejection, now: Instant) {
        let mut condition = self.condition_guard();
        condition.eject(cause, ejection, now);
        self.is_suspect
            .store(condition.is_suspect(), Ordering::Relaxed);
    }

    /// True when an ejection has just ended.
    pub(crate) fn forgive(&self, now: Instant) -> bool {
        let over = self.condition_guard().forgive(now);
        if over {
            // Requests that were under way may have failed during the ejection: the count begins anew.
            self.response_failures.store(0, Ordering::Relaxed);
        }
        over
    }

    /// It is new among others that carry the load.
    pub(crate) fn begin_ramp(&self, now: Instant) {
        self.condition_guard().begin_ramp(now);
    }

    /// Nobody checks it any more: what checks said is forgotten.
    pub(crate) fn forget_checks(&self) {
        self.condition_guard().forget_checks();
    }

    fn condition_guard(&self) -> MutexGuard<'_, Condition> {
        // Held for a few instructions, never across a wait.
        self.condition
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place at a backend; given back when dropped.
#[derive(Debug)]
pub struct Lease(Arc<Backend>);

impl Lease {
    /// Whose place it is.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}
