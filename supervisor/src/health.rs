//! What a generation without the native handoff answers at the health URL, and what is known from that.
//!
//! ```text
//!   round ──connects──▶ the port that both generations share ──▶ whoever accepts
//!     └── witness: whose process holds the other end of this connection? only its own answers count for a generation
//! ```
//!
//! Room  pure: findings in, what is known out; no clock is asked.
//! In    what each round found. Out  when the next is due, words for a person, numbers for a verdict.
//! Holds no answer is never a healthy one: it is bad where the generation accepted, and absent where it did not.

pub(crate) mod round;
pub(crate) mod sockets;
pub(crate) mod url;
pub(crate) mod witness;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use control::HealthStatus;

/// Healthy answers whose times are kept. Sized: two minutes of a swap, at one a second.
const LATENCIES_MAX: usize = 120;

/// What one round of tries found out about one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It answered well; how long that took from the end of the request.
    Healthy(Duration),
    /// It accepted, and answered otherwise or not in time.
    Unhealthy(String),
    /// None of the connections was accepted by it, as far as could be seen.
    Absent(String),
}

/// Everything that is known of one generation.
#[derive(Debug, Default)]
pub(crate) struct Health {
    pub(crate) last: Option<Finding>,
    /// Of unhealthy answers and of absences, since the last of the other kind.
    pub(crate) failures_in_a_row: u64,
    pub(crate) absences_in_a_row: u64,
    pub(crate) healthy: u64,
    pub(crate) unhealthy: u64,
    pub(crate) absent: u64,
    /// Of healthy answers, oldest first.
    pub(crate) latencies: VecDeque<(Instant, Duration)>,
    looked: Option<Instant>,
    is_looking: bool,
}

impl Health {
    /// True when the next round is due; it has begun then, and is over with [`Self::note`].
    pub(crate) fn begin(&mut self, interval: Duration, now: Instant) -> bool {
        let rests = self
            .looked
            .is_some_and(|at| now.saturating_duration_since(at) < interval);
        if self.is_looking || rests {
            return false;
        }
        self.is_looking = true;
        true
    }

    /// True when this finding says something else than the one before.
    pub(crate) fn note(&mut self, finding: Finding, now: Instant) -> bool {
        self.is_looking = false;
        self.looked = Some(now);
        match &finding {
            Finding::Healthy(took) => {
                self.healthy += 1;
                (self.failures_in_a_row, self.absences_in_a_row) = (0, 0);
                if self.latencies.len() >= LATENCIES_MAX {
                    self.latencies.pop_front();
                }
                self.latencies.push_back((now, *took));
            }
            Finding::Unhealthy(_) => {
                self.unhealthy += 1;
                self.failures_in_a_row += 1;
                self.absences_in_a_row = 0;
            }
            // It says nothing about the answers before: they stay as good or bad as they were.
            Finding::Absent(_) => {
                self.absent += 1;
                self.absences_in_a_row += 1;
            }
        }
        let word = |finding: &Finding| std::mem::discriminant(finding);
        let is_news = self.last.as_ref().map(word) != Some(word(&finding));
        self.last = Some(finding);
        is_news
    }

    /// Why it is not healthy, if that is known.
    pub(crate) fn complaint(&self) -> Option<&str> {
        match self.last.as_ref()? {
            Finding::Healthy(_) => None,
            Finding::Unhealthy(reason) | Finding::Absent(reason) => Some(reason),
        }
    }

    /// Half of its last healthy answers took no longer.
    pub(crate) fn median(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.latencies.iter().map(|(_, took)| *took).collect();
        sorted.sort_unstable();
        sorted.get(sorted.len().checked_sub(1)? / 2).copied()
    }

