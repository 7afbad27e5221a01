//! The running edge proxy: workers, upstreams, certificates and the admin server put together from a
//! configuration.
//!
//! Room  the control thread; each method is one step of the process's life as `dataplane::life` tells it.
//! In    a configuration and the listeners somebody else held for us.
//! Out   accepting or not, statistics, what to offer to the supervisor and to the next generation.
//! Holds nothing is accepted before `accept`; a reload is all or nothing.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dataplane::admin::{ADMIN_LISTENER, Admin};
use dataplane::life::{Changes, Service, Start};
use dataplane::listeners::{self, BindError, Group, Wanted};
use dataplane::metrics::{Exposition, InstallError};
use dataplane::posture::Posture;
use dataplane::process::{Log, LogLevel};
use dataplane::settings::Mistakes;
use dataplane::upstreams::{UpstreamConfig, Upstreams, backend_counts};
use edge::end::End;
use edge::per_ip::PerIp;
use edge::policy::PolicyState;
use edge::settings::Settings as Config;
use edge::site::{self, Site};
use edge::tls::{Ticketer, WATCH_INTERVAL, Watcher};
use edge::totals::Count;
use edge::workers::Workers;
use handoff::held::Held;
use handoff::worker::{HeldFn, Identity, SelfTest, Stats};
use handoff::{ListenerName, Listeners, Share};

use crate::admin_api;
use crate::assemble::{self, Parts};
use crate::cli::{Settings, VERSION};
use crate::config;
use crate::metrics;
use crate::running::{Running, Shared, unix_ms};
use crate::self_tests;

/// How often a process that nobody supervises makes a new ticket key.
const TICKET_ROTATION: Duration = Duration::from_secs(12 * 3600);

/// How long a process that ends waits for its access log to be written.
const LOG_PATIENCE: Duration = Duration::from_secs(1);

/// Rate limit entries that travel to the next generation. Sized: 25 bytes each, 5 MiB.
const CARRIED_RATES_MAX: usize = 200_000;

/// Why the process cannot serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Metrics(#[from] InstallError),
    #[error("{}", .0.join("\n"))]
    Site(Vec<String>),
    #[error("TLS cannot start: {0}")]
    Tls(String),
    #[error("the data path cannot start: {0}")]
    Workers(#[from] io::Error),
}

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) shared: Arc<Shared>,
    upstreams: Upstreams,
    ticketer: Arc<Ticketer>,
    watcher: Watcher,
    admin: Option<Admin>,
    log: Log,
    fresh: Vec<ListenerName>,
    unclaimed: Vec<ListenerName>,
    workers: usize,
    /// `None`: the supervisor rotates.
    rotate_at: Option<Instant>,
}

impl Drop for Proxy {
    /// The access log has every request that this process answered.
    fn drop(&mut self) {
        let told = self.shared.workers.hand_over_log();
        if let (Ok(()), Some(log)) = (told, &self.shared.running().site.access_log) {
            log.settle(LOG_PATIENCE);
        }
    }
}

impl Proxy {
    /// Puts a site in force; every step but the last can be repeated with the one before.
    fn apply(&mut self, next: &Running) -> io::Result<()> {
        let workers = &self.shared.workers;
        let drain_mode = next.settings().drain_mode;
        let shared = workers.shared();
        shared.drain_mode.store(drain_mode, Ordering::Relaxed);
        // First the site: a socket's place in it must be known when its first connection comes.
        workers.shared().site.store(Arc::clone(&next.site));
        workers.listen(&sockets(next))?;
        self.apply_admin(next)?;
        self.log.set_level(next.settings().log_level);
        self.watcher = watch(&next.site);
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

    fn read_again(&mut self, settings: &Settings) -> Result<Changes, Vec<String>> {
        let before = self.shared.running();
        let mut config = Self::load(settings).map_err(|mistakes| mistakes.lines())?;
        keep_what_needs_a_restart(&mut config, before.settings());
        let claimed = listeners::claim(&wanted(&config), before.groups.clone())
            .map_err(|error| vec![error.to_string()])?;
        claimed.log_remarks();
        let is_fresh = |group: &&Group| claimed.fresh.contains(group.name());
        let fresh: Vec<Group> = claimed.groups.iter().filter(is_fresh).cloned().collect();
        let bound = listeners::duplicates(&fresh).map_err(|error| vec![error.to_string()])?;
        self.upstreams
            .reconfigure(&upstreams(&config), config.discovery.as_ref());
        let next = match self.assemble(config, claimed.groups, Some(&before.site)) {
            Ok(next) => next,
            Err(problems) => {
                self.go_back(&before);
                return Err(problems);
            }
        };
        if let Err(error) = self.apply(&next) {
            self.go_back(&before);
            return Err(vec![format!(
                "the configuration could not be put in force: {error}"
            )]);
        }
        if self.shared.posture() == Posture::Accepting {
            listeners::log_accepting(&fresh, Share::ALL);
        }
        Ok(Changes {
            bound,
            released: claimed.unclaimed,
        })
    }

    fn assemble(
        &self,
        config: Config,
        groups: Vec<Group>,
        before: Option<&Site>,
    ) -> Result<Running, Vec<String>> {
        let parts = Parts {
            groups: &groups,
            upstreams: &self.upstreams.all(),
            ticketer: &self.ticketer,
            before,
            workers: self.workers,
        };
        Ok(Running {
            site: Arc::new(assemble::site(config, &parts)?),
            groups,
            upstreams: self.upstreams.all(),
            discovery: self.upstreams.discovery(),
        })
    }

    fn go_back(&mut self, before: &Running) {
        let config = before.settings();
        self.upstreams
            .reconfigure(&upstreams(config), config.discovery.as_ref());
        if let Err(error) = self.apply(before) {
            tracing::error!(%error, "the configuration before the reload could not be restored; restart this process");
        }
    }
}

impl Service for Proxy {
    type Settings = Settings;
    type Config = Config;
    type StartError = StartError;
    type Live = Shared;

