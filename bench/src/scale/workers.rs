//! Two workers against one, and how evenly fresh connections are spread over them.
//!
//! Room  everybody may run on every processor; clients, proxy and origin share them, so on a small machine the rate says
//!       little and the CPU for a request (do workers hinder each other?) says more.
//! Holds leaves this process without its place: it is the last part.

use std::time::Duration;

use super::Bench;
use super::balance::{newly, unevenness, watched};
use super::configuration::{PATIENCE, routes_by_path, upstream};
use super::idle;
use super::pairs::{self, Side};
use super::table::{Finding, Unit, once};
use crate::compare::contender::{Contender, configuration, start_ours};
use crate::compare::pinning::{everywhere, leave_place};
use crate::compare::{CompareError, Scenario, set_up};
use crate::output::Output;

/// Of the large side.
const WORKERS: u32 = 2;

/// Fresh connections whose spread is looked at.
const FRESH: usize = 1_000;

/// Opened in a second.
const FRESH_RATE: u32 = 500;

/// Longer than a backend's connection is kept (`upstream_keep_alive`, 4 s, swept each second): what a worker watches then is
/// its clients'.
const AFTER_KEPT: Duration = Duration::from_secs(6);

/// After its start, before what a proxy watches is looked at.
const SETTLING: Duration = Duration::from_secs(1);

/// CPU for a request with two workers ÷ with one. More threads wait in turn for fewer events each, so each wait brings less
/// than the one worker's does; the clients' own wandering between processors is in it, too.
const COST_LIMIT: f64 = 1.50;

/// The busier worker's connections ÷ an even share. The kernel draws a socket for each connection, so of 1,000 an even
/// share has a deviation of 16: this is nine of them.
const BALANCE_LIMIT: f64 = 1.30;

/// Both programs.
pub(super) async fn measure(
    bench: &Bench<'_>,
    output: &mut Output,
) -> Result<Vec<Finding>, CompareError> {
    leave_place().map_err(|source| set_up("processors for everybody", source))?;
    let mut findings = Vec::new();
    for (program, scenario) in [("lb", Scenario::L4KeepAlive), ("edge", Scenario::H1)] {
        let one = start(bench, scenario, 1).await?;
        let two = start(bench, scenario, WORKERS).await?;
        // While it is fresh: nothing is kept from before.
        let spread = balance(bench, program, scenario, &two, output).await?;
        let side = |contender| Side {
            contender,
            scenario,
            hosts: Vec::new(),
        };
        let times = (bench.settings.rounds, bench.settings.window);
        let (small, large) = (side(&one), side(&two));
        let pair = pairs::take(&bench.site, [&small, &large], times, output).await?;
        findings.push(Finding {
            what: format!("{program}, {WORKERS} workers ÷ 1, CPU for a request"),
            figure: pair.cost_ratio(),
            unit: Unit::Ratio,
            at_most: Some(COST_LIMIT),
            beside: pair.costs(),
        });
        findings.push(Finding {
            what: format!("{program}, {WORKERS} workers ÷ 1, requests/s"),
            figure: pair.rate_ratio(),
            unit: Unit::Ratio,
            at_most: None,
            beside: format!(
                "{}; clients, proxy and origin share processors {}",
                pair.rates(),
                everywhere()
            ),
        });
        findings.push(spread);
    }
    Ok(findings)
}

async fn start(
    bench: &Bench<'_>,
    scenario: Scenario,
    workers: u32,
) -> Result<Contender, CompareError> {
    let site = &bench.site;
    let (program, kind) = match scenario.is_l4() {
        true => (&bench.lb, "lb"),
        false => (&bench.edge, "edge"),
    };
    let (name, title) = (
        format!("{kind}-workers-{workers}"),
        format!("{kind}, workers = {workers}"),
    );
    let text = |clear, tls| match scenario.is_l4() {
        true => configuration::lb(site, workers, clear),
        false => {
            let listeners = configuration::edge_listeners(site, workers, clear, tls);
            let rest = routes_by_path(1) + &upstream(&[site.origin]) + PATIENCE;
            format!("{listeners}{rest}")
        }
    };
    start_ours(site, program, (&name, &title), &everywhere(), text).await
}

/// Opens fresh connections and looks at who holds them; and at whose time they took.
async fn balance(
    bench: &Bench<'_>,
    program: &str,
    scenario: Scenario,
    contender: &Contender,
    output: &mut Output,
) -> Result<Finding, CompareError> {
    let process = &contender.process;
    // The connection by which its start was noticed is gone by then.
    tokio::time::sleep(SETTLING).await;
    let before = (watched(process.pid()), process.threads());
    output.progress(&format!("{program}: {FRESH} fresh connections"));
    let held = idle::open(bench, (scenario, FRESH_RATE), contender, FRESH).await?;
    let after = process.threads();
    tokio::time::sleep(AFTER_KEPT).await;
    let now = watched(process.pid());
    idle::close(contender, scenario, held, FRESH).await?;
    let counts = before.0.zip(now);
    let counts = counts.map(|(before, now)| newly(&before, &now, WORKERS as usize));
    // `lb` watches both ends of each connection.
    let ends = if scenario.is_l4() { 2 } else { 1 };
    let counts: Vec<usize> = counts.unwrap_or_default();
    let counts: Vec<usize> = counts.into_iter().map(|count| count / ends).collect();
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let shares = counts.iter().map(|count| *count as f64);
    let written: Vec<String> = counts.iter().map(ToString::to_string).collect();
    let times = before.1.zip(after);
    let times = times.map(|(before, after)| times_of_workers(&before, &after));
    Ok(Finding {
        what: format!(
            "{program}, {FRESH} fresh connections, the busier of {WORKERS} workers ÷ an even share"
        ),
        figure: unevenness(shares).map(once),
        unit: Unit::Ratio,
        at_most: Some(BALANCE_LIMIT),
        beside: format!(
            "connections {}; CPU {}",
            written.join(" + "),
            times.unwrap_or_default()
        ),
    })
}

type Times = [(String, Duration)];

/// What each thread that serves connections worked meanwhile, as "shard-0 61.2 ms, …".
fn times_of_workers(before: &Times, after: &Times) -> String {
    let workers = after.iter().filter(|(name, _)| is_worker(name));
    let each = workers.map(|(name, time)| {
        let began = before.iter().find(|(known, _)| known == name);
        let began = began.map_or(Duration::ZERO, |(_, time)| *time);
        let spent = time.saturating_sub(began).as_secs_f64() * 1e3;
        format!("{name} {spent:.1} ms")
    });
    let mut each: Vec<String> = each.collect();
    each.sort();
    each.join(", ")
}

/// As our programs name those of their threads that serve connections.
fn is_worker(name: &str) -> bool {
    name.starts_with("shard-") || name.starts_with("worker-")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::times_of_workers;

    #[test]
    fn only_workers_and_only_what_they_did_meanwhile() {
        let of = |name: &str, ms| (name.to_owned(), Duration::from_millis(ms));
        let before = [of("edge", 5), of("worker-0", 10)];
        let after = [of("worker-1", 30), of("edge", 90), of("worker-0", 35)];
        assert_eq!(
            times_of_workers(&before, &after),
            "worker-0 25.0 ms, worker-1 30.0 ms"
        );
    }
}
