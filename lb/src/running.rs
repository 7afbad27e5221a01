//! What is in force now, for everybody who only looks: admin routes, metrics, a later supervisor.
//!
//! Room  shared state of the control thread; the data path never comes here.
//! Holds a reader sees one configuration as a whole, never half of a reload.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use dataplane::admin::ADMIN_LISTENER;
use dataplane::discovery::Discovery;
use dataplane::listeners::{self, Group};
use dataplane::metrics::Exposition;
use dataplane::moving::{Frozen, LiveConnections};
use dataplane::posture::{Posture, PostureCell};
use dataplane::upstreams::{ByName, backend_counts};
use handoff::Listeners;
use handoff::passage::{Arrived, Fate, Item};
use lb::moving::{ArrivedConnection, FrozenConnection};
use lb::shard::ShardPool;

use crate::config::Config;

/// One configuration with everything that belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) config: Config,
    /// Every listener's sockets, the admin listener's included.
    pub(crate) groups: Vec<Group>,
    pub(crate) upstreams: ByName,
    pub(crate) discovery: Option<Arc<Discovery>>,
}

impl Running {
    /// Where a listener is really bound.
    pub(crate) fn bound(&self, name: &str) -> Option<SocketAddr> {
        let group = self
            .groups
            .iter()
            .find(|group| group.name().as_str() == name);
        group.map(Group::address)
    }

    /// Where the admin server is really bound.
    pub(crate) fn admin(&self) -> Option<SocketAddr> {
        self.bound(ADMIN_LISTENER)
    }

    /// How many backends take connections, and how many there are.
    pub(crate) fn backend_counts(&self, now: Instant) -> (u64, u64) {
        backend_counts(&self.upstreams, now)
    }

    /// True when an upstream that a listener uses has nobody to send a connection to.
    pub(crate) fn is_starved(&self, now: Instant) -> bool {
        self.config.listeners.iter().any(|listener| {
            self.upstreams
                .get(&listener.upstream)
                .is_none_or(|upstream| {
                    upstream
                        .backends()
                        .iter()
                        .all(|backend| !backend.is_fit(now))
                })
        })
    }
}

/// The handle of everybody who looks.
#[derive(Debug)]
pub(crate) struct Shared {
    running: RwLock<Arc<Running>>,
    posture: PostureCell,
    pub(crate) pool: ShardPool,
    /// Given by the supervisor; 0 without one.
    pub(crate) generation: u64,
    pub(crate) started: Instant,
    pub(crate) exposition: Exposition,
}

impl Shared {
    pub(crate) fn new(
        running: Running,
        pool: ShardPool,
        generation: u64,
        exposition: Exposition,
    ) -> Self {
        Self {
            running: RwLock::new(Arc::new(running)),
            posture: PostureCell::default(),
            pool,
            generation,
            started: Instant::now(),
            exposition,
        }
    }

    /// What is in force now.
    pub(crate) fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another configuration in force for those who look.
    pub(crate) fn replace(&self, running: Running) {
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(running);
    }

    pub(crate) fn posture(&self) -> Posture {
        self.posture.get()
    }

    pub(crate) fn set_posture(&self, posture: Posture) {
        self.posture.set(posture);
    }

    /// Duplicates of every listener held.
    pub(crate) fn held(&self) -> io::Result<Listeners> {
        listeners::duplicates(&self.running().groups)
    }
}

/// The shards answer within a turn, so nothing here waits long.
impl LiveConnections for Shared {
    type Frozen = FrozenConnection;
    type Prepared = ArrivedConnection;

    fn held(&self) -> u64 {
        self.pool.totals().active
    }

    async fn freeze(&self, descriptors: usize) -> Frozen<FrozenConnection> {
        self.pool.freeze_some(descriptors)
    }

    fn item(frozen: &FrozenConnection) -> Item<'_> {
        frozen.item()
    }

    async fn settle(&self, fates: Vec<(FrozenConnection, Fate)>) {
        self.pool.settle_fates(fates);
    }

    async fn kept(&self) -> BTreeMap<String, u64> {
        self.pool.kept_here()
    }

    fn prepare(&self, arrived: Arrived) -> Result<ArrivedConnection, String> {
        let running = self.running();
        self.pool
            .prepare(arrived, |name| running.upstreams.get(name).map(Arc::clone))
    }

    async fn adopt(&self, prepared: Vec<ArrivedConnection>) {
        self.pool.adopt_arrived(prepared);
    }
}
