//! Replacing the supervisor itself: the running one's part, from the request to the exec.
//!
//! Holds  until the exec nothing is torn down: whatever goes wrong, this supervisor goes on as if nothing had been
//!        asked; in the middle of a swap, or while a worker cannot outlive it, it is not done at all.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use control::{Event as Told, HistoryEntry, Role, Verdict};
use tokio::sync::mpsc;

use super::generations::history;
use super::orphans::in_words;
use super::{Core, Happening, rfc3339_now};
use crate::adopt::{self, AdoptError};
use crate::carried::{Carried, CarriedGeneration, Clock, Descriptor, FORMAT};
use crate::doors::Doors;
use crate::image;
use crate::parcel::{self, ParcelError};
use crate::record::{self, Artifact};
use crate::store;

/// How long clients of the control socket may take to read what they were told.
///
/// If passed: they are cut by the exec; what they asked for is in the history.
const QUIET_DEADLINE: Duration = Duration::from_millis(500);

/// How long a worker that just starts, or a reload, may hold up the exec; after that it is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(20);

/// A self-upgrade that is running.
#[derive(Debug)]
pub(super) struct SelfUpgrade {
    pub(super) binary: String,
    pub(super) started: Instant,
    pub(super) since: String,
    /// Closed before the exec, so that nobody reads half an answer.
    pub(super) events: Option<mpsc::UnboundedSender<Told>>,
    pub(super) stage: Stage,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Stage {
    /// The next supervisor is copied, hashed, and looks at the state.
    Checking,
    /// Clients of the control socket leave.
    Closing {
        next: Artifact,
        quiet_by: Instant,
        give_up_at: Instant,
        /// Signals wait for the next one; those that came before are happenings by the next tick.
        holds_signals: bool,
    },
    /// This is the next supervisor: the workers return to it.
    Returning {
        from: Box<Artifact>,
        to: Box<Artifact>,
        expected: Vec<u64>,
    },
}

impl Core {
    pub(super) fn begin_self_upgrade(
        &mut self,
        binary: PathBuf,
        events: mpsc::UnboundedSender<Told>,
        now: Instant,
    ) {
        if let Some((verdict, reason)) = self.why_no_self_upgrade(now) {
            let _ = events.send(self.refusal(verdict, reason));
            return;
        }
        let message = format!("self-upgrade to {}", binary.display());
        self.self_upgrade = Some(SelfUpgrade {
            binary: binary.display().to_string(),
            started: now,
            since: rfc3339_now(),
            events: Some(events),
            stage: Stage::Checking,
        });
        self.tell_self_upgrade("requested", message, None);
        let mut rehearsal = self.carried(&Artifact::unknown());
        rehearsal.ticket_keys = handoff::TicketKeys::default();
        let state = serde_json::to_vec(&rehearsal).unwrap_or_default();
        let (store, happenings) = (self.layout.supervisors(), self.happenings.clone());
        let signature = self.settings.signature.clone();
        tokio::spawn(async move {
            // Known before the exec: afterwards nobody could tell any more.
            let _ = tokio::task::spawn_blocking(image::digest).await;
            let outcome = adopt::stage(binary, store, signature, state).await;
            let _ = happenings.send(Happening::NextStaged(Box::new(outcome)));
        });
    }

    fn why_no_self_upgrade(&self, now: Instant) -> Option<(Verdict, String)> {
        if let Some(swap) = &self.swap {
            return Some((
                Verdict::Busy,
                format!(
                    "{} to {} is running since {} (phase {}): the supervisor is not replaced in the middle of a swap; wait for it or `supervisor abort`",
                    swap.kind,
                    swap.binary,
                    swap.since,
                    self.phase.as_str(),
                ),
            ));
        }
        self.busy_with_self_upgrade()
            .map(|reason| (Verdict::Busy, reason))
            .or_else(|| Some((Verdict::Refused, self.why_not_now(now)?)))
    }

    /// For everybody else who wants to begin something.
    pub(super) fn busy_with_self_upgrade(&self) -> Option<String> {
        let running = self.self_upgrade.as_ref()?;
        Some(format!(
            "a self-upgrade to {} is running since {}; wait for it",
            running.binary, running.since
        ))
    }

    /// What would be lost by an exec at this moment.
    fn why_not_now(&self, now: Instant) -> Option<String> {
        if self.stopping {
            return Some("the supervisor is stopping".to_owned());
        }
        if self.expected_until.is_some() {
            return Some(
                "the supervisor has just started and still waits for its workers; try again in some seconds".to_owned(),
            );
        }
        if self.reloading_until.is_some_and(|until| now < until) {
            return Some("a reload is running; try again in a moment".to_owned());
        }
        if let Some(left) = self.left_behind_status(now).first() {
            return Some(format!(
                "generation {} left {} behind, to be killed in {} s: the next supervisor would not know of them; try again then",
                left.generation,
                in_words(left.processes),
                left.killed_in_s
            ));
        }
        self.generations.values().find_map(|one| match one.role {
            // Who never served does not outlive its supervisor.
            Role::Incumbent if one.artifact.is_native() && !one.ready => Some(format!(
                "generation {} is just starting; try again in a moment",
                one.number
            )),
            Role::Successor => Some(format!(
                "generation {} is left over from an incomplete rollback; upgrade or roll back first",
                one.number
            )),
            _ => None,
        })
    }

