//! An upstream: a named group of backends, and who of them may be chosen right now.
//!
//! Room  turns what happens (checks, connects, reloads, a person's word) into a published [`Selection`].
//! Holds readers never wait: a selection is swapped whole; a backend that is unchanged by a reload keeps
//!       its health, its counters and its connections.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::backend::{Backend, Lease};
use crate::balance::{Algorithm, Selection};
pub use crate::health::Ejection;
use crate::health::{Cause, HealthCheck, ProbeOutcome};
use crate::proxy_protocol::ProxyVersion;

/// How an upstream behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// How a backend is chosen.
    pub algorithm: Algorithm,
    /// For one attempt to connect.
    pub connect_timeout: Duration,
    /// How many further backends are tried when connecting fails.
    pub retries: u32,
    /// Absent: every backend counts as healthy, until it does not connect.
    pub health_check: Option<HealthCheck>,
    /// When a backend that does not connect, or answers with errors, is left alone.
    pub ejection: Ejection,
    /// Below this share of healthy backends, in percent, all of them are used: a wrong check or a wave of
    /// ejections must not become an outage. 0: only when none is healthy.
    pub panic_threshold_percent: u32,
    /// How long a backend that recovers, or is new among others, takes from a tenth of its weight to all of it.
    /// Absent: it has all of it at once. At a start nobody is slow.
    pub slow_start: Option<Duration>,
    /// For backends that have no limit of their own.
    pub max_connections_per_backend: Option<usize>,
    /// Say who the client is, ahead of its bytes.
    pub proxy_protocol_out: Option<ProxyVersion>,
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::RoundRobin,
            connect_timeout: Duration::from_secs(2),
            retries: 3,
            health_check: None,
            ejection: Ejection::default(),
            panic_threshold_percent: 0,
            slow_start: None,
            max_connections_per_backend: None,
            proxy_protocol_out: None,
        }
    }
}

/// A backend as configured or discovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSpec {
    /// Absent: the label.
    pub id: Option<String>,
    /// `ip:port` or `host:port`.
    pub label: String,
    /// Its share among the others: 1 ..= [`WEIGHT_MAX`](crate::backend::WEIGHT_MAX).
    pub weight: u32,
    /// Connections at once; absent: [`UpstreamSettings::max_connections_per_backend`].
    pub max_connections: Option<usize>,
    /// Takes no new connections.
    pub drain: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Upstream {
    name: String,
    settings: ArcSwap<UpstreamSettings>,
    backends: ArcSwap<Vec<Arc<Backend>>>,
    /// Backends that no configuration names any more and that still have connections.
    removed: Mutex<Vec<Arc<Backend>>>,
    selection: ArcSwap<Selection>,
    version: AtomicU64,
    /// One publisher at a time.
    publishing: Mutex<()>,
}

impl Upstream {
    /// An upstream whose backends are all unchecked.
    pub fn new(name: String, settings: UpstreamSettings, backends: Vec<BackendSpec>) -> Arc<Self> {
        let backends: Vec<Arc<Backend>> = backends
            .iter()
            .map(|spec| Arc::new(Backend::new(spec, settings.max_connections_per_backend)))
            .collect();
        let selection = Selection::new(&settings, &backends, Instant::now(), 0);
        Arc::new(Self {
            name,
            settings: ArcSwap::from_pointee(settings),
            backends: ArcSwap::from_pointee(backends),
            removed: Mutex::new(Vec::new()),
            selection: ArcSwap::from_pointee(selection),
            version: AtomicU64::new(0),
            publishing: Mutex::new(()),
        })
    }

    /// The name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The settings now; a reload may replace them.
    pub fn settings(&self) -> Arc<UpstreamSettings> {
        self.settings.load_full()
    }

    /// Who may be chosen right now.
    pub fn selection(&self) -> Arc<Selection> {
        self.selection.load_full()
    }

    /// Every backend, also those that may not be chosen.
    pub fn backends(&self) -> Vec<Arc<Backend>> {
        self.backends.load().as_ref().clone()
    }

    /// Backends that no configuration names any more and that still have connections; nobody chooses them.
    pub fn removed_backends(&self) -> Vec<Arc<Backend>> {
        self.removed().clone()
    }

    /// Forgets removed backends whose last connection has ended.
    pub fn forget_removed(&self) {
        self.removed().retain(|backend| backend.active() > 0);
    }

    /// A place at a backend for a connection that another process made, whatever the limit says: it is there. A backend
    /// that this configuration does not name is seen among the [removed](Self::removed_backends).
    pub fn lease_of_arrived(&self, id: &str, label: &str) -> Lease {
        let is_it = |backend: &&Arc<Backend>| backend.id() == id && backend.label() == label;
        if let Some(backend) = self.backends.load().iter().find(is_it) {
            return backend.acquire_arrived();
        }
        let mut removed = self.removed();
        if let Some(backend) = removed.iter().find(is_it) {
            return backend.acquire_arrived();
        }
        let spec = BackendSpec {
            id: Some(id.to_owned()),
            label: label.to_owned(),
            weight: 1,
            max_connections: None,
            drain: false,
        };
        let backend = Arc::new(Backend::new(&spec, None));
        backend.note_removed(true);
        let lease = backend.acquire_arrived();
        removed.push(backend);
        lease
    }

