//! The table of a scenario.
//!
//! Room  pure but for the printing.

use serde_json::json;

use super::Scenario;
use super::extras::Extras;
use super::page::{Bar, Chart};
use super::run::Measured;
use super::statistics::{Spread, ratios, spread};
use crate::output::Output;

/// One proxy in one scenario.
#[derive(Debug)]
pub(super) struct Row {
    name: String,
    turns: Vec<Measured>,
    /// Of the first contender, in the same rounds.
    ours: Vec<Measured>,
    extras: Extras,
}

impl Row {
    /// Of the contender at `place` in each round; the first is the one that the others are compared with.
    pub(super) fn new(
        name: String,
        rounds: &[Vec<Measured>],
        place: usize,
        extras: Extras,
    ) -> Self {
        let of = |place: usize| {
            rounds
                .iter()
                .filter_map(|round| round.get(place))
                .cloned()
                .collect()
        };
        Self {
            name,
            turns: of(place),
            ours: of(0),
            extras,
        }
    }

    fn costs(&self, scenario: Scenario) -> Vec<f64> {
        self.turns.iter().map(|turn| turn.cost(scenario)).collect()
    }

    fn ratio(&self, scenario: Scenario) -> Option<Spread> {
        let ours: Vec<f64> = self.ours.iter().map(|turn| turn.cost(scenario)).collect();
        ratios(&ours, &self.costs(scenario))
    }

    fn cells(&self, scenario: Scenario, is_first: bool) -> Vec<String> {
        let figure = |value: f64| match scenario.counts_bytes() {
            true => format!("{value:.3}"),
            false => format!("{value:.2}"),
        };
        let cost = spread(self.costs(scenario)).map(|cost| {
            format!(
                "{} ({}–{})",
                figure(cost.median),
                figure(cost.least),
                figure(cost.greatest)
            )
        });
        let ratio = self.ratio(scenario).filter(|_| !is_first).map(|ratio| {
            format!(
                "**{:.2}** ({:.2}–{:.2})",
                ratio.median, ratio.least, ratio.greatest
            )
        });
        let median = |of: &dyn Fn(&Measured) -> f64| {
            spread(self.turns.iter().map(of)).map(|spread| spread.median)
        };
        let rate = median(&Measured::per_second).map(|rate| format!("{rate:.0}"));
        #[expect(clippy::cast_precision_loss, reason = "MiB for a person")]
        let resident = median(&|turn| turn.resident as f64 / f64::from(1 << 20));
        let or = |cell: Option<String>| cell.unwrap_or_else(|| "–".to_owned());
        vec![
            self.name.clone(),
            or(cost),
            or(ratio),
            or(rate),
            or(self.extras.fixed_rate()),
            or(resident.map(|mib| format!("{mib:.1}"))),
            or(self
                .extras
                .per_idle_connection
                .map(|bytes| format!("{:.1}", bytes / 1024.0))),
            or(self.extras.syscalls.map(|count| format!("{count:.2}"))),
        ]
    }
}

const fn unit(scenario: Scenario) -> &'static str {
    if scenario.counts_bytes() {
        "CPU s/GB"
    } else {
        "CPU µs/request"
    }
}

fn head(scenario: Scenario) -> Vec<String> {
    let head = [
        "proxy",
        unit(scenario),
        "ours ÷ it",
        "requests/s",
        "p50 / p99 / p999 at a third, ms",
        "RSS, MiB",
        "KiB/idle connection",
        "system calls/request",
    ];
    head.iter().map(|cell| (*cell).to_owned()).collect()
}

/// The same for the page.
pub(super) fn chart(scenario: Scenario, rows: &[Row]) -> Chart {
    let bars = rows.iter().enumerate().filter_map(|(place, row)| {
        Some(Bar {
            name: row.name.clone(),
            is_ours: row.name.starts_with("ours"),
            cost: spread(row.costs(scenario))?,
            ratio: row.ratio(scenario).filter(|_| place > 0),
        })
    });
    let table = rows.iter().enumerate();
    let table = table.map(|(place, row)| row.cells(scenario, place == 0));
    Chart {
        title: scenario.title().to_owned(),
        unit: unit(scenario).to_owned(),
        target: scenario.target(),
        bars: bars.collect(),
        cells: std::iter::once(head(scenario)).chain(table).collect(),
    }
}

/// Prints the table and an event for each row.
pub(super) fn print(scenario: Scenario, rows: &[Row], output: &mut Output) {
    let head = head(scenario);
    let ruler: Vec<String> = head.iter().map(|_| "---".to_owned()).collect();
    output.line(&line(&head));
    output.line(&line(&ruler));
    for (place, row) in rows.iter().enumerate() {
        output.line(&line(&row.cells(scenario, place == 0)));
        let (cost, ratio) = (spread(row.costs(scenario)), row.ratio(scenario));
        output.event(&json!({
            "event": "result",
            "scenario": scenario.name(),
            "proxy": row.name,
            "cost": cost.map(|cost| cost.median),
            "ratio": ratio.map(|ratio| ratio.median),
            "ratio_least": ratio.map(|ratio| ratio.least),
            "ratio_greatest": ratio.map(|ratio| ratio.greatest),
            "syscalls_per_request": row.extras.syscalls,
            "bytes_per_idle_connection": row.extras.per_idle_connection,
        }));
    }
}

fn line(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}
