//! The deeds of the swap: what `swap.rs` decides is carried out here, in its order.

use std::time::{Duration, Instant};

use control::{Event as Told, Role, Verdict};
use handoff::Share;
use handoff::supervisor::Order;
use tokio::sync::mpsc;

use super::{Core, Happening, Swap, rfc3339_now};
use crate::canary::Canary;
use crate::planning;
use crate::record::{self, Artifact, Record};
use crate::requests::Terms;
use crate::store::{self, Purpose, StageError};
use crate::swap::{Action, Event, Phase};

/// How long staging may take: copy, hash, `--version` (5 s) and `check` (15 s), with their own deadlines.
const STAGING_DEADLINE: Duration = Duration::from_secs(60);

/// How long a worker may take to confirm that it accepts or stopped accepting.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// How long all tries of a self-test may take together; each has its own deadline of 5 s.
const SELF_TEST_DEADLINE: Duration = Duration::from_secs(30);

/// How long the incumbent may take to say what the successor should know.
///
/// If passed: the successor begins without. Sized: sealing 64 MiB takes a tenth of a second.
const STATE_DEADLINE: Duration = Duration::from_secs(2);

/// How long the verdict waits for connections to move; they go on moving after it. Sized: ten thousand take a quarter of a
/// second, and a successor that stands still is given up after one.
const MOVE_DEADLINE: Duration = Duration::from_secs(10);

/// How long the committed version may take to serve again when the incumbent is gone; after that the
/// rollback is called incomplete.
const REPLACE_DEADLINE: Duration = Duration::from_secs(30);

/// What to upgrade to.
#[derive(Debug)]
pub(super) enum Target {
    Binary(std::path::PathBuf),
    /// Only to be planned; never reaches `begin`.
    DryRun(std::path::PathBuf),
    /// Already in the store.
    Artifact(Artifact),
}

impl Core {
    /// Begins an upgrade; nothing else may be running.
    pub(super) fn begin(
        &mut self,
        kind: &'static str,
        target: Target,
        (terms, canary): (Terms, Canary),
        watcher: mpsc::UnboundedSender<Told>,
        now: Instant,
    ) {
        let binary = match &target {
            Target::Binary(path) | Target::DryRun(path) => path.display().to_string(),
            Target::Artifact(artifact) => artifact.path.display().to_string(),
        };
        self.swaps_total += 1;
        self.swap = Some(Swap {
            id: self.swaps_total,
            kind,
            binary: binary.clone(),
            bake: terms.bake.unwrap_or(self.settings.bake),
            canary,
            step: terms.step.unwrap_or(self.settings.canary_step),
            migrate: terms.migrate.unwrap_or(self.settings.migrate),
            moved: None,
            moved_percent: 0,
            ready_timeout: terms.ready_timeout.unwrap_or(self.settings.ready_timeout),
            artifact: match target {
                Target::Artifact(artifact) => Some(artifact),
                Target::Binary(_) | Target::DryRun(_) => None,
            },
            successor: None,
            bound: handoff::Listeners::new(),
            former: None,
            started: now,
            since: rfc3339_now(),
            deadline: None,
            opened_at: None,
            baking_since: None,
            bake_until: None,
            accepted_before: (0, 0),
            suspect_since: None,
            paused: None,
            paused_at: None,
            accepts_findings: false,
            restoring_since: None,
            restored_after: None,
            last_progress: now,
            phases: Vec::new(),
            reason: None,
            watchers: vec![watcher],
        });
        if self.incumbent().is_none() {
            // The committed version keeps dying: this upgrade is the cure, not to be disturbed by it.
            self.restart_at = None;
        }
        self.advance(Event::Requested, now);
    }