    pub(crate) fn status(&self, now: Instant) -> HealthStatus {
        let outcome = match &self.last {
            Some(Finding::Healthy(_)) => "healthy",
            Some(Finding::Unhealthy(_)) => "unhealthy",
            Some(Finding::Absent(_)) => "absent",
            None => "unknown",
        };
        let age = self.looked.map(|at| now.saturating_duration_since(at));
        HealthStatus {
            outcome: outcome.to_owned(),
            reason: self.complaint().unwrap_or_default().to_owned(),
            failures_in_a_row: self.failures_in_a_row,
            absences_in_a_row: self.absences_in_a_row,
            healthy_total: self.healthy,
            unhealthy_total: self.unhealthy,
            absent_total: self.absent,
            latency_ms: self.median().map(|took| took.as_secs_f64() * 1000.0),
            age_s: age.unwrap_or_default().as_secs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Finding, Health, LATENCIES_MAX};

    const SECOND: Duration = Duration::from_secs(1);

    fn healthy(ms: u64) -> Finding {
        Finding::Healthy(Duration::from_millis(ms))
    }

    fn bad() -> Finding {
        Finding::Unhealthy("500".to_owned())
    }

    fn absent() -> Finding {
        Finding::Absent("nobody".to_owned())
    }

    #[test]
    fn findings_are_counted_and_rows_end_where_they_should() {
        // Findings, then: in a row unhealthy, in a row absent, all of each kind, the word.
        let table: [(&[Finding], [u64; 5], &str); 7] = [
            (&[], [0, 0, 0, 0, 0], "unknown"),
            (&[healthy(1)], [0, 0, 1, 0, 0], "healthy"),
            (&[bad(), bad()], [2, 0, 0, 2, 0], "unhealthy"),
            (&[bad(), healthy(1)], [0, 0, 1, 1, 0], "healthy"),
            (&[bad(), absent()], [1, 1, 0, 1, 1], "absent"),
            (&[absent(), absent(), bad()], [1, 0, 0, 1, 2], "unhealthy"),
            (&[absent(), bad(), healthy(9)], [0, 0, 1, 1, 1], "healthy"),
        ];
        for (findings, expected, word) in table {
            let now = Instant::now();
            let mut health = Health::default();
            for finding in findings {
                health.note(finding.clone(), now);
            }
            let told = health.status(now + SECOND * 3);
            let counts = [
                told.failures_in_a_row,
                told.absences_in_a_row,
                told.healthy_total,
                told.unhealthy_total,
                told.absent_total,
            ];
            assert_eq!((counts, told.outcome.as_str()), (expected, word));
            assert_eq!(
                told.reason.is_empty(),
                matches!(word, "healthy" | "unknown")
            );
            assert_eq!(told.age_s, if findings.is_empty() { 0 } else { 3 });
        }
    }

    #[test]
    fn a_round_is_due_after_its_interval_and_never_while_one_runs() {
        let now = Instant::now();
        let mut health = Health::default();
        assert!(health.begin(SECOND, now), "the first is due at once");
        assert!(!health.begin(SECOND, now + SECOND * 9), "one runs");
        health.note(healthy(1), now + SECOND * 9);
        assert!(!health.begin(SECOND, now + SECOND * 9));
        assert!(health.begin(SECOND, now + SECOND * 10));
    }

    #[test]
    fn only_another_kind_of_finding_is_news() {
        let mut health = Health::default();
        let news = [healthy(1), healthy(2), bad(), bad(), absent(), healthy(1)]
            .map(|finding| health.note(finding, Instant::now()));
        assert_eq!(news, [true, false, true, false, true, true]);
    }

    #[test]
    fn the_median_is_of_the_last_answers_only() {
        let mut health = Health::default();
        assert_eq!(health.median(), None);
        for (ms, expected) in [(9, 9), (1, 1), (5, 5), (3, 3)] {
            health.note(healthy(ms), Instant::now());
            assert_eq!(health.median(), Some(Duration::from_millis(expected)));
        }
        for _ in 0..LATENCIES_MAX {
            health.note(healthy(7), Instant::now());
        }
        assert_eq!(health.latencies.len(), LATENCIES_MAX);
        assert_eq!(health.median(), Some(Duration::from_millis(7)));
    }
}
