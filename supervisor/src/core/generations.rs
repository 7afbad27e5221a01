//! Starting workers and hearing from them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use control::{HistoryEntry, Role};
use handoff::link::{Channel, Link};
use handoff::notify::Notification;
use handoff::supervisor::{Fact, Offer, Order, converse, greet};
use handoff::{ListenerName, Share};
use tokio::sync::mpsc;

use super::{Core, Ended, Happening, rfc3339_now};
use crate::child::{self, Ending, KILL_AFTER, Process, SpawnError};
use crate::generation::Generation;
use crate::holder::Holder;
use crate::level1;
use crate::record::{self, Artifact};
use crate::swap::{Event, Phase};
use crate::ticket_keys;

/// The worker's word for "my configuration is wrong" (contract).
const EXIT_CONFIGURATION: i32 = 64;

impl Core {
    /// Starts an artifact as the next generation.
    pub(super) fn spawn(
        &mut self,
        artifact: &Artifact,
        role: Role,
        now: Instant,
    ) -> Result<u64, SpawnError> {
        let number = self.record.generation + 1;
        self.record.generation = number;
        let listeners = self.holder.duplicates()?;
        let token = random_token();
        let (process, orders, ears) = if artifact.is_native() {
            let (process, channel) = child::spawn_native(artifact, &self.args)?;
            let offer = Offer {
                generation: number,
                token: token.clone(),
                rendezvous: self.layout.rendezvous().display().to_string(),
                listeners,
                ticket_keys: self.ticket_keys.keys(now),
            };
            (
                process,
                Some(self.start_conversation(number, channel, offer)),
                None,
            )
        } else {
            let socket = self.layout.notify_socket(number);
            let ears = level1::listen(&socket, number, self.happenings.clone())?;
            let process = child::spawn_activated(artifact, &self.args, listeners, &socket)?;
            (process, None, Some(ears))
        };
        self.watch(number, &process)?;
        let inherited = inherited_names(artifact, &self.holder);
        tracing::info!(generation = number, pid = process.pid(), version = %artifact.label(), %role, "started");
        let started_ticks = child::start_time(process.pid()).unwrap_or_default();
        self.generations.insert(
            number,
            Generation {
                number,
                artifact: artifact.clone(),
                role,
                process,
                token,
                started_ticks,
                started: now,
                orders,
                ready: false,
                accepting: false,
                divides: false,
                moves: 0,
                stayed: BTreeMap::new(),
                unclaimed: Vec::new(),
                stats: None,
                samples: VecDeque::new(),
                self_tests: Vec::new(),
                is_retired: false,
                silent: Duration::ZERO,
                complaint: None,
                lost_at: None,
                kill_at: None,
                inherited,
                health: None,
                ears,
            },
        );
        self.save_workers();
        Ok(number)
    }

    pub(super) fn watch(&self, number: u64, process: &Process) -> Result<(), SpawnError> {
        let happenings = self.happenings.clone();
        process.watch(move |ending, orphans| {
            let _ = happenings.send(Happening::Exited(number, ending, orphans));
        })?;
        Ok(())
    }

    fn start_conversation(
        &self,
        number: u64,
        channel: Channel,
        offer: Offer,
    ) -> mpsc::UnboundedSender<Order> {
        let (orders, orders_out) = mpsc::unbounded_channel();
        let happenings = self.happenings.clone();
        tokio::spawn(async move {
            let tell = |fact| {
                let _ = happenings.send(Happening::Fact(number, fact));
            };
            let greeted = match Link::new(channel) {
                Ok(mut link) => match greet(&mut link).await {
                    Ok(hello) => Ok((link, hello)),
                    Err(error) => Err(error.to_string()),
                },
                Err(error) => Err(error.to_string()),
            };
            match greeted {
                Ok((link, hello)) => converse(link, &hello, offer, orders_out, tell).await,
                Err(reason) => tell(Fact::Lost(reason)),
            }
        });
        orders
    }

