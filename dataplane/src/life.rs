//! The life of the process, on one screen.
//!
//! ```text
//!   listeners: adopt or bind ─▶ offer ─▶ first health checks ─▶ ready ─▶ accept ⇄ pause ─▶ drain ─▶ exit
//! ```
//!
//! Room  the order of things; what is served is a [`Service`], each other deed is in `entry` and `orders`.
//! In    settings that can be read again at any time. Out  how the run ended.
//! Holds nothing is accepted before the service manager or the supervisor can know that all is in place.

#[cfg(test)]
mod tests;

use std::error::Error;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handoff::held::Held;
use handoff::link::Channel;
use handoff::worker::{
    HeldFn, Identity, Provision, ProvisionError, Report, SelfTest, SessionError, Stats, provision,
};
use handoff::{ListenerName, Listeners, Share, TICKET_KEY_BYTES};

use crate::entry::Entry;
pub use crate::entry::version;
use crate::moving::{self, LiveConnections};
use crate::orders::{Order, Orders};
use crate::process::{self, Log, LogLevel, Signals};
use crate::settings::Mistakes;

/// The exit code of a wrong configuration or command line: starting again will not help (EX_USAGE,
/// sysexits.h).
pub const WRONG_CONFIGURATION: u8 = 64;

/// How long the start waits for the first answer of every backend.
///
/// If passed: the process is ready with what it knows; a backend without an answer counts as healthy.
/// Sized: the default health check timeout of 2 s and a little.
const FIRST_CHECKS_DEADLINE: Duration = Duration::from_secs(3);

/// How long after its deadline a drain may still be unfinished. Sized: shards cut within a tick.
const CUT_GRACE: Duration = Duration::from_secs(5);

/// How a run ends other than well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}")]
    Configuration(#[from] Mistakes),
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The service's own reason.
    #[error("{0}")]
    Start(Box<dyn Error + Send + Sync>),
    #[error("the log cannot start: {0}")]
    Log(String),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl RunError {
    /// 64: starting again will not help.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) => WRONG_CONFIGURATION,
            _ => 1,
        }
    }
}

/// What one of the proxies does in its life. Every method runs on the control thread, within its tokio
/// runtime.
pub trait Service: Sized {
    /// Where the configuration comes from: the command line.
    type Settings;
    /// One configuration, read and consistent.
    type Config;
    /// Connections that can move.
    type Live: LiveConnections;
    /// Why the service cannot start.
    type StartError: Error + Send + Sync + 'static;

    /// Who this worker is in a handoff.
    fn identity() -> Identity;

    /// Reads the configuration.
    ///
    /// # Errors
    /// Every mistake in it.
    fn load(settings: &Self::Settings) -> Result<Self::Config, Mistakes>;

    /// How much the configuration wants to be logged.
    fn log_level(config: &Self::Config) -> LogLevel;

    /// Claims or binds every listener and starts what serves; accepts nothing.
    ///
    /// # Errors
    /// The process ends, and whoever started it is told.
    fn start(config: Self::Config, start: Start) -> Result<Self, Self::StartError>;

    /// Duplicates of what the supervisor does not hold yet.
    ///
    /// # Errors
    /// The descriptor limit is reached.
    fn to_offer(&self) -> io::Result<Listeners>;

    /// What was handed over and nobody wants.
    fn unclaimed(&self) -> Vec<ListenerName>;

    /// Answers a later supervisor.
    fn held(&self) -> HeldFn;

    /// Waits until every backend was asked once, at most `within`.
    fn first_checks(&mut self, within: Duration) -> impl Future<Output = ()>;

    /// Accepts on this part of every listener's group and on no other socket; the admin listener is a group of
    /// one.
    ///
    /// # Errors
    /// It is as it was.
    fn accept(&mut self, share: Share) -> impl Future<Output = io::Result<()>>;

    /// How a supervisor can try this process before clients come.
    fn self_tests(&self) -> Vec<SelfTest> {
        Vec::new()
    }

