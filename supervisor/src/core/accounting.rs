//! What is counted and remembered of generations that leave, and shown as metrics.

use std::collections::VecDeque;
use std::time::Instant;

use control::{HistoryEntry, Outcomes};

use super::Core;
use super::generations::history;
use crate::metrics::Snapshot;
use crate::record::Artifact;

/// Generations that are remembered. Sized: more than end at the same time.
const DEPARTED_MAX: usize = 16;

/// Generations whose process has ended before its last word was read: the exit and the conversation are waited for by two
/// tasks, and either may be first.
#[derive(Debug, Default)]
pub(super) struct Departed(VecDeque<(u64, Artifact)>);

impl Departed {
    pub(super) fn remember(&mut self, number: u64, artifact: Artifact) {
        self.0.push_back((number, artifact));
        if self.0.len() > DEPARTED_MAX {
            self.0.pop_front();
        }
    }

    /// Forgets it, too: a generation is accounted for once.
    fn take(&mut self, number: u64) -> Option<Artifact> {
        let place = self.0.iter().position(|(known, _)| *known == number)?;
        self.0.remove(place).map(|(_, artifact)| artifact)
    }
}

impl Core {
    /// As [`Core::note_drained`], of a generation whose process has ended meanwhile.
    pub(super) fn note_drained_late(&mut self, number: u64, finished: u64, cut: u64) {
        if let Some(artifact) = self.departed.take(number) {
            self.note_account(number, Some(artifact), finished, cut);
        }
    }

    /// A generation holds nothing any more: its connections are accounted for, once.
    pub(super) fn note_drained(&mut self, number: u64, finished: u64, cut: u64) {
        let artifact = self.generations.get(&number);
        let artifact = artifact.map(|generation| generation.artifact.clone());
        self.note_account(number, artifact, finished, cut);
    }

    fn note_account(&mut self, number: u64, artifact: Option<Artifact>, finished: u64, cut: u64) {
        tracing::info!(generation = number, finished, cut, "drained");
        self.tally.drained(finished, cut);
        let kept = self
            .generations
            .values()
            .filter(|generation| generation.number != number)
            .filter_map(|generation| generation.stats.as_ref())
            .map(|stats| stats.connections)
            .sum();
        let artifact = artifact.as_ref();
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

#[cfg(test)]
mod tests {
    use super::{DEPARTED_MAX, Departed};
    use crate::record::Artifact;

    #[test]
    fn a_generation_is_accounted_for_once_and_few_are_remembered() {
        let mut departed = Departed::default();
        let last = u64::try_from(DEPARTED_MAX).expect("few");
        for number in 0..=last {
            departed.remember(number, Artifact::unknown());
        }
        assert!(departed.take(0).is_none(), "the oldest is forgotten");
        assert!(departed.take(last).is_some());
        assert!(departed.take(last).is_none());
    }
}
