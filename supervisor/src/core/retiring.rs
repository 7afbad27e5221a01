//! Old generations are bounded in number and memory: the oldest finish sooner.

use std::time::{Duration, Instant};

use control::{HistoryEntry, Role};
use handoff::supervisor::Order;
use rustix::process::Signal;

use super::Core;
use super::generations::history;
use crate::child::KILL_AFTER;
use crate::generation::Generation;
use crate::retire::{Bounds, Old, RETIRE_WITHIN, retire};
use crate::usage;

/// How often that is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl Generation {
    /// Its drain is over sooner than it was promised.
    fn hurry(&mut self, within: Duration, now: Instant) {
        self.is_retired = true;
        if self.artifact.is_native() && self.orders.is_some() {
            self.order(Order::Drain { within });
        } else {
            self.process.signal(Signal::TERM);
        }
        let end = now + within + KILL_AFTER;
        self.kill_at = Some(self.kill_at.map_or(end, |at| at.min(end)));
    }
}

impl Core {
    pub(super) fn tick_retiring(&mut self, now: Instant) {
        if now.saturating_duration_since(self.last_retiring) < LOOK_INTERVAL || self.stopping {
            return;
        }
        self.last_retiring = now;
        // In the order of their numbers: oldest first.
        let draining = self
            .generations
            .values()
            .filter(|one| one.role == Role::Draining);
        let draining: Vec<Old> = draining
            .map(|one| Old {
                number: one.number,
                rss: usage::of(one.process.pid()).map(|usage| usage.rss_bytes),
                is_retired: one.is_retired,
            })
            .collect();
        let bounds = Bounds {
            number: self.settings.max_draining,
            memory: self.draining_memory,
        };
        for retirement in retire(&draining, bounds) {
            let (number, why) = (retirement.number, retirement.why);
            let Some(generation) = self.generations.get_mut(&number) else {
                continue;
            };
            generation.hurry(RETIRE_WITHIN, now);
            let version = generation.artifact.version.clone();
            let message = format!("generation {number} has {RETIRE_WITHIN:?} left: {why}");
            tracing::warn!(message);
            self.tell("remark", message.clone());
            self.append_history(HistoryEntry {
                from_version: Some(version),
                generation: Some(number),
                reason: Some(message),
                ..history("retired")
            });
        }
    }
}