    pub(super) fn handle_fact(&mut self, number: u64, fact: Fact, now: Instant) {
        let Some(generation) = self.generations.get_mut(&number) else {
            if let Fact::Drained {
                finished,
                cut,
                moved,
            } = fact
            {
                self.note_drained_late(number, (finished, cut, moved));
            }
            return;
        };
        generation.silent = Duration::ZERO;
        match fact {
            Fact::Bound(listeners) => self.take_bound(number, listeners),
            Fact::Released(names) => {
                if generation.role == Role::Incumbent {
                    names.iter().for_each(|name| self.holder.close(name));
                }
            }
            Fact::Ready {
                unclaimed,
                self_tests,
                divides,
                moves,
            } => {
                generation.self_tests = self_tests;
                generation.divides = divides;
                generation.moves = moves;
                generation.ready = true;
                generation.unclaimed = unclaimed;
                self.handle_ready(number, now);
            }
            Fact::Failed(reason) => generation.complaint = Some(reason),
            Fact::Accepting(share) => {
                generation.accepting = !share.is_none();
                self.handle_accepting(number, share, now);
            }
            Fact::Stats(stats) => {
                generation.stats = Some(stats);
                if generation.role != Role::Draining {
                    generation.sample(now);
                }
            }
            Fact::Reloaded(mistakes) => self.handle_reloaded(mistakes),
            Fact::State(state) => self.handle_state(number, state, now),
            Fact::Moved(moved) => self.handle_moved(number, moved, now),
            Fact::Drained {
                finished,
                cut,
                moved,
            } => {
                generation.kill_at = Some(now + KILL_AFTER);
                self.note_drained(number, (finished, cut, moved));
            }
            Fact::Lost(reason) => self.handle_lost(number, reason, now),
        }
    }

    /// A successor's listeners wait for the commit; those of the serving generation are ours at once.
    fn take_bound(&mut self, number: u64, listeners: handoff::Listeners) {
        let role = self
            .generations
            .get(&number)
            .map(|generation| generation.role);
        let returning = self
            .expected
            .iter()
            .any(|record| record.generation == number);
        match role {
            _ if returning => self.holder.take_over_missing(listeners),
            Some(Role::Incumbent) => self.holder.take_over(listeners),
            Some(Role::Successor) => {
                if let Some(swap) = self.swap.as_mut() {
                    swap.bound.absorb(listeners);
                }
            }
            Some(Role::Draining) | None => {}
        }
    }

    pub(super) fn handle_ready(&mut self, number: u64, now: Instant) {
        let returned = self.returned(number, now);
        let Some(generation) = self.generations.get_mut(&number) else {
            return;
        };
        if returned || generation.role == Role::Draining {
            return;
        }
        match generation.role {
            // Parked, and back after its conversation broke: it stays parked.
            Role::Incumbent if self.phase.has_parked_incumbent() => {}
            Role::Incumbent => {
                let unclaimed = std::mem::take(&mut generation.unclaimed);
                generation.order(Order::Accept(Share::ALL));
                for name in unclaimed {
                    tracing::warn!(listener = %name, "nobody claims it: closed");
                    self.holder.close(&name);
                }
            }
            Role::Successor => self.advance_if_allowed(Event::SuccessorReady, now),
            Role::Draining => {}
        }
        self.acknowledge_level1(number, now);
    }

    /// A level 1 program accepts from its start and cannot be paused: its answers are its readiness.
    fn acknowledge_level1(&mut self, number: u64, now: Instant) {
        let Some(generation) = self.generations.get_mut(&number) else {
            return;
        };
        if !generation.artifact.is_native() && generation.role == Role::Incumbent {
            generation.accepting = true;
            self.handle_accepting(number, Share::ALL, now);
        }
    }

