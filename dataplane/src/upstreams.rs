//! The upstreams that run: each with its prober, and discovery for those whose backends the operator knows.
//!
//! Room  tasks of the control thread's runtime; they end when this is dropped.
//! Holds an upstream that a reload keeps is the same value: connections, health and counters go on; what was
//!       discovered stays in force while the operator is asked anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::discovery::{Discovered, Discovery, DiscoverySettings};
use crate::probe::Prober;
use crate::upstream::{BackendSpec, Upstream, UpstreamSettings};

/// One upstream as a configuration names it.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    pub name: String,
    pub settings: UpstreamSettings,
    /// Empty: they come from the operator.
    pub backends: Vec<BackendSpec>,
}

impl UpstreamConfig {
    /// True when its backends come from the operator.
    pub fn is_discovered(&self) -> bool {
        self.backends.is_empty()
    }
}

/// Every upstream by its name.
pub type ByName = BTreeMap<String, Arc<Upstream>>;

/// How many backends take connections, and how many there are.
pub fn backend_counts(upstreams: &ByName, now: Instant) -> (u64, u64) {
    let all = upstreams.values().flat_map(|upstream| upstream.backends());
    all.fold((0, 0), |(fit, total), backend| {
        (fit + u64::from(backend.is_fit(now)), total + 1)
    })
}

/// See the module.
#[derive(Debug, Default)]
pub struct Upstreams {
    by_name: BTreeMap<String, Probed>,
    discovery: Option<(DiscoverySettings, Arc<Discovery>)>,
    knowledge: Arc<Mutex<Knowledge>>,
}

#[derive(Debug)]
struct Probed {
    upstream: Arc<Upstream>,
    prober: Prober,
    is_discovered: bool,
}

/// What the operator said, and whom it concerns.
#[derive(Debug, Default)]
struct Knowledge {
    set: Vec<Discovered>,
    concerned: Vec<Arc<Upstream>>,
}

impl Upstreams {
    /// Starts checking and discovering; needs a tokio runtime.
    pub fn start(configured: &[UpstreamConfig], discovery: Option<&DiscoverySettings>) -> Self {
        let mut upstreams = Self::default();
        upstreams.reconfigure(configured, discovery);
        upstreams
    }

    /// Every upstream by name.
    pub fn all(&self) -> ByName {
        let pair =
            |(name, probed): (&String, &Probed)| (name.clone(), Arc::clone(&probed.upstream));
        self.by_name.iter().map(pair).collect()
    }

    /// The conversation with the operator, if there is one.
    pub fn discovery(&self) -> Option<Arc<Discovery>> {
        self.discovery
            .as_ref()
            .map(|(_, discovery)| Arc::clone(discovery))
    }

    /// Puts another configuration in force.
    pub fn reconfigure(
        &mut self,
        configured: &[UpstreamConfig],
        discovery: Option<&DiscoverySettings>,
    ) {
        let mut before = std::mem::take(&mut self.by_name);
        for upstream in configured {
            let is_discovered = upstream.is_discovered();
            let backends = if is_discovered {
                locked(&self.knowledge).backends_of(&upstream.name)
            } else {
                upstream.backends.clone()
            };
            let known = before.remove(&upstream.name);
            let probed = Probed::renewed(
                known,
                &upstream.name,
                upstream.settings.clone(),
                backends,
                is_discovered,
            );
            self.by_name.insert(upstream.name.clone(), probed);
        }
        let discovered = self.by_name.values().filter(|probed| probed.is_discovered);
        let concerned = discovered
            .map(|probed| Arc::clone(&probed.upstream))
            .collect();
        locked(&self.knowledge).concerned = concerned;
        self.rediscover(discovery);
    }

    /// Asks another operator, or goes on with the same one.
    fn rediscover(&mut self, wanted: Option<&DiscoverySettings>) {
        if self.discovery.as_ref().map(|(settings, _)| settings) == wanted {
            return;
        }
        self.discovery = wanted.map(|settings| {
            let knowledge = Arc::clone(&self.knowledge);
            let deliver = move |set| locked(&knowledge).learn(set);
            (
                settings.clone(),
                Arc::new(Discovery::start(settings.clone(), deliver)),
            )
        });
    }

    /// Waits until the operator answered and every backend was asked once, at most `within`.
    pub async fn first_checks(&mut self, within: Duration) {
        let all = async {
            if let Some(discovery) = self.discovery() {
                discovery.first_round().await;
                // These began with nobody to ask: their first round is that of the backends found now.
                for probed in self
                    .by_name
                    .values_mut()
                    .filter(|probed| probed.is_discovered)
                {
                    probed.prober = Prober::start(Arc::clone(&probed.upstream));
                }
            }
            for probed in self.by_name.values() {
                probed.prober.first_round().await;
            }
        };
        if tokio::time::timeout(within, all).await.is_err() {
            tracing::warn!(
                ?within,
                "not every backend answered its first check; starting without"
            );
        }
    }

    /// Ends ejections whose time is over.
    pub fn tick(&self, now: Instant) {
        for probed in self.by_name.values() {
            probed.upstream.tick(now);
        }
    }
}

impl Probed {
    fn renewed(
        known: Option<Self>,
        name: &str,
        settings: UpstreamSettings,
        backends: Vec<BackendSpec>,
        is_discovered: bool,
    ) -> Self {
        if let Some(known) = known {
            known.upstream.replace(settings, backends);
            return Self {
                is_discovered,
                ..known
            };
        }
        let upstream = Upstream::new(name.to_owned(), settings, backends);
        let prober = Prober::start(Arc::clone(&upstream));
        Self {
            upstream,
            prober,
            is_discovered,
        }
    }
}

impl Knowledge {
    /// A new set: every upstream that is concerned gets its backends.
    fn learn(&mut self, set: Vec<Discovered>) {
        self.set = set;
        for upstream in &self.concerned {
            let settings = UpstreamSettings::clone(&upstream.settings());
            upstream.replace(settings, self.backends_of(upstream.name()));
        }
    }

    /// A backend that names no upstream belongs to all that are discovered.
    fn backends_of(&self, upstream: &str) -> Vec<BackendSpec> {
        let belongs =
            |one: &&Discovered| one.upstream.as_deref().is_none_or(|name| name == upstream);
        self.set
            .iter()
            .filter(belongs)
            .map(|one| one.spec.clone())
            .collect()
    }
}

fn locked(knowledge: &Mutex<Knowledge>) -> MutexGuard<'_, Knowledge> {
    knowledge.lock().unwrap_or_else(PoisonError::into_inner)
}
