//! The life of the process, on one screen.
//!
//! ```text
//!   listeners: adopt or bind ─▶ offer ─▶ first health checks ─▶ ready ─▶ accept ⇄ pause ─▶ drain ─▶ exit
//! ```
//!
//! Room  the order of things; each deed is in `balancer`, `entry`, `orders`.

use std::io;
use std::time::{Duration, Instant};

use dataplane::process::{self, Log, Signals};
use dataplane::settings::Mistakes;
use handoff::worker::{Provision, ProvisionError, Report, SessionError, provision};

use crate::balancer::{Balancer, StartError};
use crate::cli::Settings;
use crate::config;
use crate::entry::Entry;
use crate::orders::{Order, Orders};

/// How long the start waits for the first answer of every backend.
///
/// If passed: the process is ready with what it knows; a backend without an answer counts as healthy.
/// Sized: the default health check timeout of 2 s and a little.
const FIRST_CHECKS_DEADLINE: Duration = Duration::from_secs(3);

/// How long after its deadline a drain may still be unfinished. Sized: shards cut within a tick.
const CUT_GRACE: Duration = Duration::from_secs(5);

/// How a run ends other than well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("{0}")]
    Configuration(#[from] Mistakes),
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the log cannot start: {0}")]
    Log(String),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl RunError {
    /// 64: starting again will not help.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) => crate::WRONG_CONFIGURATION,
            _ => 1,
        }
    }
}

/// Serves until told to stop.
pub(crate) fn run(settings: &Settings) -> Result<(), RunError> {
    let provision = provision()?; // before there is a second thread
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(life(settings, provision))
}

async fn life(settings: &Settings, provision: Provision) -> Result<(), RunError> {
    let config = match config::load(settings, &config::environment) {
        Ok(config) => config,
        Err(mistakes) => return Err(refuse(provision, mistakes).await),
    };
    let log = Log::start(config.log_level).map_err(|error| RunError::Log(error.to_string()))?;
    process::raise_descriptor_limit();
    let signals = Signals::take_over()?;
    let (mut entry, handed_over) = Entry::open(provision).await?;
    let mut balancer = match Balancer::start(config, handed_over, entry.generation(), log) {
        Ok(balancer) => balancer,
        Err(error) => {
            entry.fail(error.to_string()).await;
            return Err(error.into());
        }
    };
    entry.offer(balancer.to_offer()?).await?;
    balancer.upstreams.first_checks(FIRST_CHECKS_DEADLINE).await;
    let (conversation, notifier) = entry.ready(balancer.unclaimed(), balancer.held());
    let orders = Orders::new(signals, conversation, notifier);
    let mut life = Life {
        balancer,
        orders,
        settings,
        draining: None,
        ticks: 0,
    };
    if !life.orders.is_supervised() {
        life.balancer.set_accepting(true).await?;
        life.orders.notifier().ready(&life.balancer.stats().status);
    }
    while !life.is_over() {
        let order = life.orders.next().await;
        life.obey(order).await;
    }
    life.end().await;
    Ok(())
}

/// A wrong configuration also reaches the person who typed `supervisor upgrade`.
async fn refuse(provision: Provision, mistakes: Mistakes) -> RunError {
    if let Ok((entry, _)) = Entry::open(provision).await {
        entry.fail(mistakes.to_string()).await;
    }
    mistakes.into()
}

struct Life<'s> {
    balancer: Balancer,
    orders: Orders,
    settings: &'s Settings,
    draining: Option<Draining>,
    ticks: u32,
}

/// A drain under way, or an end without one.
struct Draining {
    /// Connections at its beginning.
    held: u64,
    give_up_at: Instant,
}

/// Ticks between statistics: once a second.
const TICKS_PER_STATS: u32 = 4;

impl Life<'_> {
    async fn obey(&mut self, order: Order) {
        match order {
            Order::Resume => self.accept(true).await,
            Order::Pause => self.accept(false).await,
            Order::Drain { within } => self.drain(within).await,
            Order::Shutdown => self.drain(Some(Duration::ZERO)).await,
            Order::Reload => self.reload(),
            Order::Tick => self.tick(),
        }
    }

    async fn accept(&mut self, on: bool) {
        let is_so = match self.balancer.set_accepting(on).await {
            Ok(()) => on,
            Err(error) => {
                tracing::error!(%error, wanted = on, "accepting could not be switched");
                !on
            }
        };
        self.orders.report(Report::Accepting(is_so));
    }

    async fn drain(&mut self, within: Option<Duration>) {
        let within = within.unwrap_or(self.balancer.shared.running().config.drain_timeout);
        let held = self.balancer.held_and_cut().0;
        tracing::info!(connections = held, within = ?within, "draining");
        self.orders.notifier().stopping();
        let supervised = self.orders.is_supervised();
        if let Err(error) = self.balancer.begin_drain(within, supervised).await {
            tracing::error!(%error, "the data path did not begin to drain");
        }
        // A supervisor that did not ask for it (SIGTERM came from elsewhere) starts a replacement at once.
        self.orders.report(Report::Accepting(false));
        let held = self.draining.as_ref().map_or(held, |begun| begun.held);
        self.draining = Some(Draining {
            held,
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
        let outcome = match self.balancer.reload(self.settings) {
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
        self.orders.notifier().ready(&self.balancer.stats().status);
    }

    fn tick(&mut self) {
        self.balancer.tick();
        self.orders.watch();
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TICKS_PER_STATS) {
            let stats = self.balancer.stats();
            self.orders.notifier().status(&stats.status);
            self.orders.report(Report::Stats(stats));
        }
    }

    fn is_over(&self) -> bool {
        let is_empty = || self.balancer.held_and_cut().0 == 0;
        let draining = self.draining.as_ref();
        draining.is_some_and(|drain| is_empty() || Instant::now() >= drain.give_up_at)
    }

    async fn end(self) {
        let (left, cut) = self.balancer.held_and_cut();
        let held = self.draining.map_or(0, |drain| drain.held);
        let cut = cut + left;
        let finished = held.saturating_sub(cut);
        tracing::info!(finished, cut, "drained");
        self.orders.report(Report::Drained { finished, cut });
        self.orders.close().await;
    }
}