    /// A self-test: serves this connection as if it had been accepted on that listener.
    ///
    /// # Errors
    /// There is no such listener, or it is no connection; it is closed.
    fn serve(&mut self, listener: &ListenerName, connection: OwnedFd) -> io::Result<()>;

    /// Stops accepting for good; what is held may go on for `within`. Repeating it shortens the time.
    ///
    /// `supervised`: somebody else holds the listeners and answers for the service.
    ///
    /// # Errors
    /// The data path was not reached.
    fn begin_drain(
        &mut self,
        within: Duration,
        supervised: bool,
    ) -> impl Future<Output = io::Result<()>>;

    /// What is held, by age and by what it waits for; asked for once a second while it drains. `None`: not known now.
    fn survey(&self) -> Option<Held> {
        None
    }

    /// Connections held now, and those cut by a drain.
    fn held_and_cut(&self) -> (u64, u64);

    /// Connections that another process serves now.
    fn moved_away(&self) -> u64;

    /// How long connections may go on where nobody says.
    fn drain_timeout(&self) -> Duration;

    /// Reads the configuration again and puts it in force, all or nothing.
    ///
    /// # Errors
    /// Every mistake as a line; the configuration before stays in force.
    fn reload(&mut self, settings: &Self::Settings) -> Result<Changes, Vec<String>>;

    /// A quarter of a second has passed.
    fn tick(&mut self);

    /// A second has passed: publishes metrics and returns the numbers for the supervisor.
    fn stats(&self) -> Stats;

    /// Its connections, where they can move to another process; to be asked once the shards run.
    fn live_connections(&self) -> Option<Arc<Self::Live>>;

    /// What the next generation should know of clients (rate limits, …), in a form of the service's own;
    /// empty: nothing. At most [`STATE_BYTES_MAX`](handoff::STATE_BYTES_MAX) bytes, within milliseconds.
    fn export_state(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Goes on from what the incumbent exported; before the first `accept`. The incumbent may be of
    /// another version: what is not understood is left alone, and nothing in it may panic.
    fn import_state(&mut self, _state: Vec<u8>) {}

    /// From now on session tickets are made with the first key and accepted with all of them. Called before
    /// the first `accept` and at each rotation; never without a supervisor, or with one that has no keys.
    fn install_ticket_keys(&mut self, _newest_first: &[[u8; TICKET_KEY_BYTES]]) {}
}

/// What a service gets to start with, beside its configuration.
#[derive(Debug)]
pub struct Start {
    /// From a supervisor or from socket activation; to be identified and claimed.
    pub handed_over: Listeners,
    /// Given by the supervisor; 0 without one.
    pub generation: u64,
    pub log: Log,
}

/// What a reload changed about listeners.
#[derive(Debug, Default)]
pub struct Changes {
    /// Duplicates of what was bound, for the supervisor.
    pub bound: Listeners,
    pub released: Vec<ListenerName>,
}

/// Serves until told to stop. To be called before the process has a second thread: it reads the environment
/// and makes its own runtime.
///
/// # Errors
/// See [`RunError`]; whoever started this process was told too.
pub fn run<S: Service>(settings: &S::Settings) -> Result<(), RunError> {
    let provision = provision()?; // before there is a second thread
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(life::<S>(settings, provision))
}

async fn life<S: Service>(settings: &S::Settings, provision: Provision) -> Result<(), RunError> {
    let config = match S::load(settings) {
        Ok(config) => config,
        Err(mistakes) => return Err(refuse::<S>(provision, mistakes).await),
    };
    let log =
        Log::start(S::log_level(&config)).map_err(|error| RunError::Log(error.to_string()))?;
    process::raise_descriptor_limit();
    process::reserve_descriptors();
    let signals = Signals::take_over()?;
    let (mut entry, handed_over) = Entry::open(provision, &S::identity()).await?;
    let generation = entry.generation();
    let start = Start {
        handed_over,
        generation,
        log,
    };
    let mut service = match S::start(config, start) {
        Ok(service) => service,
        Err(error) => {
            entry.fail(error.to_string()).await;
            return Err(RunError::Start(Box::new(error)));
        }
    };
    entry.offer(service.to_offer()?).await?;
    if !entry.ticket_keys().is_empty() {
        service.install_ticket_keys(entry.ticket_keys());
    }
    service.first_checks(FIRST_CHECKS_DEADLINE).await;
    let (conversation, notifier) =
        entry.ready(service.unclaimed(), service.self_tests(), service.held());
    let orders = Orders::new(signals, conversation, notifier);
    let mut life = Life {
        service,
        orders,
        settings,
        accepting: Share::NONE,
        draining: None,
        ticks: 0,
    };
    if !life.orders.is_supervised() {
        life.service.accept(Share::ALL).await?;
        life.orders.notifier().ready(&life.service.stats().status);
    }
    while !life.is_over() {
        let order = life.orders.next().await;
        life.obey(order).await;
    }
    life.end().await;
    Ok(())
}

/// A wrong configuration also reaches the person who typed `supervisor upgrade`.
async fn refuse<S: Service>(provision: Provision, mistakes: Mistakes) -> RunError {
    if let Ok((entry, _)) = Entry::open(provision, &S::identity()).await {
        entry.fail(mistakes.to_string()).await;
    }
    mistakes.into()
}

struct Life<'s, S: Service> {
    service: S,
    orders: Orders,
    settings: &'s S::Settings,
    accepting: Share,
    draining: Option<Draining>,
    ticks: u32,
}

