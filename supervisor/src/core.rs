//! The supervisor itself: one loop, one enum of happenings, one owner of all state.
//!
//! Room  the only place where decisions (`swap`, `backoff`) become deeds. Nothing here waits: what takes
//!       time runs as a task and comes back as a happening.
//! In    facts of workers, ends of processes, requests of people, signals, the clock.
//! Out   orders, signals, files, events.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use control::{Event as Told, Migrate, MovedStatus, Role};
use handoff::link::Link;
use handoff::message::Hello;
use handoff::notify::{Notification, Notifier};
use handoff::supervisor::Fact;
use tokio::sync::mpsc;

use self::accounting::Departed;
use self::orphans::LeftBehind;
use self::self_upgrade::SelfUpgrade;
use crate::adopt::AdoptError;
use crate::backoff::Backoff;
use crate::canary::Canary;
use crate::child::Ending;
use crate::doors::Doors;
use crate::generation::Generation;
use crate::health::Finding;
use crate::holder::Holder;
use crate::layout::Layout;
use crate::orphans::Orphans;
use crate::record::{Artifact, Record, WorkerRecord};
use crate::requests::Request;
use crate::self_test::Report;
use crate::settings::Settings;
use crate::store::StageError;
use crate::swap::Phase;
use crate::tally::Tally;
use crate::ticket_keys::Ring;
use crate::webhook::Webhook;

mod accounting;
mod answers;
mod baking;
mod generations;
mod going_on;
mod hanging;
mod health;
mod losing;
mod moving;
mod orphans;
mod planning;
mod retiring;
mod returning;
mod self_upgrade;
mod sharing;
mod sides;
mod stopping;
mod switching;
mod telling;
mod testing;
mod upgrade;

/// How often the loop looks at its deadlines.
const TICK: Duration = Duration::from_millis(50);

/// How often the service manager gets a new status line.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);

/// Everything that wakes the loop.
#[derive(Debug)]
pub(crate) enum Happening {
    Fact(u64, Fact),
    /// With what it left behind.
    Exited(u64, Ending, Orphans),
    /// A round of tries at the health URL is over.
    Probed(u64, Finding),
    /// A level 1 program spoke.
    Notified(u64, Notification),
    /// A worker without supervisor is at the door.
    Returned(Box<(Link, Hello)>),
    /// Of the swap with this number.
    Staged(u64, Result<Artifact, StageError>),
    /// Of the swap with this number; before `Staged`, when the binary was acceptable as such.
    Planned(u64, Box<control::Plan>),
    /// Of the swap with this number.
    SelfTested(u64, Report),
    /// Of the swap with this number.
    RecordWritten(u64, io::Result<()>),
    /// The next supervisor's binary.
    NextStaged(Box<Result<Artifact, AdoptError>>),
    Request(Request),
    Signal(Signal),
}

/// Signals of the service manager or a terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Stop,
    Reload,
}

/// An upgrade that is running.
#[derive(Debug)]
struct Swap {
    /// Tells its happenings from those of an aborted swap before it.
    id: u64,
    /// "upgrade" or "rollback", for the history.
    kind: &'static str,
    binary: String,
    bake: Duration,
    canary: Canary,
    /// How long each step of the canary lasts.
    step: Duration,
    /// When live connections move.
    migrate: Migrate,
    /// How far the last move has come.
    moved: Option<MovedStatus>,
    /// How much of them has moved with the canary.
    moved_percent: u8,
    ready_timeout: Duration,
    artifact: Option<Artifact>,
    successor: Option<u64>,
    /// Listeners that the successor bound; they become ours at commit.
    bound: handoff::Listeners,
    /// What was committed before the successor's record was written; a rollback returns to it.
    former: Option<Record>,
    started: Instant,
    since: String,
    deadline: Option<Instant>,
    /// When the successor was told to accept for the first time.
    opened_at: Option<Instant>,
    /// When the running step or bake began, and when it is over.
    baking_since: Option<Instant>,
    bake_until: Option<Instant>,
    /// Connections accepted by successor and incumbent before that.
    accepted_before: (u64, u64),
    suspect_since: Option<Instant>,
    /// Why a person was asked, and since when.
    paused: Option<String>,
    paused_at: Option<Instant>,
    /// The person said: go on.
    accepts_findings: bool,
    /// When the incumbent was asked back, and how long its answer took.
    restoring_since: Option<Instant>,
    restored_after: Option<Duration>,
    last_progress: Instant,
    /// When each phase began.
    phases: Vec<(&'static str, Instant)>,
    reason: Option<String>,
    watchers: Vec<mpsc::UnboundedSender<Told>>,
}

/// How the whole process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Stopped,
    /// The first worker says that its configuration is wrong (exit code 64).
    Configuration,
}