    fn identity() -> Identity {
        Identity {
            service: "edge-proxy".to_owned(),
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

    /// Claims or binds every listener and starts the workers; accepts nothing.
    fn start(config: Config, start: Start) -> Result<Self, StartError> {
        let (available, refused) = listeners::identify(start.handed_over);
        for error in refused {
            tracing::warn!("{error}");
        }
        let claimed = listeners::claim(&wanted(&config), available)?;
        claimed.log_remarks();
        let count = match config.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        let ticketer = Ticketer::random().map_err(|error| StartError::Tls(error.to_string()))?;
        let running_upstreams = Upstreams::start(&upstreams(&config), config.discovery.as_ref());
        let entries = config.limits.rate_limit_entries;
        let by_name = running_upstreams.all();
        let parts = Parts {
            groups: &claimed.groups,
            upstreams: &by_name,
            ticketer: &ticketer,
            before: None,
            workers: count,
        };
        let site = Arc::new(assemble::site(config, &parts).map_err(StartError::Site)?);
        let shared = site::Shared {
            site: Arc::clone(&site).into(),
            begun: Instant::now(),
            state: PolicyState::new(entries, fastrand::u128(..)),
            open: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            drain_mode: AtomicBool::new(false),
            per_ip: PerIp::default(),
        };
        let workers = Workers::start(count, Arc::new(shared))?;
        let running = Running {
            site: Arc::clone(&site),
            groups: claimed.groups,
            upstreams: by_name,
            discovery: running_upstreams.discovery(),
        };
        let exposition = Exposition::install()?;
        metrics::describe();
        let shared = Shared::new(running.clone(), workers, start.generation, exposition);
        let mut proxy = Self {
            shared: Arc::new(shared),
            upstreams: running_upstreams,
            ticketer,
            watcher: watch(&site),
            admin: None,
            log: start.log,
            fresh: claimed.fresh,
            unclaimed: claimed.unclaimed,
            workers: count,
            rotate_at: Some(Instant::now() + TICKET_ROTATION),
        };
        proxy.apply(&running)?;
        Ok(proxy)
    }

    fn to_offer(&self) -> io::Result<Listeners> {
        let running = self.shared.running();
        let is_fresh = |name: &ListenerName| self.fresh.contains(name);
        listeners::duplicates(running.groups.iter().filter(|group| is_fresh(group.name())))
    }

    fn unclaimed(&self) -> Vec<ListenerName> {
        self.unclaimed.clone()
    }

    fn held(&self) -> HeldFn {
        let shared = Arc::clone(&self.shared);
        Box::new(move || shared.held())
    }

    async fn first_checks(&mut self, within: Duration) {
        self.upstreams.first_checks(within).await;
    }

    async fn accept(&mut self, share: Share) -> io::Result<()> {
        self.shared.workers.accept(share)?;
        Admin::take_share(self.admin.as_mut(), share).await?;
        self.shared.set_posture(Posture::of(share));
        listeners::log_accepting(&self.shared.running().groups, share);
        Ok(())
    }

    fn self_tests(&self) -> Vec<SelfTest> {
        self_tests::of(&self.shared.running())
    }

    fn serve(&mut self, listener: &ListenerName, connection: OwnedFd) -> io::Result<()> {
        if let Some(admin) = &self.admin
            && listener.as_str() == ADMIN_LISTENER
        {
            return admin.serve(connection);
        }
        let running = self.shared.running();
        let mut listeners = running.settings().listeners.iter();
        let place = listeners.position(|known| known.name == *listener);
        let place = place.ok_or(io::ErrorKind::NotFound)?;
        self.shared.workers.serve(place, connection)
    }

    /// Stops accepting for good and closes every listener here. Without a supervisor the admin server goes on:
    /// it says "draining".
    async fn begin_drain(&mut self, within: Duration, supervised: bool) -> io::Result<()> {
        self.shared.workers.begin_drain(Instant::now() + within)?;
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

    fn held_and_cut(&self) -> (u64, u64) {
        let totals = self.shared.workers.totals();
        (self.shared.workers.held(), totals.ended(End::CutByDrain))
    }

    fn moved_away(&self) -> u64 {
        self.shared.workers.totals().get(Count::Moved)
    }

    fn live_connections(&self) -> Option<Arc<Shared>> {
        Some(Arc::clone(&self.shared))
    }

    fn survey(&self) -> Option<Held> {
        self.shared.workers.survey()
    }

    fn drain_timeout(&self) -> Duration {
        self.shared.running().settings().drain_timeout
    }

    fn reload(&mut self, settings: &Settings) -> Result<Changes, Vec<String>> {
        self.read_again(settings)
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.upstreams.tick(now);
        if self.rotate_at.is_some_and(|at| now >= at) {
            self.rotate_at = Some(now + TICKET_ROTATION);
            if let Err(error) = self.ticketer.rotate() {
                tracing::error!(%error, "ticket keys were not rotated");
            }
        }
    }

    fn stats(&self) -> Stats {
        metrics::publish(&self.shared);
        self.shared.exposition.upkeep();
        let totals = self.shared.workers.totals();
        let running = self.shared.running();
        let (healthy, total) = backend_counts(&running.upstreams, Instant::now());
        let posture = self.shared.posture().as_str();
        Stats {
            connections: totals.active(),
            accepted_total: totals.get(Count::Accepted),
            errors_total: totals.errors(),
            requests_total: totals.get(Count::Ended),
            failed_total: totals.failed(),
            latency: totals.latency(),
            bytes_total: totals.get(Count::BytesFromClients) + totals.get(Count::BytesToClients),
            healthy_backends: healthy,
            total_backends: total,
            status: format!(
                "{posture}; {} connections; {} requests; {healthy} of {total} backends healthy",
                totals.active(),
                totals.requests(),
            ),
            held: None,
        }
    }

    /// Who has used up how much of its rate.
    fn export_state(&self) -> Vec<u8> {
        let rates = &self.shared.workers.shared().state.rates;
        rates.export(self.shared.since_start(), unix_ms(), CARRIED_RATES_MAX)
    }

    fn import_state(&mut self, state: Vec<u8>) {
        let rates = &self.shared.workers.shared().state.rates;
        let entries = rates.import(&state, self.shared.since_start(), unix_ms());
        tracing::info!(entries, "rate limits go on from the incumbent's");
    }

    fn install_ticket_keys(&mut self, newest_first: &[[u8; 32]]) {
        self.ticketer.install(newest_first);
        self.rotate_at = None;
    }
}

fn watch(site: &Site) -> Watcher {
    let tls = site.listeners.iter().filter_map(|l| l.tls.as_ref());
    let stores = tls.map(|tls| Arc::clone(&tls.store)).collect();
    Watcher::start(stores, WATCH_INTERVAL)
}

/// Every listener's sockets, in the order of the configuration.
fn sockets(running: &Running) -> Vec<Vec<Arc<OwnedFd>>> {
    let listeners = running.settings().listeners.iter();
    let of = |name: &ListenerName| running.groups.iter().find(|group| group.name() == name);
    listeners
        .map(|listener| of(&listener.name).map_or_else(Vec::new, |group| group.sockets().to_vec()))
        .collect()
}

fn upstreams(config: &Config) -> Vec<UpstreamConfig> {
    let one = |upstream: &edge::settings::Upstream| UpstreamConfig {
        name: upstream.name.clone(),
        settings: upstream.balance.clone(),
        backends: upstream.backends.clone(),
    };
    config.upstreams.iter().map(one).collect()
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

/// Threads, group sizes and tables are made once; says so and goes on with those that run.
fn keep_what_needs_a_restart(config: &mut Config, before: &Config) {
    if config.workers != before.workers {
        tracing::warn!(
            running = before.workers,
            configured = config.workers,
            "`workers` changes with the next upgrade or restart"
        );
        config.workers = before.workers;
    }
    if config.limits.rate_limit_entries != before.limits.rate_limit_entries {
        tracing::warn!("`limits.rate_limit_entries` changes with the next upgrade or restart");
        config.limits.rate_limit_entries = before.limits.rate_limit_entries;
    }
    for listener in &mut config.listeners {
        let known = before
            .listeners
            .iter()
            .find(|known| known.name == listener.name);
        if let Some(known) = known.filter(|known| known.sockets != listener.sockets) {
            tracing::warn!(
                listener = %listener.name,
                running = known.sockets,
                configured = listener.sockets,
                "`sockets` changes with the next restart"
            );
            listener.sockets = known.sockets;
        }
    }
}
