//! Thousands of idle connections: what each one takes of memory, and what they cost those that are busy.
//!
//! ```text
//!   laden proxy <─ idle connections, each after one answered request ─ held and watched to the end
//!   free proxy      the same, without them
//!   then in turn: 64 busy connections at the one, at the other
//! ```
//!
//! Room  opening, weighing, holding.
//! Holds each idle connection is one that had its whole, right answer, and one that ends while it is held is a loss.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use super::configuration::{PATIENCE, routes_by_path, upstream};
use super::pairs::{self, Side};
use super::table::{Finding, Unit, once};
use super::{Bench, resident};
use crate::compare::contender::{Contender, configuration, start_ours};
use crate::compare::run::check;
use crate::compare::{CompareError, Scenario};
use crate::ledger::Class;
use crate::load::{Running, Shape};
use crate::output::Output;

/// Descriptors of a process that are not idle connections': busy ones, listeners, libraries.
const RESERVED: u64 = 2_000;

/// How long opening may take beyond what its rate says.
const OPENING_SLACK: Duration = Duration::from_secs(30);

/// After the last answer, before memory is looked at.
const SETTLING: Duration = Duration::from_secs(1);

/// CPU for a request of busy connections: with idle ones ÷ without.
const LIMIT: f64 = 1.10;

/// One way to be idle.
struct Way {
    what: &'static str,
    scenario: Scenario,
    /// Descriptors that one connection takes of the proxy, or of this process: it has both ends of the proxy's.
    descriptors: u64,
    /// Opened in a second: a fraction of what one processor can do, so that nobody waits in a queue.
    rate: u32,
    /// Bytes of resident memory for each.
    at_most: f64,
}

const WAYS: [Way; 3] = [
    Way {
        what: "lb",
        scenario: Scenario::L4KeepAlive,
        descriptors: 2,
        rate: 1_500,
        at_most: 1_000.0,
    },
    Way {
        what: "edge in clear",
        scenario: Scenario::H1,
        descriptors: 1,
        rate: 1_500,
        at_most: 1_700.0,
    },
    Way {
        what: "edge with TLS",
        scenario: Scenario::H1Tls,
        descriptors: 1,
        rate: 750,
        at_most: 10_500.0,
    },
];

/// All ways, one after the other.
pub(super) async fn measure(
    bench: &Bench<'_>,
    output: &mut Output,
) -> Result<Vec<Finding>, CompareError> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let mut findings = Vec::new();
    for way in &WAYS {
        let count = bench.settings.idle.min(most(limit, way.descriptors));
        findings.extend(measure_way(bench, way, count, output).await?);
    }
    Ok(findings)
}

/// So many idle connections are possible with this limit of descriptors.
fn most(limit: u64, of_each: u64) -> usize {
    let count = limit.saturating_sub(RESERVED) / of_each.max(1);
    usize::try_from(count).unwrap_or(usize::MAX).max(1)
}

async fn measure_way(
    bench: &Bench<'_>,
    way: &Way,
    count: usize,
    output: &mut Output,
) -> Result<[Finding; 2], CompareError> {
    let free = start(bench, way, "free").await?;
    let laden = start(bench, way, "laden").await?;
    let before = laden.process.resident();
    output.progress(&format!("{}: opening {count} connections", way.what));
    let idle = open(bench, (way.scenario, way.rate), &laden, count).await?;
    tokio::time::sleep(SETTLING).await;
    let after = laden.process.resident();
    let memory = resident(&laden);

    let side = |contender| Side {
        contender,
        scenario: way.scenario,
        hosts: Vec::new(),
    };
    let times = (bench.settings.rounds, bench.settings.window);
    let (small, large) = (side(&free), side(&laden));
    let pair = pairs::take(&bench.site, [&small, &large], times, output).await?;
    // Only now is it known that all of them lasted.
    close(&laden, way.scenario, idle, count).await?;
    let each = after.zip(before).map(|(after, before)| {
        #[expect(clippy::cast_precision_loss, reason = "bytes for a person")]
        let each = after.saturating_sub(before) as f64 / count as f64;
        each
    });
    let findings = [
        Finding {
            what: format!(
                "{}, {count} idle connections, resident memory of each",
                way.what
            ),
            figure: each.map(once),
            unit: Unit::Bytes,
            at_most: Some(way.at_most),
            beside: format!("{memory} in all"),
        },
        Finding {
            what: format!(
                "{}, with {count} idle connections ÷ without, CPU for a request of 64 busy ones",
                way.what
            ),
            figure: pair.cost_ratio(),
            unit: Unit::Ratio,
            at_most: Some(LIMIT),
            beside: pair.costs(),
        },
    ];
    Ok(findings)
}

