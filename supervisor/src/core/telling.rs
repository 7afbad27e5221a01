//! What is said about a swap: to the person who asked, to the history, to the log.
//!
//! Holds  the verdict that is told, remembered and returned as an exit code is one value.

use std::time::Instant;

use control::{Event as Told, HistoryEntry, Plan, Verdict};
use tokio::sync::mpsc;

use super::generations::history;
use super::{Core, moving, rfc3339_now};
use crate::tally::durations;

impl Core {
    pub(super) fn finish(&mut self, verdict: Verdict, now: Instant) {
        let Some(swap) = self.swap.take() else {
            return;
        };
        let duration = now.saturating_duration_since(swap.started);
        let restored_ms = swap
            .restored_after
            .map(|after| after.as_secs_f64() * 1000.0);
        self.tally.swap(verdict, duration);
        let to = swap.artifact.as_ref();
        let from = match verdict {
            Verdict::Committed => self.record.previous.clone(),
            _ => Some(self.record.committed.clone()),
        };
        let reason = (verdict != Verdict::Committed)
            .then(|| swap.reason.clone().unwrap_or_else(|| "unknown".to_owned()));
        self.append_history(HistoryEntry {
            from_version: from.as_ref().map(|artifact| artifact.version.clone()),
            from_sha256: from.map(|artifact| artifact.sha256),
            to_version: to.map(|artifact| artifact.version.clone()),
            to_sha256: to.map(|artifact| artifact.sha256.clone()),
            verdict: Some(verdict),
            reason: reason.clone(),
            duration_ms: u64::try_from(duration.as_millis()).ok(),
            restored_ms,
            phases: durations(&swap.phases, now),
            ..history(swap.kind)
        });
        let serving = self.record.committed.label();
        let moved = swap.moved.as_ref().map(moving::words);
        let message = match &reason {
            None => format!(
                "committed {serving} after {:.1} s{}",
                duration.as_secs_f64(),
                moved.map(|moved| format!("; {moved}")).unwrap_or_default()
            ),
            Some(reason) => format!("{verdict}: {reason}; {serving} serves"),
        };
        tracing::info!(message);
        let told = Told {
            verdict: Some(verdict),
            exit_code: Some(verdict.exit_code()),
            reason,
            version: to.map(|artifact| artifact.version.clone()),
            sha256: to.map(|artifact| artifact.sha256.clone()),
            generation: swap.successor,
            moved: swap.moved,
            restored_ms,
            ..self.event("finished", message)
        };
        self.broadcast(&swap.watchers, &told);
        if self.incumbent().is_none() {
            self.restart_committed(now);
        }
    }

    /// The first reason is the cause; later ones are its consequences.
    pub(super) fn set_reason(&mut self, reason: String) {
        if let Some(swap) = self.swap.as_mut() {
            swap.reason.get_or_insert(reason);
        }
    }

    pub(super) fn event(&self, event: &str, message: String) -> Told {
        Told {
            event: event.to_owned(),
            phase: self.phase_word().to_owned(),
            at: rfc3339_now(),
            message,
            ..Told::default()
        }
    }

    pub(super) fn tell(&self, event: &str, message: String) {
        self.tell_with(event, message, None);
    }

    pub(super) fn tell_with(&self, event: &str, message: String, plan: Option<Box<Plan>>) {
        let Some(swap) = self.swap.as_ref() else {
            return;
        };
        tracing::info!(event, message, "{}", swap.kind);
        let successor = swap
            .successor
            .and_then(|number| self.generations.get(&number));
        let now = Instant::now();
        let left = swap
            .bake_until
            .map(|until| until.saturating_duration_since(now));
        let told = Told {
            generation: swap.successor,
            version: swap
                .artifact
                .as_ref()
                .map(|artifact| artifact.version.clone()),
            sha256: swap
                .artifact
                .as_ref()
                .map(|artifact| artifact.sha256.clone()),
            pid: successor.map(|successor| successor.process.pid()),
            plan,
            moved: match event {
                "moving" | "moved" => swap.moved.clone(),
                _ => None,
            },
            canary: self.canary_status(),
            sides: match event {
                "progress" => self.sides(now),
                _ => Vec::new(),
            },
            remaining_ms: left.and_then(|left| u64::try_from(left.as_millis()).ok()),
            ..self.event(event, message)
        };
        self.broadcast(&swap.watchers, &told);
    }

    pub(super) fn broadcast(&self, watchers: &[mpsc::UnboundedSender<Told>], told: &Told) {
        for watcher in watchers {
            let _ = watcher.send(told.clone());
        }
        if let Some(webhook) = &self.webhook {
            webhook.tell(told);
        }
    }
}
