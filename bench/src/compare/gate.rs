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

    /// A limit of 1 unless said otherwise; costs of ours, ours again, and peers.
    struct Case {
        what: &'static str,
        limit: f64,
        ours: [f64; 7],
        again: [f64; 7],
        peers: &'static [f64],
        verdict: &'static str,
    }

    const EVEN: Case = Case {
        what: "as good as the best",
        limit: 1.0,
        ours: [10.0; 7],
        again: [10.0; 7],
        peers: &[10.0, 12.0],
        verdict: "passed",
    };

    const JUMPY: [f64; 7] = [10.0, 10.0, 11.2, 11.2, 10.0, 10.0, 10.0];
    const ITS_INVERSE: [f64; 7] = [10.0, 10.0, 8.93, 8.93, 10.0, 10.0, 10.0];

    fn check(cases: &[Case]) {
        for case in cases {
            let costs: Vec<[f64; 7]> = case.peers.iter().map(|cost| [*cost; 7]).collect();
            let peers: Vec<(&str, &[f64])> = costs.iter().map(|costs| ("a", &costs[..])).collect();
            let verdict = kind(case.limit, &case.ours, &case.again, &peers);
            assert_eq!(verdict, case.verdict, "{}", case.what);
        }
    }

    #[test]
    fn the_best_peer_is_the_measure() {
        let mostly = [10.0, 10.0, 10.0, 10.0, 10.0, 12.0, 12.0];
        let often = [10.0, 10.0, 10.0, 10.0, 12.0, 12.0, 12.0];
        check(&[
            EVEN,
            Case {
                what: "better than one, not than the best",
                limit: 0.95,
                verdict: "failed",
                ..EVEN
            },
            Case {
                what: "two bad rounds of seven",
                ours: mostly,
                again: mostly,
                peers: &[10.0],
                ..EVEN
            },
            Case {
                what: "three bad rounds of seven",
                ours: often,
                again: often,
                peers: &[10.0],
                verdict: "failed",
                ..EVEN
            },
            Case {
                what: "nobody to compare with",
                peers: &[],
                verdict: "inconclusive",
                ..EVEN
            },
        ]);
        assert_eq!(kind(1.0, &[], &[], &[]), "inconclusive");
    }

    #[test]
    fn a_busy_machine_is_a_doubt_of_its_size() {
        check(&[
            Case {
                what: "a control that is off",
                again: [9.5; 7],
                peers: &[10.2],
                verdict: "inconclusive",
                ..EVEN
            },
            Case {
                what: "a control that jumps",
                again: ITS_INVERSE,
                peers: &[10.2],
                verdict: "inconclusive",
                ..EVEN
            },
            Case {
                what: "a control that jumps, and a ratio far below the limit",
                again: ITS_INVERSE,
                peers: &[20.0],
                ..EVEN
            },
            Case {
                what: "a control that jumps, and a ratio far above the limit",
                again: JUMPY,
                peers: &[5.0],
                verdict: "failed",
                ..EVEN
            },
            Case {
                what: "a control that was interrupted once",
                again: [10.0, 10.0, 10.0, 18.0, 10.0, 10.0, 10.0],
                peers: &[20.0],
                ..EVEN
            },
        ]);
    }
}
