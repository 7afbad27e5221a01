//! What is in force now, for everybody who only looks: admin routes, metrics, a later supervisor.
//!
//! Room  shared state of the control thread; the data path never comes here.
//! Holds a reader sees one configuration as a whole, never half of a reload.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use dataplane::admin::ADMIN_LISTENER;
use dataplane::backend::Backend;
use dataplane::discovery::Discovery;
use dataplane::listeners::{self, Group};
use dataplane::metrics::Exposition;
use dataplane::upstream::Upstream;
use handoff::Listeners;
use lb::shard::ShardPool;

use crate::config::Config;

/// One configuration with everything that belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) config: Config,
    /// Every listener's sockets, the admin listener's included.
    pub(crate) groups: Vec<Group>,
    pub(crate) upstreams: BTreeMap<String, Arc<Upstream>>,
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
        let all = self
            .upstreams
            .values()
            .flat_map(|upstream| upstream.backends());
        all.fold((0, 0), |(fit, total), backend| {
            (fit + u64::from(is_fit(&backend, now)), total + 1)
        })
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
                        .all(|backend| !is_fit(backend, now))
                })
        })
    }
}

/// True when the backend takes new connections.
pub(crate) fn is_fit(backend: &Backend, now: Instant) -> bool {
    backend.is_healthy(now) && !backend.is_draining()
}

/// What this process does with its listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Posture {
    /// Ready, never accepted yet.
    Standby,
    Accepting,
    /// Stopped accepting, may begin again.
    Paused,
    /// Stopped accepting for good.
    Draining,
}

impl Posture {
    const ALL: [Self; 4] = [Self::Standby, Self::Accepting, Self::Paused, Self::Draining];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Accepting => "accepting",
            Self::Paused => "paused",
            Self::Draining => "draining",
        }
    }
}

/// The handle of everybody who looks.
#[derive(Debug)]
pub(crate) struct Shared {
    running: RwLock<Arc<Running>>,
    posture: AtomicU8,
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
            posture: AtomicU8::new(Posture::Standby as u8),
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
        let number = usize::from(self.posture.load(Ordering::Relaxed));
        Posture::ALL
            .get(number)
            .copied()
            .unwrap_or(Posture::Standby)
    }

    pub(crate) fn set_posture(&self, posture: Posture) {
        self.posture.store(posture as u8, Ordering::Relaxed);
    }

    /// Duplicates of every listener held.
    pub(crate) fn held(&self) -> io::Result<Listeners> {
        listeners::duplicates(&self.running().groups)
    }
}
