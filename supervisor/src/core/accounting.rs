//! What is counted and remembered of generations that leave, and shown as metrics.

use std::collections::{BTreeMap, VecDeque};
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
pub(super) struct Departed(VecDeque<(u64, Leaver)>);

/// What ran, and which connections could not move.
type Leaver = (Artifact, BTreeMap<String, u64>);

/// Connections that finished, that were cut, and that moved.
type Account = (u64, u64, u64);

impl Departed {
    pub(super) fn remember(&mut self, number: u64, leaver: Leaver) {
        self.0.push_back((number, leaver));
        if self.0.len() > DEPARTED_MAX {
            self.0.pop_front();
        }
    }

    /// Forgets it, too: a generation is accounted for once.
    fn take(&mut self, number: u64) -> Option<Leaver> {
        let place = self.0.iter().position(|(known, _)| *known == number)?;
        self.0.remove(place).map(|(_, leaver)| leaver)
    }
}

impl Core {
    /// As [`Core::note_drained`], of a generation whose process has ended meanwhile.
    pub(super) fn note_drained_late(&mut self, number: u64, account: Account) {
        if let Some(leaver) = self.departed.take(number) {
            self.note_account(number, Some(leaver), account);
        }
    }

    /// A generation holds nothing any more: its connections are accounted for, once.
    pub(super) fn note_drained(&mut self, number: u64, account: Account) {
        let leaver = self.generations.get(&number);
        let leaver = leaver.map(|one| (one.artifact.clone(), one.stayed.clone()));
        self.note_account(number, leaver, account);
    }

    fn note_account(&mut self, number: u64, leaver: Option<Leaver>, account: Account) {
        let (finished, cut, moved) = account;
        tracing::info!(generation = number, finished, cut, moved, "drained");
        self.tally.drained(finished, cut, moved);
        let kept = self
            .generations
            .values()
            .filter(|generation| generation.number != number)
            .filter_map(|generation| generation.stats.as_ref())
            .map(|stats| stats.connections)
            .sum();
        let (artifact, stayed) = leaver.unzip();
        self.append_history(HistoryEntry {
            from_version: artifact.as_ref().map(|artifact| artifact.version.clone()),
            from_sha256: artifact.map(|artifact| artifact.sha256),
            generation: Some(number),
            stayed: stayed.unwrap_or_default(),
            outcomes: Some(Outcomes {
                kept,
                moved,
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
    use std::collections::BTreeMap;

    use super::{DEPARTED_MAX, Departed};
    use crate::record::Artifact;

    #[test]
    fn a_generation_is_accounted_for_once_and_few_are_remembered() {
        let mut departed = Departed::default();
        let last = u64::try_from(DEPARTED_MAX).expect("few");
        for number in 0..=last {
            departed.remember(number, (Artifact::unknown(), BTreeMap::new()));
        }
        assert!(departed.take(0).is_none(), "the oldest is forgotten");
        assert!(departed.take(last).is_some());
        assert!(departed.take(last).is_none());
    }
}
