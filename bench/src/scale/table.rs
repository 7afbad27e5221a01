//! What was found, with its bound.
//!
//! Room  pure but for the printing.

use serde_json::json;

use super::Part;
use crate::compare::statistics::Spread;
use crate::output::Output;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Ratio,
    Bytes,
    /// Of processor time in each second.
    Millis,
}

/// One figure.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    /// What was measured.
    pub(super) what: String,
    /// What came out; `None`: it could not be had, which is no success.
    pub(super) figure: Option<Spread>,
    pub(super) unit: Unit,
    /// The most that it may be; `None`: for information.
    pub(super) at_most: Option<f64>,
    /// What else a person wants to see.
    pub(super) beside: String,
}

impl Finding {
    /// Within its bound, where there is one.
    pub(super) fn holds(&self) -> bool {
        match (self.figure, self.at_most) {
            (Some(figure), Some(most)) => figure.median <= most,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    fn cells(&self) -> [String; 4] {
        let (number, unit) = match self.unit {
            Unit::Ratio => (written::<2> as fn(f64) -> String, ""),
            Unit::Bytes => (written::<0> as fn(f64) -> String, " B"),
            Unit::Millis => (written::<1> as fn(f64) -> String, " ms/s"),
        };
        let figure = match self.figure {
            None => "–".to_owned(),
            Some(one) if one.least == one.greatest => format!("**{}**{unit}", number(one.median)),
            Some(one) => format!(
                "**{}**{unit} ({}–{})",
                number(one.median),
                number(one.least),
                number(one.greatest)
            ),
        };
        let verdict = match self.holds() {
            true => "held",
            false => "BROKEN",
        };
        let bound = match self.at_most {
            Some(most) => format!("≤ {}{unit}: {verdict}", number(most)),
            None if self.figure.is_none() => verdict.to_owned(),
            None => "–".to_owned(),
        };
        [self.what.clone(), figure, bound, self.beside.clone()]
    }
}

/// With so many digits after the point.
fn written<const DIGITS: usize>(value: f64) -> String {
    format!("{value:.DIGITS$}")
}

/// A figure that was measured once.
pub(super) fn once(value: f64) -> Spread {
    Spread {
        median: value,
        least: value,
        greatest: value,
    }
}

/// Prints the table of a part and an event for each row.
pub(super) fn print(part: Part, findings: &[Finding], output: &mut Output) {
    output.line(&format!("\n{}", part.name()));
    output.line("| what | figure | bound | beside |");
    output.line("| --- | --- | --- | --- |");
    for finding in findings {
        output.line(&format!("| {} |", finding.cells().join(" | ")));
        output.event(&json!({
            "event": "finding",
            "part": part.name(),
            "what": finding.what,
            "figure": finding.figure.map(|figure| figure.median),
            "least": finding.figure.map(|figure| figure.least),
            "greatest": finding.figure.map(|figure| figure.greatest),
            "unit": match finding.unit {
                Unit::Ratio => "ratio",
                Unit::Bytes => "bytes",
                Unit::Millis => "ms_per_s",
            },
            "at_most": finding.at_most,
            "holds": finding.holds(),
            "beside": finding.beside,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::{Finding, Unit, once};

    fn finding(figure: Option<f64>, at_most: Option<f64>) -> Finding {
        Finding {
            what: "x".to_owned(),
            figure: figure.map(once),
            unit: Unit::Ratio,
            at_most,
            beside: String::new(),
        }
    }

    #[test]
    fn a_figure_is_judged_by_its_bound_and_one_that_is_missing_does_not_hold() {
        assert!(finding(Some(1.0), Some(1.1)).holds());
        assert!(!finding(Some(1.2), Some(1.1)).holds());
        assert!(finding(Some(9.0), None).holds());
        assert!(!finding(None, None).holds());
        let cells = finding(Some(1.2), Some(1.1)).cells();
        assert_eq!(cells[1..3], ["**1.20**", "≤ 1.10: BROKEN"]);
    }
}