    pub(super) fn handle_next_staged(
        &mut self,
        outcome: Result<Artifact, AdoptError>,
        now: Instant,
    ) {
        let is_checking = |one: &SelfUpgrade| matches!(one.stage, Stage::Checking);
        if !self.self_upgrade.as_ref().is_some_and(is_checking) {
            return;
        }
        let next = match outcome {
            Ok(next) => next,
            Err(error) => return self.give_up_self_upgrade(error.to_string(), None, now),
        };
        if let Some(reason) = self.why_not_now(now) {
            return self.give_up_self_upgrade(reason, Some(&next), now);
        }
        let message = format!("staged {}; it can go on from here", next.label());
        self.tell_self_upgrade("staged", message, Some(&next));
        self.tell_self_upgrade(
            "handing-over",
            "this process becomes the new supervisor; its history tells how that ended".to_owned(),
            Some(&next),
        );
        if let Some(doors) = self.doors.as_mut() {
            doors.close();
        }
        if let Some(running) = self.self_upgrade.as_mut() {
            running.events = None;
            running.stage = Stage::Closing {
                next,
                quiet_by: now + QUIET_DEADLINE,
                give_up_at: now + GIVE_UP_AFTER,
                holds_signals: false,
            };
        }
    }

    /// Everything that has happened is handled; is it time to become the next one?
    pub(super) fn tick_self_upgrade(
        &mut self,
        inbox: &mut mpsc::UnboundedReceiver<Happening>,
        now: Instant,
    ) {
        if matches!(&self.self_upgrade, Some(one) if matches!(one.stage, Stage::Returning { .. })) {
            return self.tick_going_on(now);
        }
        if !self.is_quiet_for_exec(now) {
            return;
        }
        while let Ok(happening) = inbox.try_recv() {
            self.handle(happening, now);
        }
        // What was handled may have ended it (a stop).
        let Some(SelfUpgrade {
            stage: Stage::Closing {
                next, give_up_at, ..
            },
            ..
        }) = &self.self_upgrade
        else {
            return;
        };
        let (next, give_up_at) = (next.clone(), *give_up_at);
        let reason = match self.why_not_now(now) {
            Some(_) if now < give_up_at => return,
            Some(reason) => reason,
            None => self.become_next(&next, now),
        };
        self.give_up_self_upgrade(reason, Some(&next), now);
    }

    /// Clients have left, and no signal is on its way that this supervisor would have to obey.
    fn is_quiet_for_exec(&mut self, now: Instant) -> bool {
        let quiet = self.doors.as_ref().is_none_or(Doors::is_quiet);
        let Some(SelfUpgrade {
            stage:
                Stage::Closing {
                    quiet_by,
                    holds_signals,
                    ..
                },
            ..
        }) = self.self_upgrade.as_mut()
        else {
            return false;
        };
        if !quiet && now < *quiet_by {
            return false;
        }
        if !*holds_signals {
            image::hold_signals();
            *holds_signals = true;
            return false;
        }
        true
    }

    /// Does not come back, or with the reason why not.
    fn become_next(&self, next: &Artifact, now: Instant) -> String {
        tracing::info!(version = %next.label(), path = %next.path.display(), "becoming the next supervisor");
        let carried = self.carried(next);
        // If the next one dies before it has taken over, the one after it finds this and writes it down.
        let unfinished = HistoryEntry {
            verdict: Some(Verdict::RolledBack),
            reason: Some(UNFINISHED.to_owned()),
            ..self.self_upgrade_entry(&carried.from, next, now)
        };
        let _ = record::save(&self.layout.self_upgrade(), &unfinished);
        self.save_workers();
        self.notifier.watchdog();
        let error = match self.pack(carried) {
            Ok(parcel) => image::become_next(next.path.clone(), &parcel).to_string(),
            Err(error) => error.to_string(),
        };
        let _ = std::fs::remove_file(self.layout.self_upgrade());
        format!("{} cannot be executed: {error}", next.path.display())
    }

