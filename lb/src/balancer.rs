//! The running load balancer: shards, upstreams and the admin server put together from a configuration.
//!
//! Room  the control thread; each method is one step of the process's life as `dataplane::life` tells it.
//! In    a configuration and the listeners somebody else held for us.
//! Out   accepting or not, statistics, what to offer to the supervisor.
//! Holds nothing is accepted before `accept`; at start and at a reload the same `apply` puts a
//!       configuration in force.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::admin::{ADMIN_LISTENER, Admin};
use dataplane::life::{Changes, Service, Start};
use dataplane::listeners::{self, BindError, Group, Wanted};
use dataplane::metrics::{Exposition, InstallError};
use dataplane::posture::Posture;
use dataplane::process::{Log, LogLevel};
use dataplane::settings::Mistakes;
use dataplane::upstreams::Upstreams;
use handoff::held::Held;
use handoff::worker::{HeldFn, Identity, SelfTest, Stats};
use handoff::{ListenerName, Listeners, Share};
use lb::shard::{ListenerSettings, ShardPool};
use lb::totals::End;

use crate::admin_api;
use crate::cli::{Settings, VERSION};
use crate::config::{self, Config};
use crate::metrics;
use crate::running::{Running, Shared};
use crate::self_tests;

/// Why the process cannot serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Metrics(#[from] InstallError),
    #[error("the data path cannot start: {0}")]
    Shards(#[from] io::Error),
}

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) upstreams: Upstreams,
    pub(crate) admin: Option<Admin>,
    pub(crate) log: Log,
    fresh: Vec<ListenerName>,
    unclaimed: Vec<ListenerName>,
}

impl Balancer {
    /// Puts listeners, timeouts and the admin server in force. Repeating it is harmless.
    pub(crate) fn apply(&mut self, next: &Running) -> io::Result<()> {
        let pool = &self.shared.pool;
        pool.set_timeouts(next.config.timeouts)?;
        for listener in &next.config.listeners {
            let group = next
                .groups
                .iter()
                .find(|group| *group.name() == listener.name);
            let upstream = next.upstreams.get(&listener.upstream);
            if let (Some(group), Some(upstream)) = (group, upstream) {
                let settings = ListenerSettings {
                    name: listener.name.to_string(),
                    upstream: Arc::clone(upstream),
                    proxy_protocol_in: listener.proxy_protocol,
                    trusted: listener.trusted.clone(),
                    max_connections: listener.max_connections,
                };
                pool.set_listener(settings, group.sockets().to_vec())?;
            }
        }
        let kept: BTreeSet<&ListenerName> = next.config.listeners.iter().map(|l| &l.name).collect();
        for group in &self.shared.running().groups {
            if !kept.contains(group.name()) {
                pool.remove_listener(group.name().as_str())?;
            }
        }
        self.apply_admin(next)?;
        self.log.set_level(next.config.log_level);
        self.shared.replace(next.clone());
        Ok(())
    }

    fn apply_admin(&mut self, next: &Running) -> io::Result<()> {
        let is_admins = |group: &&Group| group.name().as_str() == ADMIN_LISTENER;
        let group = next.groups.iter().find(is_admins);
        let accepting = self.shared.posture() == Posture::Accepting;
        let routes = || admin_api::routes(&self.shared);
        Admin::apply(&mut self.admin, group, accepting, routes)
    }
}

impl Service for Balancer {
    type Settings = Settings;
    type Config = Config;
    type StartError = StartError;
    type Live = Shared;

    fn identity() -> Identity {
        Identity {
            service: "load-balancer".to_owned(),
            version: VERSION.to_owned(),
            moves: true,
        }
    }

    fn load(settings: &Settings) -> Result<Config, Mistakes> {
        config::load(settings, &config::environment)
    }

    fn log_level(config: &Config) -> LogLevel {
        config.log_level
    }

    /// Claims or binds every listener and starts the shards; accepts nothing.
    fn start(config: Config, start: Start) -> Result<Self, StartError> {
        let Start {
            handed_over,
            generation,
            log,
        } = start;
        let (available, refused) = listeners::identify(handed_over);
        for error in refused {
            tracing::warn!("{error}");
        }
        let claimed = listeners::claim(&wanted(&config), available)?;
        claimed.log_remarks();
        let pool = ShardPool::start(shards(&config), config.timeouts)?;
        let upstreams = Upstreams::start(&config.upstreams, config.discovery.as_ref());
        let running = Running {
            config,
            groups: claimed.groups,
            upstreams: upstreams.all(),
            discovery: upstreams.discovery(),
        };
        let exposition = Exposition::install()?;
        metrics::describe();
        let shared = Shared::new(running.clone(), pool, generation, exposition);
        let mut balancer = Self {
            shared: Arc::new(shared),
            upstreams,
            admin: None,
            log,
            fresh: claimed.fresh,
            unclaimed: claimed.unclaimed,
        };
        balancer.apply(&running)?;
        Ok(balancer)
    }

