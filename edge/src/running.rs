//! What is in force now, for everybody who only looks: admin routes, metrics, a later supervisor.
//!
//! Room  shared state of the control thread; the data path never comes here.
//! Holds a reader sees one configuration as a whole, never half of a reload.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use dataplane::admin::ADMIN_LISTENER;
use dataplane::discovery::Discovery;
use dataplane::listeners::{self, Group};
use dataplane::metrics::Exposition;
use dataplane::moving::{Frozen, LiveConnections};
use dataplane::posture::{Posture, PostureCell};
use dataplane::upstreams::ByName;
use edge::moving::{ArrivedConnection, FrozenConnection};
use edge::settings::Settings;
use edge::site::Site;
use edge::workers::Workers;
use handoff::Listeners;
use handoff::passage::{Arrived, Fate, Item};

/// One configuration with everything that belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) site: Arc<Site>,
    /// Every listener's sockets, the admin listener's included.
    pub(crate) groups: Vec<Group>,
    pub(crate) upstreams: ByName,
    pub(crate) discovery: Option<Arc<Discovery>>,
}

impl Running {
    pub(crate) fn settings(&self) -> &Settings {
        &self.site.settings
    }

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

    /// True when there are upstreams and none of them has anybody to send a request to.
    pub(crate) fn is_starved(&self, now: Instant) -> bool {
        let is_fit = |upstream: &Arc<dataplane::upstream::Upstream>| {
            upstream
                .backends()
                .iter()
                .any(|backend| backend.is_fit(now))
        };
        !self.upstreams.is_empty() && !self.upstreams.values().any(is_fit)
    }
}

/// The handle of everybody who looks.
#[derive(Debug)]
pub(crate) struct Shared {
    running: RwLock<Arc<Running>>,
    posture: PostureCell,
    pub(crate) workers: Workers,
    /// Given by the supervisor; 0 without one.
    pub(crate) generation: u64,
    pub(crate) started: Instant,
    pub(crate) exposition: Exposition,
}

impl Shared {
    pub(crate) fn new(
        running: Running,
        workers: Workers,
        generation: u64,
        exposition: Exposition,
    ) -> Self {
        Self {
            running: RwLock::new(Arc::new(running)),
            posture: PostureCell::default(),
            workers,
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

    /// True when a person wants this host out of the rotation (DRAIN_MODE), or it drains by itself.
    pub(crate) fn says_draining(&self) -> bool {
        let asked = self.workers.shared().drain_mode.load(Ordering::Relaxed);
        asked || self.posture() == Posture::Draining
    }

    /// The clock of the rate limiter.
    pub(crate) fn since_start(&self) -> std::time::Duration {
        self.workers.shared().begun.elapsed()
    }

    /// Duplicates of every listener held.
    pub(crate) fn held(&self) -> io::Result<Listeners> {
        listeners::duplicates(&self.running().groups)
    }
}

/// The workers answer within a turn, so nothing here waits long.
impl LiveConnections for Shared {
    type Frozen = FrozenConnection;
    type Prepared = ArrivedConnection;

    fn held(&self) -> u64 {
        self.workers.held()
    }

    async fn freeze(&self, descriptors: usize) -> Frozen<FrozenConnection> {
        self.workers.freeze(descriptors)
    }

    fn item(frozen: &FrozenConnection) -> Item<'_> {
        frozen.item()
    }

    async fn settle(&self, fates: Vec<(FrozenConnection, Fate)>) {
        self.workers.settle(fates);
    }

    async fn kept(&self) -> BTreeMap<String, u64> {
        self.workers.kept()
    }

    fn prepare(&self, arrived: Arrived) -> Result<ArrivedConnection, String> {
        ArrivedConnection::prepare(arrived, &self.running().site)
    }

    async fn adopt(&self, prepared: Vec<ArrivedConnection>) {
        self.workers.adopt(prepared);
    }
}

/// Milliseconds of the host's clock: what two processes agree upon.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