    fn pack(&self, mut carried: Carried) -> Result<std::os::fd::OwnedFd, ParcelError> {
        let mut all: Vec<(Descriptor, BorrowedFd<'_>)> = Vec::new();
        if let Some(doors) = &self.doors {
            all.push((Descriptor::Lock, doors.lock()));
            all.push((Descriptor::Control, doors.control()));
            all.push((Descriptor::Rendezvous, doors.rendezvous()));
        }
        for generation in self.generations.values() {
            if let Some(ears) = &generation.ears {
                all.push((Descriptor::Notify(generation.number), ears.socket()));
            }
        }
        let sockets = self.holder.sockets();
        all.extend(sockets.map(|(name, socket)| (Descriptor::Listener(name.clone()), socket)));
        carried.descriptors = all.iter().map(|(kind, _)| kind.to_text()).collect();
        let descriptors: Vec<BorrowedFd<'_>> = all.into_iter().map(|(_, fd)| fd).collect();
        let state = serde_json::to_vec(&carried).map_err(std::io::Error::from)?;
        parcel::pack(&state, &descriptors)
    }

    fn carried(&self, next: &Artifact) -> Carried {
        let clock = image::clock();
        let (ticket_keys, rotate_at) = self.ticket_keys.parts();
        let asked = self.self_upgrade.as_ref().map(|running| running.started);
        Carried {
            format: FORMAT.max,
            name: self.name.clone(),
            from: image::running(),
            to: next.clone(),
            asked_ns: clock.to_ns(asked.unwrap_or(clock.instant)),
            descriptors: Vec::new(),
            record: self.record.clone(),
            generations: self.carried_generations(clock),
            ticket_keys,
            rotate_ns: rotate_at.map(|at| clock.to_ns(at)),
            crashes: self.backoff.crashes(),
            crashes_total: self.crashes_total,
            swaps_total: self.swaps_total,
            restart_ns: self.restart_at.map(|at| clock.to_ns(at)),
            was_ready: self.was_ready,
        }
    }

    fn carried_generations(&self, clock: Clock) -> Vec<CarriedGeneration> {
        let all = self.generations.values();
        all.map(|generation| CarriedGeneration {
            worker: generation.record(),
            started_ns: clock.to_ns(generation.started),
            ready: generation.ready,
            accepting: generation.accepting,
            unclaimed: generation.unclaimed.clone(),
            stats: generation.stats.clone(),
            kill_ns: generation.kill_at.map(|at| clock.to_ns(at)),
        })
        .collect()
    }

    /// Goes on as if nothing had been asked.
    pub(super) fn give_up_self_upgrade(
        &mut self,
        reason: String,
        next: Option<&Artifact>,
        now: Instant,
    ) {
        image::hear_signals();
        if let Some(doors) = self.doors.as_mut()
            && let Err(error) = doors.serve()
        {
            tracing::error!(%error, "the control socket and the rendezvous are not served");
        }
        let unknown = Artifact::unknown();
        let running = image::running();
        store::prune(&self.layout.supervisors(), &[&running]);
        let entry = self.self_upgrade_entry(&running, next.unwrap_or(&unknown), now);
        tracing::warn!(reason, "the self-upgrade is refused; nothing has changed");
        self.append_history(HistoryEntry {
            verdict: Some(Verdict::Refused),
            reason: Some(reason.clone()),
            ..entry
        });
        let told = self.refusal(Verdict::Refused, reason);
        if let Some(events) = self.self_upgrade.take().and_then(|running| running.events) {
            let _ = events.send(told);
        }
    }

    /// The service stops: that is what counts.
    pub(super) fn stop_self_upgrade(&mut self, now: Instant) {
        let has_begun = |one: &SelfUpgrade| !matches!(one.stage, Stage::Returning { .. });
        if self.self_upgrade.as_ref().is_some_and(has_begun) {
            self.give_up_self_upgrade("the supervisor is stopping".to_owned(), None, now);
        }
    }

    pub(super) fn self_upgrade_entry(
        &self,
        from: &Artifact,
        to: &Artifact,
        now: Instant,
    ) -> HistoryEntry {
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let started = self.self_upgrade.as_ref().map(|running| running.started);
        let lasted = started.map(|started| now.saturating_duration_since(started).as_millis());
        HistoryEntry {
            from_version: known(&from.version),
            from_sha256: known(&from.sha256),
            to_version: known(&to.version),
            to_sha256: known(&to.sha256),
            duration_ms: lasted.and_then(|lasted| u64::try_from(lasted).ok()),
            ..history("self-upgrade")
        }
    }

    fn tell_self_upgrade(&self, event: &str, message: String, next: Option<&Artifact>) {
        tracing::info!(event, message, "self-upgrade");
        let told = Told {
            event: event.to_owned(),
            phase: self.phase_word().to_owned(),
            at: rfc3339_now(),
            message,
            version: next.map(|next| next.version.clone()),
            sha256: next.map(|next| next.sha256.clone()),
            pid: Some(std::process::id()),
            ..Told::default()
        };
        let running = self.self_upgrade.as_ref();
        if let Some(events) = running.and_then(|running| running.events.as_ref()) {
            let _ = events.send(told);
        }
    }
}

const UNFINISHED: &str = "the new supervisor did not take over (it ended, or what it was left did not reach it); one that began as after a crash takes the workers back";
