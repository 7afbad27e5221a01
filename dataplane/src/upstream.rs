//! An upstream: a named group of backends, and who of them may be chosen right now.
//!
//! Room  turns what happens (checks, connects, reloads, a person's word) into a published [`Selection`].
//! Holds readers never wait: a selection is swapped whole; a backend that is unchanged by a reload keeps
//!       its health, its counters and its connections.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::backend::Backend;
use crate::balance::{Algorithm, Selection};
pub use crate::health::Ejection;
use crate::health::{HealthCheck, ProbeOutcome};
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
    /// When a backend that does not connect is left alone.
    pub ejection: Ejection,
    /// Below this share of healthy backends, in percent, all of them are used: a wrong check or a wave of
    /// ejections must not become an outage. 0: only when none is healthy.
    pub panic_threshold_percent: u32,
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
        let selection = Selection::new(
            settings.algorithm,
            &backends,
            settings.panic_threshold_percent,
            Instant::now(),
            0,
        );
        Arc::new(Self {
            name,
            settings: ArcSwap::from_pointee(settings),
            backends: ArcSwap::from_pointee(backends),
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

    /// Applies a reload or a discovered set.
    ///
    /// A backend whose id and label are unchanged stays the same value: health, counters and connections go on,
    /// weight and limit are those of the new spec. A person's [`drain`](Self::drain) holds until the spec itself
    /// says something else than before. One that is gone lives as long as its leases.
    pub fn replace(&self, settings: UpstreamSettings, specs: Vec<BackendSpec>) {
        {
            let _one_at_a_time = self.lock();
            let before = self.backends.load_full();
            let default_max = settings.max_connections_per_backend;
            let after: Vec<Arc<Backend>> = specs
                .iter()
                .map(|spec| keep_or_make(&before, spec, default_max))
                .collect();
            if settings.health_check.is_none() {
                after.iter().for_each(|backend| backend.forget_checks());
            }
            self.settings.store(Arc::new(settings));
            self.backends.store(Arc::new(after));
        }
        self.publish(Instant::now());
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
            self.eject(backend, &settings.ejection, now, "it does not connect");
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
            self.eject(backend, &settings.ejection, now, "its answers are errors");
        }
    }

    fn eject(&self, backend: &Backend, ejection: &Ejection, now: Instant, why: &str) {
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
            let percent = usize::try_from(ejection.share_max_percent).unwrap_or(100);
            if (ejected + 1) * 100 > backends.len() * percent {
                return;
            }
            backend.eject(ejection, now);
        }
        tracing::warn!(
            upstream = self.name,
            backend = backend.label(),
            "ejected: {why}"
        );
        self.publish(now);
    }

    /// Ends ejections whose time is over; to be called some times a second.
    pub fn tick(&self, now: Instant) {
        let mut changed = false;
        for backend in self.backends.load().iter() {
            changed |= backend.forgive(now);
        }
        if changed {
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
        if backend.note_probe(outcome, check.rise, check.fall) {
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
        let selection = Selection::new(
            settings.algorithm,
            &self.backends.load(),
            settings.panic_threshold_percent,
            now,
            version,
        );
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
        None => Arc::new(Backend::new(spec, default_max)),
    }
}

#[cfg(test)]
mod tests;
