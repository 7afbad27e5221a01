//! Replacing the supervisor itself: the next one's part, from the state it was left to its line in the history.
//!
//! Holds  a worker's deadlines are the moments they were; a worker that serves is given time to come back, because
//!        it serves meanwhile; a marker that nobody removed is the story of a next one that died.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use control::{HistoryEntry, Role, Verdict};

use super::Core;
use super::generations::history;
use super::self_upgrade::{SelfUpgrade, Stage};
use crate::backoff::Backoff;
use crate::carried::{Carried, CarriedGeneration, Clock};
use crate::child::Process;
use crate::generation::Generation;
use crate::level1::{self, Ears};
use crate::{image, record, store};

/// How long a serving worker may take to return to a supervisor that was replaced (it looks five times a second).
///
/// If passed: it hangs, and is ended as after a crash of the supervisor. Sized: on a host under such load that
/// this is not enough, nobody would begin an upgrade.
const RETURN_DEADLINE: Duration = Duration::from_secs(30);

impl Core {
    /// In place of `find_living_workers`: everything is known.
    pub(crate) fn go_on_from(&mut self, carried: Carried, mut ears: BTreeMap<u64, OwnedFd>) {
        let clock = image::clock();
        let now = clock.instant;
        self.notifier.watchdog();
        let rotate_at = carried.rotate_ns.map(|ns| clock.to_instant(ns));
        self.ticket_keys.go_on_with(carried.ticket_keys, rotate_at);
        self.backoff = Backoff::after(carried.crashes);
        self.crashes_total = carried.crashes_total;
        self.swaps_total = carried.swaps_total;
        self.restart_at = carried.restart_ns.map(|ns| clock.to_instant(ns));
        self.was_ready = carried.was_ready;
        for generation in carried.generations {
            let socket = ears.remove(&generation.worker.generation);
            self.go_on_with(generation, socket, clock);
        }
        if !self.expected.is_empty() {
            self.expected_until = Some(now + RETURN_DEADLINE);
        }
        let has_incumbent = self.incumbent().is_some();
        if !has_incumbent {
            self.restart_at.get_or_insert(now);
        }
        let numbers = self.expected.iter().map(|worker| worker.generation);
        let expected = numbers.collect();
        tracing::info!(from = %carried.from.label(), to = %carried.to.label(), "this process is the next supervisor");
        self.self_upgrade = Some(SelfUpgrade {
            binary: carried.to.path.display().to_string(),
            started: clock.to_instant(carried.asked_ns),
            since: super::rfc3339_now(),
            events: None,
            stage: Stage::Returning {
                from: Box::new(carried.from),
                to: Box::new(carried.to),
                expected,
            },
        });
        // What was in memory is true; a write that the exec cut off may have left the disk behind.
        self.save_record();
        self.save_workers();
    }

    fn go_on_with(&mut self, carried: CarriedGeneration, socket: Option<OwnedFd>, clock: Clock) {
        let has_to_return = carried.has_to_return();
        let worker = carried.worker;
        let number = worker.generation;
        // A child that ended in between still waits to be reaped, so it is found and its exit is seen.
        let Some(process) = Process::find(worker.pid, worker.started) else {
            return self.note_gone(&worker, clock.instant);
        };
        if let Err(error) = self.watch(number, &process) {
            tracing::error!(%error, pid = worker.pid, "cannot be watched");
        }
        let ears = match worker.artifact.is_native() {
            true => None,
            false => self.listen_again(number, socket),
        };
        self.generations.insert(
            number,
            Generation {
                number,
                artifact: worker.artifact.clone(),
                role: worker.role,
                process,
                token: worker.token.clone(),
                started_ticks: worker.started,
                started: clock.to_instant(carried.started_ns),
                orders: None,
                ready: carried.ready,
                accepting: carried.accepting,
                divides: false,
                moves: 0,
                stayed: BTreeMap::new(),
                samples: VecDeque::new(),
                self_tests: Vec::new(),
                is_retired: false,
                silent: Duration::ZERO,
                unclaimed: carried.unclaimed,
                stats: carried.stats,
                complaint: None,
                lost_at: None,
                kill_at: carried.kill_ns.map(|ns| clock.to_instant(ns)),
                inherited: worker.inherited.clone(),
                health: None,
                ears,
            },
        );
        if has_to_return {
            self.expected.push(worker);
        }
    }

    fn listen_again(&self, number: u64, socket: Option<OwnedFd>) -> Option<Ears> {
        let happenings = self.happenings.clone();
        let heard = match socket {
            Some(socket) => level1::listen_on(socket, number, happenings),
            None => level1::listen(&self.layout.notify_socket(number), number, happenings),
        };
        heard
            .inspect_err(|error| tracing::error!(%error, generation = number, "it cannot be heard"))
            .ok()
    }

    /// Its end was seen by the predecessor, which had no time left to do something about it.
    fn note_gone(&mut self, worker: &record::WorkerRecord, now: Instant) {
        tracing::warn!(generation = worker.generation, role = %worker.role, "ended while the supervisor was replaced");
        if worker.role == Role::Incumbent {
            self.crashes_total += 1;
            self.restart_at.get_or_insert(now);
            self.append_history(HistoryEntry {
                to_version: Some(worker.artifact.version.clone()),
                to_sha256: Some(worker.artifact.sha256.clone()),
                reason: Some("it ended while the supervisor was replaced".to_owned()),
                ..history("crash")
            });
        }
    }

    /// Everybody is back (or will not be): the self-upgrade is over.
    pub(super) fn tick_going_on(&mut self, now: Instant) {
        if self.expected_until.is_some() {
            return;
        }
        let Some(running) = self.self_upgrade.as_ref() else {
            return;
        };
        let Stage::Returning { from, to, expected } = &running.stage else {
            return;
        };
        let is_back = |number: &&u64| {
            let generation = self.generations.get(number);
            generation.is_some_and(|generation| generation.orders.is_some())
        };
        let lost = expected.iter().filter(|number| !is_back(number)).count();
        let entry = HistoryEntry {
            verdict: Some(Verdict::Committed),
            reason: (lost > 0)
                .then(|| format!("{lost} of {} workers did not return", expected.len())),
            ..self.self_upgrade_entry(from, to, now)
        };
        tracing::info!(lasted_ms = entry.duration_ms, "the self-upgrade is done");
        store::prune(&self.layout.supervisors(), &[from, to]);
        self.append_history(entry);
        let _ = std::fs::remove_file(self.layout.self_upgrade());
        self.self_upgrade = None;
    }

    /// At a start that is no self-upgrade: whether there was one that did not come to its end.
    pub(super) fn note_unfinished_self_upgrade(&self) {
        let path = self.layout.self_upgrade();
        if let Ok(Some(entry)) = record::load::<HistoryEntry>(&path) {
            tracing::error!(
                reason = entry.reason,
                "a self-upgrade did not come to its end"
            );
            self.append_history(HistoryEntry {
                at: super::rfc3339_now(),
                ..entry
            });
        }
        let _ = std::fs::remove_file(path);
    }
}
