//! What is counted over the life of a supervisor, and how long each phase of a swap took.
//!
//! Room  pure: values; the loop in `core` reports, `metrics` and the history show.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use control::{PhaseTime, Verdict};

/// Counts since this supervisor started.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    /// Swaps that ended, by the word of their verdict.
    pub(crate) swaps: BTreeMap<&'static str, u64>,
    pub(crate) last_swap: Option<Duration>,
    /// Connections of generations that left: ended by themselves, ended by us.
    pub(crate) finished: u64,
    pub(crate) cut: u64,
    /// Connections that another generation serves since.
    pub(crate) moved: u64,
    /// Connections that could not move when others did, by reason.
    pub(crate) stayed: BTreeMap<String, u64>,
}

/// Reasons that are told apart; a listener's name may be in one. Sized: more than there are, and no scrape's burden.
const REASONS_MAX: usize = 32;

impl Tally {
    /// A swap ended.
    pub(crate) fn swap(&mut self, verdict: Verdict, took: Duration) {
        let count = self.swaps.entry(word(verdict)).or_default();
        *count = count.saturating_add(1);
        self.last_swap = Some(took);
    }

    /// A move is over, and these connections are where they were.
    pub(crate) fn stayed(&mut self, by_reason: &BTreeMap<String, u64>) {
        for (why, count) in by_reason {
            let is_known = self.stayed.contains_key(why) || self.stayed.len() < REASONS_MAX;
            let why = if is_known { why.as_str() } else { "other" };
            let sum = self.stayed.entry(why.to_owned()).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// A generation left.
    pub(crate) fn drained(&mut self, finished: u64, cut: u64, moved: u64) {
        self.moved = self.moved.saturating_add(moved);
        self.finished = self.finished.saturating_add(finished);
        self.cut = self.cut.saturating_add(cut);
    }
}

/// The verdict as a label, as in `--json`.
pub(crate) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Committed => "committed",
        Verdict::Paused => "paused",
        Verdict::RolledBack => "rolled-back",
        Verdict::RollbackIncomplete => "rollback-incomplete",
        Verdict::Busy => "busy",
        Verdict::Refused => "refused",
        Verdict::Allowed => "allowed",
    }
}

/// Every phase with its duration, in order; neighbours of one name are one phase, being idle is none.
pub(crate) fn durations(entered: &[(&'static str, Instant)], end: Instant) -> Vec<PhaseTime> {
    let mut phases: Vec<(&str, Duration)> = Vec::new();
    for (index, (phase, since)) in entered.iter().enumerate() {
        let until = entered.get(index + 1).map_or(end, |(_, until)| *until);
        let took = until.saturating_duration_since(*since);
        match phases.last_mut() {
            Some((last, sum)) if last == phase => *sum += took,
            _ => phases.push((phase, took)),
        }
    }
    phases
        .into_iter()
        .filter(|(phase, _)| *phase != "idle")
        .map(|(phase, took)| PhaseTime {
            phase: phase.to_owned(),
            ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use control::Verdict;

    use super::{Tally, durations, word};

    #[test]
    fn phases_follow_each_other_without_a_gap() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let entered = [
            ("staging", at(0)),
            ("rolling-back", at(30)),
            ("rolling-back", at(40)),
            ("idle", at(100)),
        ];
        let phases: Vec<_> = durations(&entered, at(150))
            .into_iter()
            .map(|phase| (phase.phase, phase.ms))
            .collect();
        assert_eq!(
            phases,
            [("staging".to_owned(), 30), ("rolling-back".to_owned(), 70)]
        );
        assert!(durations(&[], start).is_empty());
    }

    #[test]
    fn a_tally_counts_and_never_overflows() {
        let mut tally = Tally::default();
        tally.drained(u64::MAX, 1, 3);
        tally.drained(5, 2, 4);
        assert_eq!((tally.finished, tally.cut), (u64::MAX, 3));
        for number in 0..100 {
            tally.stayed(&[(format!("reason {number}"), 2)].into());
        }
        assert_eq!(tally.stayed.len(), super::REASONS_MAX + 1);
        assert_eq!(tally.stayed.values().sum::<u64>(), 200);
        tally.swap(Verdict::Committed, Duration::from_secs(3));
        tally.swap(Verdict::Committed, Duration::from_secs(4));
        assert_eq!(tally.swaps.get("committed"), Some(&2));
        assert_eq!(tally.last_swap, Some(Duration::from_secs(4)));
    }

    #[test]
    fn a_verdict_is_called_as_in_json() {
        for verdict in [
            Verdict::Committed,
            Verdict::Paused,
            Verdict::RolledBack,
            Verdict::RollbackIncomplete,
            Verdict::Busy,
            Verdict::Refused,
        ] {
            let json = serde_json::to_string(&verdict).expect("a word");
            assert_eq!(json, format!("\"{}\"", word(verdict)));
        }
    }
}