/// One of our own with one worker, that lets idle clients stay.
async fn start(bench: &Bench<'_>, way: &Way, load: &str) -> Result<Contender, CompareError> {
    let title = format!("{}, {load}", way.what);
    let name = title.replace([' ', ','], "-");
    let cpus = bench.site.cores.of_proxies().to_string();
    let names = (name.as_str(), title.as_str());
    let site = &bench.site;
    if way.scenario.is_l4() {
        let text = |clear, _| configuration::lb(site, 1, clear);
        return start_ours(site, &bench.lb, names, &cpus, text).await;
    }
    let text = |clear, tls| {
        let listeners = configuration::edge_listeners(site, 1, clear, tls);
        let rest = routes_by_path(1) + &upstream(&[site.origin]) + PATIENCE;
        format!("{listeners}{rest}")
    };
    start_ours(site, &bench.edge, names, &cpus, text).await
}

/// Opens idle connections, so many a second, until each has had its answer.
pub(super) async fn open(
    bench: &Bench<'_>,
    (scenario, rate): (Scenario, u32),
    contender: &Contender,
    count: usize,
) -> Result<Running, CompareError> {
    let fault = |why: String| contender.fault(scenario.name(), why);
    let entry = contender.entry(&bench.site);
    let mut load = scenario.load(&entry.map_err(|error| fault(error.to_string()))?);
    load.shape = Shape::Idle;
    load.connections = count;
    load.rate = NonZeroU32::new(rate);
    // Clients that know nothing of each other.
    load.trust = load.trust.map(|trust| trust.without_memory());
    let running = load.start().map_err(|error| fault(error.to_string()))?;
    let expected = count as u64;
    let opening = Duration::from_secs(expected / u64::from(rate.max(1)));
    let deadline = Instant::now() + opening + OPENING_SLACK;
    loop {
        let ledger = running.snapshot();
        if ledger.exchanges.count(Class::Ok) >= expected {
            return Ok(running);
        }
        if ledger.connections.lost() > 0 || Instant::now() > deadline {
            close(contender, scenario, running, count).await?;
            return Err(fault(format!("{count} connections could not be opened")));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Ends idle connections, and judges: each had its answer and lasted until now.
pub(super) async fn close(
    contender: &Contender,
    scenario: Scenario,
    idle: Running,
    count: usize,
) -> Result<(), CompareError> {
    // A connection that was ended politely after its answer is no loss, but it was not idle.
    let (held, ledger) = (idle.established(), idle.finish().await);
    let checked = check(scenario, &ledger).and_then(|()| {
        let answered = ledger.exchanges.count(Class::Ok);
        match answered == count as u64 && held == count {
            true => Ok(()),
            false => Err(format!(
                "of {count} connections {answered} had an answer and {held} were held"
            )),
        }
    });
    checked.map_err(|why| contender.fault(scenario.name(), why))
}

#[cfg(test)]
mod tests {
    use super::{WAYS, most};

    #[test]
    fn descriptors_bound_how_many_are_held() {
        assert_eq!(most(20_000, 1), 18_000);
        assert_eq!(most(20_000, 2), 9_000);
        assert_eq!(most(1_024, 1), 1);
        assert!(WAYS.iter().all(|way| way.rate > 1));
    }
}