    /// One step of the table, and its actions.
    pub(super) fn advance(&mut self, event: Event, now: Instant) {
        let (phase, actions) = match self.phase.on(event) {
            Ok(step) => step,
            Err(refused) => {
                tracing::error!(%refused, "the swap's table has no such step");
                return;
            }
        };
        tracing::debug!(from = ?self.phase, ?event, to = ?phase, ?actions, "swap");
        self.phase = phase;
        if let Some(swap) = self.swap.as_mut() {
            swap.deadline = deadline_of(phase, swap).map(|within| now + within);
            swap.phases.push((phase.as_str(), now));
        }
        #[cfg(debug_assertions)]
        self.strike();
        for action in actions {
            self.act(*action, now);
        }
        // Somebody whom this step has brought to life.
        #[cfg(debug_assertions)]
        self.strike();
    }

    /// The fault that a test wants in this step.
    #[cfg(debug_assertions)]
    fn strike(&mut self) {
        use crate::faults::Who;
        let (phase, mut faults) = (self.phase, std::mem::take(&mut self.faults));
        faults.strike(phase, |who| match who {
            Who::Supervisor => Some(std::process::id()),
            Who::Successor => self.successor().map(|one| one.process.pid()),
            Who::Incumbent => {
                let mut all = self.generations.values();
                let incumbent = all.find(|one| one.role == Role::Incumbent);
                incumbent.map(|one| one.process.pid())
            }
        });
        self.faults = faults;
    }

    fn act(&mut self, action: Action, now: Instant) {
        match action {
            Action::Stage => self.stage(),
            Action::SpawnSuccessor => self.spawn_successor(now),
            Action::SelfTest => self.run_self_test(now),
            Action::ShareState => self.share_state(now),
            Action::ResumeSuccessor => self.resume_successor(now),
            Action::PauseIncumbent => self.pause_incumbent(now),
            Action::StartBake => self.start_bake(now),
            Action::WriteRecord => self.write_record(),
            Action::MoveConnections => self.move_connections(now),
            Action::MoveBack => self.move_back(),
            Action::DrainIncumbent => self.drain_incumbent(now),
            Action::CloseUnclaimed => self.close_unclaimed(),
            Action::RestoreIncumbent => self.restore_incumbent(now),
            Action::EndIncumbent => self.end_incumbent(now),
            Action::DrainSuccessor => self.drain_successor(now),
            Action::RestartCommitted => self.restart_committed(now),
            Action::TellCommitted => self.finish(Verdict::Committed, now),
            Action::TellRefused => self.finish(Verdict::Refused, now),
            Action::TellRolledBack => self.finish(Verdict::RolledBack, now),
            Action::TellIncomplete => self.finish(Verdict::RollbackIncomplete, now),
        }
    }

    fn stage(&mut self) {
        let Some(swap) = self.swap.as_ref() else {
            return;
        };
        self.tell("requested", format!("{} to {}", swap.kind, swap.binary));
        let (id, happenings) = (swap.id, self.happenings.clone());
        if let Some(artifact) = swap.artifact.clone() {
            let _ = happenings.send(Happening::Staged(id, Ok(artifact)));
            return;
        }
        let purpose = Purpose {
            store: self.layout.store(),
            args: self.args.clone(),
            service: Some(self.record.committed.service.clone()),
            signature: self.settings.signature.clone(),
        };
        let binary = swap.binary.clone().into();
        let known = self.now_for_plan(Instant::now());
        tokio::spawn(async move {
            let (plan, outcome) = planning::stage(binary, purpose, known).await;
            if let Some(plan) = plan {
                let _ = happenings.send(Happening::Planned(id, Box::new(plan)));
            }
            let _ = happenings.send(Happening::Staged(id, outcome));
        });
    }

