//! What is counted and remembered of generations that leave, and shown as metrics.

use std::time::Instant;

use control::{HistoryEntry, Outcomes};

use super::Core;
use super::generations::history;
use crate::metrics::Snapshot;

impl Core {
    /// A generation holds nothing any more: its connections are accounted for, once.
    pub(super) fn note_drained(&mut self, number: u64, finished: u64, cut: u64) {
        tracing::info!(generation = number, finished, cut, "drained");
        self.tally.drained(finished, cut);
        let kept = self
            .generations
            .values()
            .filter(|generation| generation.number != number)
            .filter_map(|generation| generation.stats.as_ref())
            .map(|stats| stats.connections)
            .sum();
        let artifact = self.generations.get(&number).map(|one| &one.artifact);
        self.append_history(HistoryEntry {
            from_version: artifact.map(|artifact| artifact.version.clone()),
            from_sha256: artifact.map(|artifact| artifact.sha256.clone()),
            generation: Some(number),
            outcomes: Some(Outcomes {
                kept,
                // Established connections stay where they are, until they end.
                moved: 0,
                drained: finished,
                cut,
            }),
            ..history("drained")
        });
    }

    pub(super) fn snapshot(&self, now: Instant) -> Snapshot {
        Snapshot {
            status: self.status(now),
            tally: self.tally.clone(),
        }
    }
}