    pub(super) fn handle_accepting(&mut self, number: u64, share: Share, now: Instant) {
        let Some(role) = self.generations.get(&number).map(|one| one.role) else {
            return;
        };
        match role {
            Role::Incumbent if share.is_all() => {
                self.note_serving();
                self.note_restored(now);
                self.drain_left_over_successors(now);
                self.advance_if_allowed(Event::IncumbentAccepting, now);
            }
            Role::Incumbent if share.is_none() => self.note_parked(number, now),
            // Anything else is an answer to an order before the last one.
            Role::Incumbent if share == self.incumbent_share() => {
                self.advance_if_allowed(Event::IncumbentNarrowed, now);
            }
            Role::Successor if share.is_none() => {
                self.note_left(number, Event::SuccessorGone, now);
            }
            Role::Successor => {
                let wanted = self.swap.as_ref().map(|swap| swap.canary.successor());
                if wanted == Some(share) {
                    self.advance_if_allowed(Event::SuccessorAccepting, now);
                }
            }
            Role::Incumbent | Role::Draining => {}
        }
    }

    /// The incumbent accepts nothing: as it was told, or because it leaves.
    fn note_parked(&mut self, number: u64, now: Instant) {
        let is_told = match self.phase {
            Phase::Restoring | Phase::Replacing => true,
            phase => phase.has_parked_incumbent() && self.incumbent_share().is_none(),
        };
        if is_told {
            self.advance_if_allowed(Event::IncumbentParked, now);
        } else {
            self.note_left(number, Event::IncumbentGone, now);
        }
    }

    /// How long clients may have waited for somebody who accepts.
    fn note_restored(&mut self, now: Instant) {
        let Some(swap) = self.swap.as_mut() else {
            return;
        };
        if let Some(since) = swap.restoring_since.take() {
            swap.restored_after = Some(now.saturating_duration_since(since));
        }
    }

    /// A worker stopped accepting that nobody asked to: somebody sent it SIGTERM. It finishes what it
    /// holds; for the swap, and for those who wait in the queue, it is gone.
    fn note_left(&mut self, number: u64, event: Event, now: Instant) {
        let reason =
            format!("generation {number} stopped accepting by itself (SIGTERM from elsewhere?)");
        self.let_go(number, event, reason, now);
    }

    /// It serves nobody new any more, and may finish what it holds.
    pub(super) fn let_go(&mut self, number: u64, event: Event, reason: String, now: Instant) {
        let within = self.settings.drain_timeout;
        let Some(generation) = self.generations.get_mut(&number) else {
            return;
        };
        let was = generation.role;
        generation.role = Role::Draining;
        generation.kill_at = Some(now + within);
        self.save_workers();
        tracing::warn!(reason);
        if self.stopping {
            return;
        }
        self.set_reason(reason);
        if was == Role::Incumbent {
            self.restart_at = Some(now);
        }
        self.advance_if_allowed(event, now);
    }

    /// After an incomplete rollback a successor may still serve; now it is no longer needed.
    fn drain_left_over_successors(&mut self, now: Instant) {
        if self.phase != Phase::Idle {
            return;
        }
        let within = self.settings.drain_timeout;
        for generation in self.generations.values_mut() {
            if generation.role == Role::Successor {
                generation.drain(within, now);
            }
        }
    }

    fn note_serving(&mut self) {
        if !self.was_ready {
            self.was_ready = true;
            self.notifier.ready(&self.status_line());
            tracing::info!(version = %self.record.committed.label(), "serving");
        }
    }

    pub(super) fn handle_notification(&mut self, number: u64, said: Notification, now: Instant) {
        let Some(generation) = self.generations.get_mut(&number) else {
            return;
        };
        if let Some(status) = said.status {
            generation.stats.get_or_insert_default().status = status;
        }
        // With a health URL its answers are its readiness (see `health`).
        if said.ready && !generation.ready && self.settings.health_url.is_none() {
            generation.ready = true;
            self.handle_ready(number, now);
        }
    }