    pub(super) fn handle_staged(
        &mut self,
        id: u64,
        outcome: Result<Artifact, StageError>,
        now: Instant,
    ) {
        // The upgrade may have been aborted meanwhile, and another one begun.
        if self.phase != Phase::Staging || !self.is_current(id) {
            return;
        }
        match outcome {
            Ok(artifact) => {
                let message = format!("staged {}", artifact.label());
                if let Some(swap) = self.swap.as_mut() {
                    swap.artifact = Some(artifact);
                }
                self.tell("staged", message);
                self.advance(Event::Staged, now);
            }
            Err(error) => {
                self.set_reason(error.to_string());
                self.advance(Event::StageFailed, now);
            }
        }
    }

    fn spawn_successor(&mut self, now: Instant) {
        let Some(artifact) = self.swap.as_ref().and_then(|swap| swap.artifact.clone()) else {
            return;
        };
        match self.spawn(&artifact, Role::Successor, now) {
            Ok(number) => {
                if let Some(swap) = self.swap.as_mut() {
                    swap.successor = Some(number);
                }
                self.tell("started", format!("generation {number} starts"));
            }
            Err(error) => {
                self.set_reason(error.to_string());
                self.advance(Event::SuccessorGone, now);
            }
        }
    }

    fn write_record(&mut self) {
        let Some(swap) = self.swap.as_mut() else {
            return;
        };
        let (Some(artifact), Some(serving)) = (swap.artifact.clone(), swap.successor) else {
            return;
        };
        swap.former = Some(self.record.clone());
        let id = swap.id;
        let previous = if artifact.sha256 == self.record.committed.sha256 {
            self.record.previous.clone()
        } else {
            Some(self.record.committed.clone())
        };
        let record = Record {
            committed: artifact,
            previous,
            generation: self.record.generation,
            serving,
        };
        let (path, happenings) = (self.layout.record(), self.happenings.clone());
        self.record = record.clone();
        tokio::task::spawn_blocking(move || {
            let outcome = record::save(&path, &record);
            let _ = happenings.send(Happening::RecordWritten(id, outcome));
        });
    }

    pub(super) fn handle_record_written(
        &mut self,
        id: u64,
        outcome: std::io::Result<()>,
        now: Instant,
    ) {
        if self.phase != Phase::Committing || !self.is_current(id) {
            // Rolled back while it was being written: what is in memory is true, the disk is behind.
            return self.save_record();
        }
        match outcome {
            Ok(()) => self.advance(Event::RecordWritten, now),
            Err(error) => {
                self.set_reason(format!("the record cannot be written: {error}"));
                self.advance(Event::RecordFailed, now);
            }
        }
    }

    fn close_unclaimed(&mut self) {
        let Some(swap) = self.swap.as_mut() else {
            return;
        };
        let bound = std::mem::take(&mut swap.bound);
        let successor = swap
            .successor
            .and_then(|number| self.generations.get_mut(&number));
        let unclaimed = successor.map(|successor| std::mem::take(&mut successor.unclaimed));
        for name in unclaimed.unwrap_or_default() {
            tracing::info!(listener = %name, "the new version has no use for it: closed");
            self.holder.close(&name);
        }
        self.holder.take_over(bound);
    }

    fn drain_incumbent(&mut self, now: Instant) {
        let within = self.settings.drain_timeout;
        let successor = self.swap.as_ref().and_then(|swap| swap.successor);
        for generation in self.generations.values_mut() {
            if generation.role != Role::Draining && Some(generation.number) != successor {
                generation.drain(within, now);
            }
        }
        if let Some(successor) = successor.and_then(|number| self.generations.get_mut(&number)) {
            successor.role = Role::Incumbent;
        }
        self.save_workers();
        let kept: Vec<Artifact> = self
            .generations
            .values()
            .map(|generation| generation.artifact.clone())
            .chain([self.record.committed.clone()])
            .chain(self.record.previous.clone())
            .collect();
        store::prune(&self.layout.store(), &kept.iter().collect::<Vec<_>>());
    }