/// A drain under way, or an end without one.
struct Draining {
    /// Connections at its beginning.
    held: u64,
    /// Connections that had moved to another process by then.
    moved: u64,
    give_up_at: Instant,
}

/// Ticks between statistics: once a second.
const TICKS_PER_STATS: u32 = 4;

impl<S: Service> Life<'_, S> {
    async fn obey(&mut self, order: Order) {
        match order {
            Order::Accept(share) => self.accept(share).await,
            Order::Serve(listener, connection) => self.serve(&listener, connection),
            Order::Drain { within } => self.drain(within).await,
            Order::Shutdown => self.drain(Some(Duration::ZERO)).await,
            Order::Give { passage, percent } => self.give(passage, percent),
            Order::Take(passage) => self.take(passage),
            Order::Reload => self.reload(),
            Order::TicketKeys(keys) => self.service.install_ticket_keys(keys.as_slice()),
            Order::ShareState => self
                .orders
                .report(Report::State(self.service.export_state())),
            Order::State(state) => self.service.import_state(state),
            Order::StateRefused(reason) => {
                tracing::warn!(reason, "the state of the version before cannot be used");
            }
            Order::Tick => self.tick(),
        }
    }

    async fn accept(&mut self, share: Share) {
        if !share.is_none() && self.draining.is_some() {
            // A supervisor that did not see this worker begin to leave: it needs another one.
            return self.orders.report(Report::Accepting(Share::NONE));
        }
        match self.service.accept(share).await {
            Ok(()) => self.accepting = share,
            Err(error) => {
                tracing::error!(%error, wanted = %share, "accepting could not be switched");
            }
        }
        // Before it: what was counted under the share that is over. After it: the first sign of the new one.
        self.orders.report(Report::Stats(self.service.stats()));
        self.orders.report(Report::Accepting(self.accepting));
        self.orders.report(Report::Stats(self.service.stats()));
    }

    fn serve(&mut self, listener: &ListenerName, connection: OwnedFd) {
        if let Err(error) = self.service.serve(listener, connection) {
            tracing::warn!(%error, %listener, "a self-test could not be served");
        }
    }

    /// Connections leave beside everything else that is ordered; who has none to move drops the passage, and its far end
    /// sees that.
    fn give(&self, passage: Channel, percent: u8) {
        let (Some(live), Some(reports)) = (self.service.live_connections(), self.orders.reporter())
        else {
            return;
        };
        tokio::spawn(async move {
            moving::give(&*live, passage, percent, |moved| {
                let _ = reports.send(Report::Moved(moved));
            })
            .await;
        });
    }

    fn take(&self, passage: Channel) {
        // Whoever leaves takes nobody in.
        let live = self
            .service
            .live_connections()
            .filter(|_| self.draining.is_none());
        if let Some(live) = live {
            tokio::spawn(async move { moving::take(&*live, passage).await });
        }
    }

    async fn drain(&mut self, within: Option<Duration>) {
        let within = within.unwrap_or_else(|| self.service.drain_timeout());
        let held = self.service.held_and_cut().0;
        tracing::info!(connections = held, within = ?within, "draining");
        self.orders.notifier().stopping();
        let supervised = self.orders.is_supervised();
        if let Err(error) = self.service.begin_drain(within, supervised).await {
            tracing::error!(%error, "the data path did not begin to drain");
        }
        // A supervisor that did not ask for it (SIGTERM came from elsewhere) starts a replacement at once.
        self.orders.report(Report::Accepting(Share::NONE));
        let held = self.draining.as_ref().map_or(held, |begun| begun.held);
        self.accepting = Share::NONE;
        let moved = self.draining.as_ref().map(|begun| begun.moved);
        self.draining = Some(Draining {
            held,
            moved: moved.unwrap_or_else(|| self.service.moved_away()),
            give_up_at: Instant::now() + within + CUT_GRACE,
        });
    }

    fn reload(&mut self) {
        if self.draining.is_some() {
            let why = "this process is draining; it does not read its configuration again";
            tracing::warn!("{why}");
            return self
                .orders
                .report(Report::Reloaded(Err(vec![why.to_owned()])));
        }
        self.orders.notifier().reloading();
        let outcome = match self.service.reload(self.settings) {
            Ok(changes) => {
                tracing::info!("the configuration was reloaded");
                if !changes.bound.is_empty() {
                    self.orders.report(Report::Bound(changes.bound));
                }
                if !changes.released.is_empty() {
                    self.orders.report(Report::Released(changes.released));
                }
                Ok(())
            }
            Err(mistakes) => {
                for mistake in &mistakes {
                    tracing::error!("{mistake}");
                }
                tracing::error!(
                    mistakes = mistakes.len(),
                    "the configuration was not reloaded; the one before stays in force"
                );
                Err(mistakes)
            }
        };
        self.orders.report(Report::Reloaded(outcome));
        self.orders.notifier().ready(&self.service.stats().status);
    }

    fn tick(&mut self) {
        self.service.tick();
        self.orders.watch();
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TICKS_PER_STATS) {
            let mut stats = self.service.stats();
            if self.draining.is_some() {
                stats.held = self.service.survey();
            }
            self.orders.notifier().status(&stats.status);
            self.orders.report(Report::Stats(stats));
        }
    }

    fn is_over(&self) -> bool {
        let is_empty = || self.service.held_and_cut().0 == 0;
        let draining = self.draining.as_ref();
        draining.is_some_and(|drain| is_empty() || Instant::now() >= drain.give_up_at)
    }

    async fn end(self) {
        let (left, cut) = self.service.held_and_cut();
        let held = self.draining.as_ref().map_or(0, |drain| drain.held);
        let cut = cut + left;
        // Those that moved once the drain had begun; the others are not in `held`.
        let moved = self.service.moved_away();
        let moved_late = self
            .draining
            .as_ref()
            .map_or(0, |drain| moved - drain.moved);
        let finished = held.saturating_sub(cut + moved_late);
        tracing::info!(finished, cut, moved, "drained");
        self.orders.report(Report::Drained {
            finished,
            cut,
            moved,
        });
        self.orders.close().await;
    }
}