    /// The conversation is over. A process that ends takes it along; one that lives on either broke the
    /// protocol (a successor: it has to go) or will return (the incumbent).
    pub(super) fn handle_exit(&mut self, number: u64, ending: &Ending, now: Instant) {
        let Some(generation) = self.generations.remove(&number) else {
            return;
        };
        self.expected.retain(|record| record.generation != number);
        let _ = std::fs::remove_file(self.layout.notify_socket(number));
        self.save_workers();
        let reason = explain(&generation, ending);
        if self.stopping || generation.role == Role::Draining {
            tracing::info!(generation = number, how = %ending.text, "gone");
            self.departed
                .remember(number, (generation.artifact, generation.stayed));
            return;
        }
        tracing::warn!(generation = number, reason, role = %generation.role, "a worker died");
        if generation.role == Role::Incumbent {
            self.note_crash(&generation, ending, &reason);
            if self.phase.precedes_parking() && !generation.accepting {
                // It never served: the running upgrade is the cure. `finish` starts it again.
                return;
            }
            if !matches!(
                self.phase,
                Phase::Baking | Phase::Committing | Phase::Moving
            ) {
                // While a successor serves alone, nobody needs the incumbent back before a rollback.
                self.set_reason(format!("the incumbent died: {reason}"));
                let uptime = now.saturating_duration_since(generation.started);
                self.restart_at = Some(now + self.backoff.next(uptime));
            }
            self.advance_if_allowed(Event::IncumbentGone, now);
        } else {
            self.set_reason(reason);
            self.advance_if_allowed(Event::SuccessorGone, now);
        }
    }

    fn note_crash(&mut self, dead: &Generation, ending: &Ending, reason: &str) {
        self.crashes_total += 1;
        if !self.was_ready && ending.code == Some(EXIT_CONFIGURATION) {
            self.ended = Some(Ended::Configuration);
        }
        self.append_history(HistoryEntry {
            to_version: Some(dead.artifact.version.clone()),
            to_sha256: Some(dead.artifact.sha256.clone()),
            reason: Some(reason.to_owned()),
            ..history("crash")
        });
    }

    /// Starts the committed version when it is due.
    pub(super) fn tick_start(&mut self, now: Instant) {
        if self.stopping || self.restart_at.is_none_or(|at| now < at) {
            return;
        }
        self.restart_at = None;
        if self.incumbent().is_some() {
            return;
        }
        let artifact = self.record.committed.clone();
        match self.spawn(&artifact, Role::Incumbent, now) {
            Ok(number) => {
                self.record.serving = number;
                self.save_record();
            }
            Err(error) => {
                tracing::error!(%error, "the committed version cannot be started");
                self.restart_at = Some(now + self.backoff.next(Duration::ZERO));
            }
        }
    }

    pub(super) fn save_record(&self) {
        if let Err(error) = record::save(&self.layout.record(), &self.record) {
            tracing::error!(%error, path = %self.layout.record().display(), "cannot be written");
        }
    }

    pub(super) fn save_workers(&self) {
        let workers: Vec<_> = self.generations.values().map(Generation::record).collect();
        if let Err(error) = record::save(&self.layout.workers(), &workers) {
            tracing::error!(%error, path = %self.layout.workers().display(), "cannot be written");
        }
    }

    pub(super) fn append_history(&self, entry: HistoryEntry) {
        if let Err(error) = record::append_history(&self.layout.history(), &entry) {
            tracing::error!(%error, path = %self.layout.history().display(), "cannot be written");
        }
    }
}

fn explain(generation: &Generation, ending: &Ending) -> String {
    match &generation.complaint {
        // A closed channel is only the shadow of the exit.
        Some(complaint) if !complaint.contains("closed the conversation") => {
            format!("{complaint} ({})", ending.text)
        }
        _ if generation.ready => ending.text.clone(),
        _ => format!("{} before it was ready", ending.text),
    }
}

/// What a level 1 program got at descriptor 3 and on, so that a later supervisor can take it back.
fn inherited_names(artifact: &Artifact, holder: &Holder) -> Vec<ListenerName> {
    if artifact.is_native() {
        return Vec::new();
    }
    holder.member_names()
}

pub(super) fn history(event: &str) -> HistoryEntry {
    HistoryEntry {
        at: rfc3339_now(),
        event: event.to_owned(),
        from_version: None,
        from_sha256: None,
        to_version: None,
        to_sha256: None,
        verdict: None,
        reason: None,
        duration_ms: None,
        restored_ms: None,
        phases: Vec::new(),
        generation: None,
        stayed: BTreeMap::new(),
        outcomes: None,
    }
}

/// 128 bits that only this supervisor and its worker know.
fn random_token() -> String {
    let bytes: [u8; 16] = ticket_keys::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