    fn restore_incumbent(&mut self, now: Instant) {
        if let Some(swap) = self.swap.as_mut() {
            swap.paused = None;
            swap.restoring_since = Some(now);
        }
        self.tell(
            "rolling-back",
            "the incumbent is asked to accept again".to_owned(),
        );
        self.undo_record();
        match self.incumbent() {
            Some(incumbent) if incumbent.artifact.is_native() => {
                incumbent.order(Order::Accept(Share::ALL))
            }
            Some(_) => self.advance(Event::IncumbentAccepting, now),
            None => self.restart_committed(now),
        }
    }

    /// The record in memory may already name the successor; the file on disk may, too.
    fn undo_record(&mut self) {
        let former = self.swap.as_mut().and_then(|swap| swap.former.take());
        if let Some(former) = former {
            self.record = Record {
                generation: self.record.generation,
                ..former
            };
            self.save_record();
        }
    }

    pub(super) fn is_current(&self, id: u64) -> bool {
        self.swap.as_ref().is_some_and(|swap| swap.id == id)
    }

    /// Its end is a happening of its own; the committed version starts then.
    fn end_incumbent(&mut self, now: Instant) {
        match self.incumbent() {
            Some(incumbent) => {
                tracing::error!(
                    pid = incumbent.process.pid(),
                    "the incumbent does not answer: killed"
                );
                incumbent.process.signal(rustix::process::Signal::KILL);
            }
            None => self.restart_committed(now),
        }
    }

    pub(super) fn restart_committed(&mut self, now: Instant) {
        self.restart_at.get_or_insert(now);
    }

    fn drain_successor(&mut self, now: Instant) {
        let within = self.settings.drain_timeout;
        let number = self.swap.as_ref().and_then(|swap| swap.successor);
        if let Some(successor) = number.and_then(|number| self.generations.get_mut(&number)) {
            successor.drain(within, now);
        }
        self.save_workers();
    }

    /// Deadlines and progress of the running swap.
    pub(super) fn tick_swap(&mut self, now: Instant) {
        let phase = self.phase;
        let Some(swap) = self.swap.as_mut() else {
            return;
        };
        if matches!(phase, Phase::Baking | Phase::Canary) {
            return self.tick_bake(now);
        }
        if swap.deadline.is_some_and(|deadline| now >= deadline) {
            if phase == Phase::Sharing {
                self.remark_missing_state(&format!("no answer within {STATE_DEADLINE:?}"));
                return self.advance(Event::Expired, now);
            }
            if phase == Phase::Moving {
                self.remark_slow_move();
                return self.advance(Event::Expired, now);
            }
            let waited = now.saturating_duration_since(swap.started);
            let within = swap.ready_timeout;
            let reason = match phase {
                Phase::Starting => format!(
                    "the successor did not become ready within {within:?}{}",
                    self.why_unhealthy()
                ),
                other => format!("{} took too long ({waited:.1?})", other.as_str()),
            };
            self.set_reason(reason);
            self.advance_if_allowed(Event::Expired, now);
        }
    }

    pub(super) fn abort(&mut self, now: Instant) -> bool {
        if self.phase.on(Event::Aborted).is_err() {
            return false;
        }
        self.set_reason("aborted by a person".to_owned());
        self.advance(Event::Aborted, now);
        true
    }
}

fn deadline_of(phase: Phase, swap: &Swap) -> Option<Duration> {
    match phase {
        Phase::Idle | Phase::Canary | Phase::Baking => None,
        Phase::Staging => Some(STAGING_DEADLINE),
        Phase::Starting => Some(swap.ready_timeout),
        Phase::SelfTesting => Some(SELF_TEST_DEADLINE),
        Phase::Sharing => Some(STATE_DEADLINE),
        Phase::Opening
        | Phase::Widening
        | Phase::Parking
        | Phase::Committing
        | Phase::Restoring => Some(ANSWER_DEADLINE),
        Phase::Moving => Some(MOVE_DEADLINE),
        Phase::Replacing => Some(REPLACE_DEADLINE),
    }
}
