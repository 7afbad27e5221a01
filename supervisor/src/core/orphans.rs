//! What a generation leaves behind when its main process ends: it may finish, as the generation may, and is ended.
//!
//! Holds  they are told to end at once, so that nobody of a version that left accepts for long; what served may finish
//!        to the end of its drain, what never served has seconds; the supervisor does not leave before them.

use std::time::{Duration, Instant};

use control::{HistoryEntry, LeftBehindStatus, Role};
use rustix::process::Signal;

use super::Core;
use super::generations::history;
use crate::child::{Ending, KILL_AFTER};
use crate::generation::Generation;
use crate::orphans::Orphans;

/// How often they are counted; it costs a look at everything that runs.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The rest of a generation.
#[derive(Debug)]
pub(super) struct LeftBehind {
    generation: u64,
    version: String,
    orphans: Orphans,
    processes: usize,
    kill_at: Instant,
    is_killed: bool,
    looked: Instant,
}

impl Core {
    /// The main process has ended; its ending says how many it left behind.
    pub(super) fn note_orphans(
        &mut self,
        number: u64,
        ending: Ending,
        mut orphans: Orphans,
        now: Instant,
    ) -> Ending {
        let processes = orphans.count();
        let Some(generation) = self.generations.get(&number).filter(|_| processes > 0) else {
            return ending;
        };
        let kill_at = self.end_of_orphans(generation, now);
        let text = format!("{}, and left {} behind", ending.text, in_words(processes));
        let within = kill_at.saturating_duration_since(now);
        tracing::warn!(
            generation = number,
            processes,
            ?within,
            "processes without their main process are told to end"
        );
        orphans.signal(Signal::TERM);
        self.left_behind.push(LeftBehind {
            generation: number,
            version: generation.artifact.version.clone(),
            orphans,
            processes,
            kill_at,
            is_killed: false,
            looked: now,
        });
        Ending { text, ..ending }
    }

    fn end_of_orphans(&self, generation: &Generation, now: Instant) -> Instant {
        match (generation.role, generation.kill_at) {
            (_, Some(at)) => at,
            // Its time was over: it was killed.
            (Role::Draining, None) => now,
            _ if generation.ready => now + self.settings.drain_timeout,
            // It never served: nothing to finish.
            _ => now + KILL_AFTER,
        }
    }

    pub(super) fn tick_orphans(&mut self, now: Instant) {
        let mut gone = Vec::new();
        for left in &mut self.left_behind {
            let is_due = now >= left.kill_at && !left.is_killed;
            if !is_due && now.saturating_duration_since(left.looked) < LOOK_INTERVAL {
                continue;
            }
            left.looked = now;
            let living = left.orphans.count();
            if is_due && living > 0 {
                tracing::warn!(
                    generation = left.generation,
                    processes = living,
                    "did not end in time: killed"
                );
                left.orphans.signal(Signal::KILL);
                left.is_killed = true;
            }
            // Not even the kernel can end what waits for a broken disk; nobody waits for it for ever.
            let is_lost = left.is_killed && now >= left.kill_at + KILL_AFTER;
            if living == 0 || is_lost {
                gone.push((left.generation, left.version.clone(), left.told(living)));
            } else if !left.is_killed {
                left.processes = left.processes.max(living);
            }
        }
        self.left_behind
            .retain(|left| !gone.iter().any(|(number, ..)| *number == left.generation));
        for (number, version, reason) in gone {
            tracing::info!(generation = number, reason, "left behind");
            self.append_history(HistoryEntry {
                from_version: Some(version),
                generation: Some(number),
                reason: Some(reason),
                ..history("left-behind")
            });
        }
    }

    /// Those that are there have this long, and no longer.
    pub(super) fn hurry_orphans(&mut self, within: Duration, now: Instant) {
        for left in &mut self.left_behind {
            left.kill_at = left.kill_at.min(now + within);
        }
    }

    pub(super) fn left_behind_status(&self, now: Instant) -> Vec<LeftBehindStatus> {
        let all = self.left_behind.iter();
        all.map(|left| LeftBehindStatus {
            generation: left.generation,
            version: left.version.clone(),
            processes: left.processes,
            killed_in_s: left.kill_at.saturating_duration_since(now).as_secs(),
        })
        .collect()
    }
}

impl LeftBehind {
    fn told(&self, living: usize) -> String {
        let how = match (self.is_killed, living) {
            (false, _) => "ended when told to",
            (true, 0) => "not ended in time, killed",
            (true, _) => "cannot be ended, not even by a kill",
        };
        let processes = in_words(self.processes);
        format!("its main process left {processes} behind; {how}")
    }
}

/// "1 process", "2 processes".
pub(super) fn in_words(processes: usize) -> String {
    match processes {
        1 => "1 process".to_owned(),
        _ => format!("{processes} processes"),
    }
}