    fn removed(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Backend>>> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a reload or a discovered set.
    ///
    /// A backend whose id and label are unchanged stays the same value: health, counters and connections go on,
    /// weight and limit are those of the new spec. A person's [`drain`](Self::drain) holds until the spec itself
    /// says something else than before. One that is gone lives as long as its leases.
    pub fn replace(&self, settings: UpstreamSettings, specs: Vec<BackendSpec>) {
        let now = Instant::now();
        {
            let _one_at_a_time = self.lock();
            let mut removed = self.removed();
            // One that comes back while it has connections is the same.
            let mut before = self.backends();
            before.append(&mut removed);
            let default_max = settings.max_connections_per_backend;
            let after: Vec<Arc<Backend>> = specs
                .iter()
                .map(|spec| keep_or_make(&before, spec, default_max, now))
                .collect();
            if settings.health_check.is_none() {
                after.iter().for_each(|backend| backend.forget_checks());
            }
            self.settings.store(Arc::new(settings));
            let stays = |one: &Arc<Backend>| after.iter().any(|kept| Arc::ptr_eq(kept, one));
            for backend in &before {
                backend.note_removed(!stays(backend));
            }
            removed.extend(
                before
                    .into_iter()
                    .filter(|one| !stays(one) && one.active() > 0),
            );
            drop(removed);
            self.backends.store(Arc::new(after));
        }
        self.publish(now);
    }

    /// Takes a backend out of (or back into) service; its connections go on. False: no such backend.
    pub fn drain(&self, id: &str, on: bool) -> bool {
        let found = self.find(id);
        if let Some(backend) = &found {
            backend.set_draining(on);
            self.publish(Instant::now());
        }
        found.is_some()
    }

    /// A connection was established.
    pub fn connect_succeeded(&self, backend: &Backend, _now: Instant) {
        backend.note_connected();
    }

    /// A connect failed: after some in a row the backend is ejected, if enough others remain.
    pub fn connect_failed(&self, backend: &Backend, now: Instant) {
        let settings = self.settings.load();
        if backend.note_connect_failed(&settings.ejection) {
            self.eject(backend, Cause::Connects, &settings.ejection, now);
        }
    }

    /// The backend answered as it should, where requests are seen.
    pub fn response_succeeded(&self, backend: &Backend) {
        backend.note_answered();
    }

    /// The backend's answer says that it is broken: after some in a row it is ejected, if enough others remain.
    pub fn response_failed(&self, backend: &Backend, now: Instant) {
        let settings = self.settings.load();
        if backend.note_response_failed(&settings.ejection) {
            self.eject(backend, Cause::Responses, &settings.ejection, now);
        }
    }

    fn eject(&self, backend: &Backend, cause: Cause, ejection: &Ejection, now: Instant) {
        let percent = usize::try_from(ejection.share_max_percent).unwrap_or(100);
        let is_beyond =
            |ejected: usize, all: usize| (ejected + 1).saturating_mul(100) > all * percent;
        // A look without a lock: when everything fails, this is asked thousands of times a second.
        if is_beyond(self.selection.load().ejected(), self.backends.load().len()) {
            return;
        }
        {
            let _one_at_a_time = self.lock();
            let backends = self.backends.load();
            if backend.condition().is_ejected(now) {
                return;
            }
            let ejected = backends
                .iter()
                .filter(|other| other.condition().is_ejected(now))
                .count();
            if is_beyond(ejected, backends.len()) {
                return;
            }
            backend.eject(cause, ejection, now);
        }
        tracing::warn!(
            upstream = self.name,
            backend = backend.label(),
            "ejected: {}",
            cause.as_str()
        );
        self.publish(now);
    }

    /// Ends ejections whose time is over and takes slow starts further; to be called some times a second.
    pub fn tick(&self, now: Instant) {
        let mut changed = false;
        for backend in self.backends.load().iter() {
            changed |= backend.forgive(now);
        }
        if changed
            || self
                .selection
                .load()
                .is_outgrown(&self.settings.load(), now)
        {
            self.publish(now);
        }
    }

    /// The result of an active check.
    pub fn probe_result(&self, id: &str, outcome: &ProbeOutcome, now: Instant) {
        let Some(backend) = self.find(id) else {
            return;
        };
        let settings = self.settings.load();
        let Some(check) = &settings.health_check else {
            return;
        };
        if backend.note_probe(outcome, (check.rise, check.fall), now) {
            let status = backend.status(now);
            match outcome {
                ProbeOutcome::Passed => {
                    tracing::info!(
                        upstream = self.name,
                        backend = backend.label(),
                        status,
                        "health changed"
                    );
                }
                ProbeOutcome::Failed(why) => {
                    tracing::warn!(
                        upstream = self.name,
                        backend = backend.label(),
                        status,
                        why,
                        "health changed"
                    );
                }
            }
            self.publish(now);
        }
    }

    /// To be called after an address was resolved.
    pub fn publish(&self, now: Instant) {
        let _one_at_a_time = self.lock();
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        let settings = self.settings.load();
        let selection = Selection::new(&settings, &self.backends.load(), now, version);
        self.selection.store(Arc::new(selection));
    }

    fn find(&self, id: &str) -> Option<Arc<Backend>> {
        let backends = self.backends.load();
        backends.iter().find(|backend| backend.id() == id).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ()> {
        self.publishing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep_or_make(
    before: &[Arc<Backend>],
    spec: &BackendSpec,
    default_max: Option<usize>,
    now: Instant,
) -> Arc<Backend> {
    let id = spec.id.as_ref().unwrap_or(&spec.label);
    let unchanged = before
        .iter()
        .find(|backend| backend.id() == id && backend.label() == spec.label);
    match unchanged {
        Some(backend) => {
            backend.adopt(spec, default_max);
            Arc::clone(backend)
        }
        None => {
            let backend = Backend::new(spec, default_max);
            // With nobody beside it there is nobody to be slower than: the first set discovered is a start.
            if !before.is_empty() {
                backend.begin_ramp(now);
            }
            Arc::new(backend)
        }
    }
}

#[cfg(test)]
mod tests;