    /// What the supervisor does not hold yet.
    fn to_offer(&self) -> io::Result<Listeners> {
        let running = self.shared.running();
        let is_fresh = |name: &ListenerName| self.fresh.contains(name);
        listeners::duplicates(running.groups.iter().filter(|group| is_fresh(group.name())))
    }

    /// What was handed over and nobody wants.
    fn unclaimed(&self) -> Vec<ListenerName> {
        self.unclaimed.clone()
    }

    /// Answers a later supervisor.
    fn held(&self) -> HeldFn {
        let shared = Arc::clone(&self.shared);
        Box::new(move || shared.held())
    }

    async fn first_checks(&mut self, within: Duration) {
        self.upstreams.first_checks(within).await;
    }

    /// Accepts on this part of the service listeners' groups; the admin listener cannot be divided.
    async fn accept(&mut self, share: Share) -> io::Result<()> {
        self.shared.pool.accept(share)?;
        Admin::take_share(self.admin.as_mut(), share).await?;
        self.shared.set_posture(Posture::of(share));
        listeners::log_accepting(&self.shared.running().groups, share);
        Ok(())
    }

    fn self_tests(&self) -> Vec<SelfTest> {
        self_tests::of(&self.shared.running())
    }

    fn serve(&mut self, listener: &ListenerName, connection: OwnedFd) -> io::Result<()> {
        match &self.admin {
            Some(admin) if listener.as_str() == ADMIN_LISTENER => admin.serve(connection),
            _ => self.shared.pool.serve(listener.as_str(), connection),
        }
    }

    /// Stops accepting for good and closes every listener here: whoever accepts next has its own
    /// descriptors, and a listener that nobody wants any more must not live on in a draining process. Without
    /// a supervisor the admin server goes on: it says "draining".
    async fn begin_drain(&mut self, within: Duration, supervised: bool) -> io::Result<()> {
        self.shared.pool.begin_drain(Instant::now() + within)?;
        self.shared.set_posture(Posture::Draining);
        if supervised && let Some(mut admin) = self.admin.take() {
            admin.pause().await;
        }
        let mut running = Running::clone(&self.shared.running());
        running
            .groups
            .retain(|group| !supervised && group.name().as_str() == ADMIN_LISTENER);
        self.shared.replace(running);
        Ok(())
    }

    /// Connections held now, and those cut by a drain.
    fn held_and_cut(&self) -> (u64, u64) {
        let totals = self.shared.pool.totals();
        (totals.active, totals.ended(End::CutByDrain))
    }

    fn moved_away(&self) -> u64 {
        self.shared.pool.totals().ended(End::Moved)
    }

    fn live_connections(&self) -> Option<Arc<Shared>> {
        Some(Arc::clone(&self.shared))
    }

    fn survey(&self) -> Option<Held> {
        self.shared.pool.survey()
    }

    fn drain_timeout(&self) -> Duration {
        self.shared.running().config.drain_timeout
    }

    fn reload(&mut self, settings: &Settings) -> Result<Changes, Vec<String>> {
        self.read_again(settings)
    }

    /// A quarter of a second has passed.
    fn tick(&mut self) {
        self.upstreams.tick(Instant::now());
    }

    /// A second has passed: publishes metrics and returns the numbers for the supervisor.
    fn stats(&self) -> Stats {
        metrics::publish(&self.shared);
        self.shared.exposition.upkeep();
        let totals = self.shared.pool.totals();
        let bytes_total = totals.bytes();
        let (healthy, total) = self.shared.running().backend_counts(Instant::now());
        let posture = self.shared.posture().as_str();
        Stats {
            connections: totals.active,
            accepted_total: totals.accepted,
            errors_total: totals.errors(),
            requests_total: totals.connect_time.count() + totals.errors(),
            failed_total: totals.errors(),
            latency: totals.latency,
            bytes_total,
            healthy_backends: healthy,
            total_backends: total,
            status: format!(
                "{posture}; {} connections; {healthy} of {total} backends healthy",
                totals.active
            ),
            held: None,
        }
    }
}

/// The listeners a configuration wants, the admin listener among them.
pub(crate) fn wanted(config: &Config) -> Vec<Wanted> {
    let admin = config.admin.and_then(Wanted::admin);
    let services = config.listeners.iter().map(|listener| Wanted {
        name: listener.name.clone(),
        address: listener.address,
        members: listener.sockets,
    });
    services.chain(admin).collect()
}

fn shards(config: &Config) -> usize {
    match config.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}
