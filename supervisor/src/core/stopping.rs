//! The end: every generation finishes what it holds, then this process goes.

use std::time::Instant;

use super::{Core, Ended};
use crate::swap::Phase;

impl Core {
    /// First call: drain everything. Second call: now.
    pub(super) fn stop(&mut self, now: Instant) {
        if self.stopping {
            tracing::warn!("asked twice: every worker ends now");
            for generation in self.generations.values_mut() {
                generation.end(now);
            }
            self.hurry_orphans(crate::child::KILL_AFTER, now);
            return;
        }
        tracing::info!(within = ?self.settings.stop_timeout, "stopping");
        self.abort(now);
        self.stop_self_upgrade(now);
        self.stopping = true;
        if self.swap.is_some() {
            // Both generations leave; nobody waits for the incumbent to accept again.
            self.phase = Phase::Idle;
            self.finish(control::Verdict::RolledBack, now);
        }
        self.restart_at = None;
        self.notifier.stopping();
        let within = self.settings.stop_timeout;
        self.notifier
            .extend_timeout(within + crate::child::KILL_AFTER * 2);
        for generation in self.generations.values_mut() {
            generation.drain(within, now);
        }
        self.hurry_orphans(within, now);
    }

    pub(super) fn tick_stopping(&mut self) {
        if self.stopping && self.generations.is_empty() && self.left_behind.is_empty() {
            let _ = std::fs::remove_file(self.layout.workers());
            self.ended = Some(Ended::Stopped);
        }
    }
}