/// The state of one supervisor.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) name: String,
    pub(crate) args: Vec<String>,
    pub(crate) layout: Layout,
    pub(crate) settings: Settings,
    pub(crate) notifier: Notifier,
    pub(crate) holder: Holder,
    pub(crate) record: Record,
    pub(crate) happenings: mpsc::UnboundedSender<Happening>,
    ticket_keys: Ring,
    webhook: Option<Webhook>,
    generations: BTreeMap<u64, Generation>,
    /// Drained generations whose process has ended, the latest last: their account may come after the exit.
    departed: Departed,
    /// Of generations whose main process has ended.
    left_behind: Vec<LeftBehind>,
    /// Workers of an earlier supervisor that have not returned yet.
    expected: Vec<WorkerRecord>,
    expected_until: Option<Instant>,
    phase: Phase,
    swap: Option<Swap>,
    swaps_total: u64,
    backoff: Backoff,
    restart_at: Option<Instant>,
    crashes_total: u64,
    tally: Tally,
    was_ready: bool,
    stopping: bool,
    ended: Option<Ended>,
    reloading_until: Option<Instant>,
    self_upgrade: Option<SelfUpgrade>,
    pub(crate) doors: Option<Doors>,
    reload_waiters: Vec<tokio::sync::oneshot::Sender<Result<(), Vec<String>>>>,
    last_status: Instant,
    last_watchdog: Instant,
    last_retiring: Instant,
    last_tick: Instant,
    /// What all draining generations may hold, in bytes.
    draining_memory: Option<u64>,
    #[cfg(debug_assertions)]
    faults: crate::faults::Faults,
}

