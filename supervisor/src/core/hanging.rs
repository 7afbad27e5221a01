//! A worker that says nothing hangs: its clients wait for nothing, so it is ended and replaced.
//!
//! Holds  the supervisor's own sleep is nobody's silence: only time in which it was awake counts. A program without
//!        the native handoff gives no sign of life and is never blamed for that.

use std::time::{Duration, Instant};

use control::Role;
use rustix::process::Signal;

use super::{Core, TICK};
use crate::swap::Phase;

/// How long a successor may be silent in a canary or a bake. Sized: numbers come once a second.
const SUCCESSOR_SILENCE_MAX: Duration = Duration::from_secs(3);

impl Core {
    pub(super) fn tick_hanging(&mut self, now: Instant) {
        let slept = now.saturating_duration_since(self.last_tick);
        self.last_tick = now;
        // A tick that comes late was not the workers' fault.
        let awake = slept.min(TICK * 2);
        let is_tried = matches!(self.phase, Phase::Canary | Phase::Widening | Phase::Baking);
        let limit = self.settings.hang_timeout;
        let mut hung = None;
        for generation in self.generations.values_mut() {
            let serves =
                generation.artifact.is_native() && generation.orders.is_some() && generation.ready;
            if !serves {
                continue;
            }
            generation.silent += awake;
            let limit = match generation.role {
                Role::Incumbent => limit,
                Role::Successor if is_tried => SUCCESSOR_SILENCE_MAX.min(limit),
                Role::Successor | Role::Draining => continue,
            };
            if generation.silent >= limit {
                generation.silent = Duration::ZERO;
                let reason = format!("it said nothing for {limit:?}: it hangs");
                tracing::error!(generation = generation.number, reason, "killed");
                generation.complaint = Some(reason.clone());
                generation.process.signal(Signal::KILL);
                hung = Some((generation.role, reason));
            }
        }
        // The end of the process is a happening of its own; why, is known now.
        if let Some((Role::Successor, reason)) = hung {
            self.set_reason(format!("the successor: {reason}"));
        }
    }
}
