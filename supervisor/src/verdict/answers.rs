//! What a successor that tells no numbers itself answered at the health URL, beside the incumbent's answers.
//!
//! Room  pure.
//! Holds a single bad answer is chance and no answer at all is not a good one; times are compared only where both
//!       answered often enough for a median.

use std::time::Duration;

use super::{Judgement, LATENCY_NOISE, Thresholds};
use crate::health::Health;

/// Bad answers in a row from which the successor is suspect.
const FAILURES: u64 = 2;

/// Rounds in a row in which it accepted nothing, from which it is suspect: one is chance (`health/round.rs`).
const ABSENCES: u64 = 3;

/// Answers of each generation, below which their median says nothing.
const ANSWERS_MIN: usize = 5;

/// What is known from the health URL, at one moment of a bake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    pub(crate) failures_in_a_row: u64,
    pub(crate) absences_in_a_row: u64,
    /// Why the last one was not healthy.
    pub(crate) complaint: Option<String>,
    /// Of the successor: answers and their median.
    pub(crate) median: Option<(usize, Duration)>,
    /// Of the incumbent.
    pub(crate) before: Option<(usize, Duration)>,
}

impl Answers {
    /// Of the successor's answers and the incumbent's.
    pub(crate) fn of(successor: &Health, incumbent: Option<&Health>) -> Self {
        let median = |health: &Health| Some((health.latencies.len(), health.median()?));
        Self {
            failures_in_a_row: successor.failures_in_a_row,
            absences_in_a_row: successor.absences_in_a_row,
            complaint: successor.complaint().map(str::to_owned),
            median: median(successor),
            before: incumbent.and_then(median),
        }
    }
}

pub(super) fn answers(limits: &Thresholds, answers: &Answers) -> Option<Judgement> {
    let complaint = answers.complaint.as_deref().unwrap_or("it does not answer");
    if answers.failures_in_a_row >= FAILURES {
        return Some(Judgement::Suspect(format!("unhealthy: {complaint}")));
    }
    if answers.absences_in_a_row >= ABSENCES {
        return Some(Judgement::Suspect(format!(
            "it does not serve: {complaint}"
        )));
    }
    let ((count, after), (counted, before)) = (answers.median?, answers.before?);
    let limit = before.mul_f64(limits.latency_factor.max(1.0));
    let is_slow = after > limit && after > before + LATENCY_NOISE;
    (is_slow && count >= ANSWERS_MIN && counted >= ANSWERS_MIN).then(|| {
        Judgement::Suspect(format!(
            "half of its answers at the health URL take more than {after:.1?} (the incumbent: {before:.1?}), above {} ×",
            limits.latency_factor
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Answers, answers};
    use crate::verdict::{Judgement, Thresholds};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_is_bad_again_and_again_is_suspect_and_one_of_it_is_chance() {
        let complaint = Some("it answers 500".to_owned());
        // Failures and absences in a row, times of the successor and the incumbent; what must be named.
        type Times = Option<(usize, Duration)>;
        let table: [(u64, u64, Times, Times, Option<&str>); 11] = [
            (0, 0, None, None, None),
            (1, 2, None, None, None),
            (2, 0, None, None, Some("unhealthy: it answers 500")),
            (0, 3, None, None, Some("it does not serve: it answers 500")),
            (2, 3, None, None, Some("unhealthy")),
            (0, 0, Some((5, ms(30))), Some((5, ms(10))), Some("30.0ms")),
            (0, 0, Some((5, ms(20))), Some((5, ms(10))), None),
            (0, 0, Some((4, ms(30))), Some((5, ms(10))), None),
            (0, 0, Some((5, ms(30))), Some((4, ms(10))), None),
            // Three times as long, and within the noise of a host.
            (0, 0, Some((9, ms(3))), Some((9, ms(1))), None),
            (0, 0, Some((9, ms(30))), None, None),
        ];
        for (failures_in_a_row, absences_in_a_row, median, before, named) in table {
            let evidence = Answers {
                failures_in_a_row,
                absences_in_a_row,
                complaint: complaint.clone(),
                median,
                before,
            };
            let judged = answers(&Thresholds::default(), &evidence);
            match (named, &judged) {
                (None, None) => {}
                (Some(named), Some(Judgement::Suspect(reason))) => {
                    assert!(reason.contains(named), "{evidence:?}: {reason}");
                }
                _ => panic!("{evidence:?}: {judged:?}"),
            }
        }
    }
}