impl Core {
    #[expect(
        clippy::too_many_arguments,
        reason = "the one place where the parts of a supervisor meet"
    )]
    pub(crate) fn new(
        name: String,
        args: Vec<String>,
        layout: Layout,
        settings: Settings,
        notifier: Notifier,
        holder: Holder,
        record: Record,
        happenings: mpsc::UnboundedSender<Happening>,
    ) -> Self {
        let now = Instant::now();
        let ticket_keys = Ring::new(settings.ticket_rotation);
        let draining_memory = crate::facts::memory_total()
            .map(|total| total / 100 * u64::from(settings.max_draining_memory_percent));
        let webhook = settings.webhook.as_ref();
        let webhook = webhook.map(|setting| Webhook::start(&name, setting));
        Self {
            name,
            args,
            layout,
            settings,
            notifier,
            holder,
            record,
            happenings,
            ticket_keys,
            webhook,
            generations: BTreeMap::new(),
            departed: Departed::default(),
            left_behind: Vec::new(),
            expected: Vec::new(),
            expected_until: None,
            phase: Phase::Idle,
            swap: None,
            swaps_total: 0,
            backoff: Backoff::default(),
            restart_at: None,
            crashes_total: 0,
            tally: Tally::default(),
            was_ready: false,
            stopping: false,
            ended: None,
            reloading_until: None,
            self_upgrade: None,
            doors: None,
            reload_waiters: Vec::new(),
            last_status: now,
            last_watchdog: now,
            last_retiring: now,
            last_tick: now,
            draining_memory,
            #[cfg(debug_assertions)]
            faults: crate::faults::Faults::from_environment(),
        }
    }

    /// First: workers of an earlier supervisor that are still alive.
    pub(crate) fn find_living_workers(&mut self) {
        self.note_unfinished_self_upgrade();
        self.expect_living_workers(Instant::now());
    }

    /// Second: the listeners of the settings that nobody handed over.
    pub(crate) fn bind_missing_listeners(&mut self) -> io::Result<()> {
        self.holder.bind_missing(&self.settings.listeners)
    }

    /// Then: start what is committed unless it lives, serve happenings until the end.
    pub(crate) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Happening>) -> Ended {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(happening) = inbox.recv() => self.handle(happening, Instant::now()),
                _ = ticks.tick() => {
                    self.tick(Instant::now());
                    self.tick_self_upgrade(&mut inbox, Instant::now());
                }
            }
            if let Some(ended) = self.ended {
                return ended;
            }
        }
    }

    fn handle(&mut self, happening: Happening, now: Instant) {
        match happening {
            Happening::Fact(generation, fact) => self.handle_fact(generation, fact, now),
            Happening::Exited(generation, ending, orphans) => {
                let ending = self.note_orphans(generation, ending, orphans, now);
                self.handle_exit(generation, &ending, now);
            }
            Happening::Probed(generation, finding) => self.handle_probed(generation, finding, now),
            Happening::Notified(generation, said) => {
                self.handle_notification(generation, said, now)
            }
            Happening::Returned(worker) => self.handle_return(*worker, now),
            Happening::Staged(swap, outcome) => self.handle_staged(swap, outcome, now),
            Happening::Planned(swap, plan) => self.handle_planned(swap, *plan),
            Happening::SelfTested(swap, report) => self.handle_self_tested(swap, report, now),
            Happening::RecordWritten(swap, outcome) => {
                self.handle_record_written(swap, outcome, now);
            }
            Happening::NextStaged(outcome) => self.handle_next_staged(*outcome, now),
            Happening::Request(request) => self.handle_request(request, now),
            Happening::Signal(Signal::Stop) => self.stop(now),
            Happening::Signal(Signal::Reload) => self.reload(None),
        }
    }

    fn tick(&mut self, now: Instant) {
        for generation in self.generations.values_mut() {
            generation.tick(now);
        }
        self.tick_expected(now);
        self.tick_swap(now);
        self.tick_ticket_keys(now);
        self.tick_retiring(now);
        self.tick_hanging(now);
        self.tick_lost(now);
        self.tick_health(now);
        self.tick_orphans(now);
        self.tick_start(now);
        self.tick_stopping();
        self.tick_notifier(now);
    }

    fn tick_notifier(&mut self, now: Instant) {
        if let Some(interval) = self.notifier.watchdog_interval()
            && now.saturating_duration_since(self.last_watchdog) >= interval / 2
        {
            self.last_watchdog = now;
            self.notifier.watchdog();
        }
        if now.saturating_duration_since(self.last_status) >= STATUS_INTERVAL {
            self.last_status = now;
            self.notifier.status(&self.status_line());
        }
    }

    /// "idle: 1.3.0 serves 1204 connections (generation 7), 2 draining with 12".
    pub(crate) fn status_line(&self) -> String {
        let connections = |role: Role| -> u64 {
            self.generations
                .values()
                .filter(|generation| generation.role == role)
                .filter_map(|generation| generation.stats.as_ref())
                .map(|stats| stats.connections)
                .sum()
        };
        let draining = self
            .generations
            .values()
            .filter(|generation| generation.role == Role::Draining)
            .count();
        let mut line = format!(
            "{}: {} serves {} connections",
            self.phase_word(),
            self.record.committed.version,
            connections(Role::Incumbent) + connections(Role::Successor),
        );
        if draining > 0 {
            line += &format!(", {draining} draining with {}", connections(Role::Draining));
        }
        line
    }

    fn phase_word(&self) -> &'static str {
        if self.stopping {
            "stopping"
        } else if self.swap.as_ref().is_some_and(|swap| swap.paused.is_some()) {
            "paused"
        } else if self.self_upgrade.is_some() {
            "self-upgrade"
        } else if self.phase == Phase::Idle && !self.is_serving() {
            "starting"
        } else {
            self.phase.as_str()
        }
    }

    fn incumbent(&mut self) -> Option<&mut Generation> {
        self.generations
            .values_mut()
            .find(|generation| generation.role == Role::Incumbent)
    }

    fn successor(&self) -> Option<&Generation> {
        let number = self.swap.as_ref()?.successor?;
        self.generations.get(&number)
    }

    fn is_serving(&self) -> bool {
        self.generations
            .values()
            .any(|generation| generation.role == Role::Incumbent && generation.accepting)
    }
}

/// The wall clock as people read it.
pub(crate) fn rfc3339_now() -> String {
    humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string()
}
