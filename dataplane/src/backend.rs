//! One backend: an address and what is known about it, shared by every shard.
//!
//! Room  atomics only: a shard never waits for another one here.
//! Holds `active` is the number of living leases.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwapOption;

use crate::health::{Condition, Ejection, ProbeOutcome};
use crate::upstream::BackendSpec;

/// An address behind an upstream. Compared by identity: a backend that leaves and comes back is another.
#[derive(Debug)]
pub struct Backend {
    id: String,
    label: String,
    weight: u32,
    max_connections: Option<usize>,
    address: ArcSwapOption<SocketAddr>,
    draining: AtomicBool,
    active: AtomicUsize,
    connections_total: AtomicU64,
    connect_failures_total: AtomicU64,
    condition: Mutex<Condition>,
    last_check: Mutex<Option<LastCheck>>,
}

/// What the last active check said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastCheck {
    pub at: SystemTime,
    /// "ok", or why not.
    pub text: String,
}

/// Heaviest weight of a backend.
pub const WEIGHT_MAX: u32 = 256;

impl Backend {
    pub(crate) fn new(spec: &BackendSpec, default_max: Option<usize>) -> Self {
        let address: Option<SocketAddr> = spec.label.parse().ok();
        Self {
            id: spec.id.clone().unwrap_or_else(|| spec.label.clone()),
            label: spec.label.clone(),
            weight: spec.weight.clamp(1, WEIGHT_MAX),
            max_connections: spec.max_connections.or(default_max),
            address: ArcSwapOption::from_pointee(address),
            draining: AtomicBool::new(spec.drain),
            active: AtomicUsize::new(0),
            connections_total: AtomicU64::new(0),
            connect_failures_total: AtomicU64::new(0),
            condition: Mutex::new(Condition::default()),
            last_check: Mutex::new(None),
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

    /// 1 ..= [`WEIGHT_MAX`].
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Connections held now.
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Most connections at once; `None`: no limit.
    pub fn max_connections(&self) -> Option<usize> {
        self.max_connections
    }

    /// Connections that ever reached it.
    pub fn connections_total(&self) -> u64 {
        self.connections_total.load(Ordering::Relaxed)
    }

    /// Attempts to connect that failed.
    pub fn connect_failures_total(&self) -> u64 {
        self.connect_failures_total.load(Ordering::Relaxed)
    }

    /// Takes a place; `None` when every place is taken.
    pub fn try_acquire(self: &Arc<Self>) -> Option<Lease> {
        let limit = self.max_connections.unwrap_or(usize::MAX);
        let taken = self.active.fetch_add(1, Ordering::Relaxed);
        if taken >= limit {
            self.active.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Lease(Arc::clone(self)))
    }

    /// Takes no new connections; existing ones go on.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn set_draining(&self, on: bool) {
        self.draining.store(on, Ordering::Relaxed);
    }

    /// Healthy by its checks and not ejected.
    pub fn is_healthy(&self, now: Instant) -> bool {
        self.condition().is_healthy() && !self.condition().is_ejected(now)
    }

    /// "healthy", "unchecked", "unhealthy", "ejected" or "draining".
    pub fn status(&self, now: Instant) -> &'static str {
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

    pub(crate) fn note_probe(&self, outcome: &ProbeOutcome, rise: u32, fall: u32) -> bool {
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
        self.condition_guard().probed(passed, rise, fall)
    }

    pub(crate) fn note_connected(&self) {
        self.connections_total.fetch_add(1, Ordering::Relaxed);
        let mut condition = self.condition_guard();
        condition.connected();
    }

    /// True when this failure is the one that should eject the backend.
    pub(crate) fn note_connect_failed(&self, ejection: &Ejection) -> bool {
        self.connect_failures_total.fetch_add(1, Ordering::Relaxed);
        self.condition_guard().connect_failed(ejection)
    }

    pub(crate) fn eject(&self, ejection: &Ejection, now: Instant) {
        self.condition_guard().eject(ejection, now);
    }

    /// True when an ejection has just ended.
    pub(crate) fn forgive(&self, now: Instant) -> bool {
        self.condition_guard().forgive(now)
    }

    fn condition_guard(&self) -> std::sync::MutexGuard<'_, Condition> {
        // Held for a few instructions, never across a wait; taken once per connection.
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
