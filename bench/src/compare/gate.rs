//! May this build pass? The ratio to the best peer of the same rounds, with a control that says whether the machine was
//! quiet enough to tell.
//!
//! Room  pure.
//! Holds what cannot be told has not passed. A control that is off is a doubt of its size: where even that would not change
//!       the verdict, it is told.

use super::statistics::{Spread, ratios, spread, usual_ratios};

/// How far the control's median may be from 1: above, the machine was too busy.
const CONTROL_MEDIAN: f64 = 0.03;

/// How far apart the control's rounds may be, without the worst of each seven.
const CONTROL_RANGE: f64 = 0.10;

/// How much a single round may be above the limit.
const ROUND_MARGIN: f64 = 0.05;

/// What became of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed(String),
    Failed(String),
    /// Try again.
    Inconclusive(String),
}

/// Costs of each round: ours, ours again, and each peer's with its name.
pub(super) fn judge(
    limit: f64,
    ours: &[f64],
    again: &[f64],
    peers: &[(String, Vec<f64>)],
) -> Verdict {
    let Some(control) = usual_ratios(ours, again) else {
        return Verdict::Inconclusive("there is no control".to_owned());
    };
    let median = |costs: &[f64]| spread(costs.iter().copied()).map(|cost| cost.median);
    let best = peers
        .iter()
        .filter_map(|(name, costs)| Some((name, costs, median(costs)?)))
        .min_by(|one, other| one.2.total_cmp(&other.2));
    let Some((name, costs, _)) = best else {
        return Verdict::Inconclusive("no peer is installed: scripts/setup bench".to_owned());
    };
    let Some(ratio) = ratios(ours, costs) else {
        return Verdict::Inconclusive(format!("{name} has no rounds"));
    };
    let rounds = ours.iter().zip(costs);
    let near = rounds
        .filter(|(ours, theirs)| **ours <= **theirs * (limit + ROUND_MARGIN))
        .count();
    let is_steady = near * 7 >= ours.len() * 5;
    let text = format!(
        "{} × {name}, limit {limit:.2}, control {}",
        told(&ratio),
        told(&control)
    );
    let is_quiet = (control.median - 1.0).abs() <= CONTROL_MEDIAN
        && control.greatest - control.least <= CONTROL_RANGE;
    let passes = ratio.median <= limit && is_steady;
    // The ratio as it would be had the control's doubt hit it in full.
    let (best, worst) = (
        ratio.median * control.least.min(1.0),
        ratio.median * control.greatest.max(1.0),
    );
    match (passes, is_quiet) {
        (true, true) => Verdict::Passed(text),
        (true, false) if worst <= limit => Verdict::Passed(text),
        (false, true) => Verdict::Failed(text),
        (false, false) if best > limit => Verdict::Failed(text),
        _ => Verdict::Inconclusive(format!("{text}: the machine is busy")),
    }
}

fn told(ratio: &Spread) -> String {
    format!(
        "{:.2} ({:.2}–{:.2})",
        ratio.median, ratio.least, ratio.greatest
    )
}

#[cfg(test)]
mod tests {
    use super::{Verdict, judge};

    fn kind(limit: f64, ours: &[f64], again: &[f64], peers: &[(&str, &[f64])]) -> &'static str {
        let peers: Vec<(String, Vec<f64>)> = peers
            .iter()
            .map(|(name, costs)| ((*name).to_owned(), costs.to_vec()))
            .collect();
        match judge(limit, ours, again, &peers) {
            Verdict::Passed(_) => "passed",
            Verdict::Failed(_) => "failed",
            Verdict::Inconclusive(_) => "inconclusive",
        }
    }

    #[test]
    fn the_best_peer_is_the_measure_and_a_busy_machine_is_none() {
        let even = [10.0; 7];
        let jumpy = [10.0, 10.0, 11.2, 11.2, 10.0, 10.0, 10.0];
        let once = [10.0, 10.0, 10.0, 18.0, 10.0, 10.0, 10.0];
        let mostly = [10.0, 10.0, 10.0, 10.0, 10.0, 12.0, 12.0];
        let often = [10.0, 10.0, 10.0, 10.0, 12.0, 12.0, 12.0];
        let table = [
            (
                "as good as the best",
                1.0,
                even,
                even,
                vec![("a", [10.0; 7]), ("b", [12.0; 7])],
                "passed",
            ),
            (
                "better than one, not than the best",
                0.95,
                even,
                even,
                vec![("a", [10.0; 7]), ("b", [12.0; 7])],
                "failed",
            ),
            (
                "a control that is off",
                1.0,
                even,
                [9.5; 7],
                vec![("a", [10.2; 7])],
                "inconclusive",
            ),
            (
                "a control that jumps",
                1.0,
                even,
                jumpy.map(|cost| 100.0 / cost),
                vec![("a", [10.2; 7])],
                "inconclusive",
            ),
            (
                "a control that jumps, and a ratio far below the limit",
                1.0,
                even,
                jumpy.map(|cost| 100.0 / cost),
                vec![("a", [20.0; 7])],
                "passed",
            ),
            (
                "a control that jumps, and a ratio far above the limit",
                1.0,
                even,
                jumpy,
                vec![("a", [5.0; 7])],
                "failed",
            ),
            (
                "a control that was interrupted once",
                1.0,
                even,
                once,
                vec![("a", [20.0; 7])],
                "passed",
            ),
            (
                "two bad rounds of seven",
                1.0,
                mostly,
                mostly,
                vec![("a", [10.0; 7])],
                "passed",
            ),
            (
                "three bad rounds of seven",
                1.0,
                often,
                often,
                vec![("a", [10.0; 7])],
                "failed",
            ),
            (
                "nobody to compare with",
                1.0,
                even,
                even,
                vec![],
                "inconclusive",
            ),
        ];
        for (what, limit, ours, again, peers, expected) in table {
            let peers: Vec<(&str, &[f64])> = peers
                .iter()
                .map(|(name, costs)| (*name, &costs[..]))
                .collect();
            assert_eq!(kind(limit, &ours, &again, &peers), expected, "{what}");
        }
        assert_eq!(kind(1.0, &[], &[], &[]), "inconclusive");
    }
}
