//! The same clients at a small and at a large one, in turn: what the machine does meanwhile hits both.
//!
//! Room  the rounds; what a turn is has its place in `compare::run`.
//! In    two proxies that run, and whom their clients ask for.
//! Out   what each round measured, and ratios of the same round.

use std::time::Duration;

use crate::compare::contender::{Contender, Site};
use crate::compare::run::{self, Measured};
use crate::compare::statistics::{Spread, ratios, spread};
use crate::compare::{CompareError, Scenario};
use crate::load::Load;
use crate::output::Output;
use crate::target::Target;

/// A proxy and its clients.
#[derive(Debug)]
pub(super) struct Side<'c> {
    pub(super) contender: &'c Contender,
    pub(super) scenario: Scenario,
    /// Names that clients ask for, the clients spread over them; none: the address.
    pub(super) hosts: Vec<String>,
}

/// What both sides of a pair did, in the order of the rounds.
#[derive(Debug)]
pub(super) struct Pair {
    scenario: Scenario,
    small: Vec<Measured>,
    large: Vec<Measured>,
}

impl Side<'_> {
    /// The clients of a turn.
    fn loads(&self, site: &Site) -> Result<Vec<Load>, CompareError> {
        let entry = self.contender.entry(site);
        let entry = entry.map_err(|error| {
            self.contender
                .fault(self.scenario.name(), error.to_string())
        })?;
        Ok(spread_over(&self.scenario.load(&entry), &self.hosts))
    }
}

/// The clients of a load, as even as can be over these names: one load for each name.
fn spread_over(load: &Load, hosts: &[String]) -> Vec<Load> {
    if hosts.is_empty() {
        return vec![load.clone()];
    }
    let (each, rest) = (
        load.connections / hosts.len(),
        load.connections % hosts.len(),
    );
    let each_host = hosts.iter().enumerate();
    let loads = each_host.map(|(place, host)| {
        let mut one = load.clone();
        if let Target::Http { authority, .. } = &mut one.target {
            authority.clone_from(host);
        }
        one.connections = each + usize::from(place < rest);
        // Another beginning, so that not all ask for the same bytes.
        one.seed = load.seed.wrapping_add(place as u64);
        one
    });
    loads.filter(|one| one.connections > 0).collect()
}

/// `rounds` turns of both, in every other round the large one first.
pub(super) async fn take(
    site: &Site,
    [small, large]: [&Side<'_>; 2],
    (rounds, window): (u32, Duration),
    output: &mut Output,
) -> Result<Pair, CompareError> {
    let mut pair = Pair {
        scenario: large.scenario,
        small: Vec::new(),
        large: Vec::new(),
    };
    for round in 0..rounds {
        let mut order = [(small, false), (large, true)];
        if round % 2 == 1 {
            order.reverse();
        }
        for (side, is_large) in order {
            let name = side.contender.name();
            output.progress(&format!("round {} of {rounds}: {name}", round + 1));
            let loads = side.loads(site)?;
            let turn = run::watch(side.scenario, side.contender, loads, window).await?;
            output.event(&turn.event(side.scenario, &name, round));
            match is_large {
                true => pair.large.push(turn),
                false => pair.small.push(turn),
            }
        }
    }
    Ok(pair)
}

impl Pair {
    /// CPU for a request: the large one's ÷ the small one's.
    pub(super) fn cost_ratio(&self) -> Option<Spread> {
        let costs = |turns: &[Measured]| -> Vec<f64> {
            let each = turns.iter().map(|turn| turn.cost(self.scenario));
            each.collect()
        };
        ratios(&costs(&self.large), &costs(&self.small))
    }

    /// Requests a second: the large one's ÷ the small one's.
    pub(super) fn rate_ratio(&self) -> Option<Spread> {
        let rates =
            |turns: &[Measured]| -> Vec<f64> { turns.iter().map(Measured::per_second).collect() };
        ratios(&rates(&self.large), &rates(&self.small))
    }

    /// Both costs, for a person.
    pub(super) fn costs(&self) -> String {
        let median = |turns: &[Measured]| {
            let each = turns.iter().map(|turn| turn.cost(self.scenario));
            spread(each).map_or(0.0, |cost| cost.median)
        };
        let (large, small) = (median(&self.large), median(&self.small));
        format!("{large:.2} µs a request against {small:.2}")
    }

    /// Both rates, for a person.
    pub(super) fn rates(&self) -> String {
        let median = |turns: &[Measured]| {
            spread(turns.iter().map(Measured::per_second)).map_or(0.0, |rate| rate.median)
        };
        let (large, small) = (median(&self.large), median(&self.small));
        format!("{large:.0} requests/s against {small:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::spread_over;
    use crate::load::{Load, Shape};
    use crate::target::Target;

    #[test]
    fn every_client_asks_for_one_of_the_names() {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let load = Load::new(Target::http(address, "/bytes/1024"), Shape::KeepAlive, 64);
        assert_eq!(spread_over(&load, &[]).len(), 1);
        for count in [1, 3, 64, 100] {
            let hosts: Vec<String> = (0..count).map(|n| format!("h{n}.test")).collect();
            let loads = spread_over(&load, &hosts);
            assert_eq!(loads.len(), count.min(64));
            let clients: usize = loads.iter().map(|one| one.connections).sum();
            assert_eq!(clients, 64);
            let last = loads.last().expect("a load").target.to_string();
            assert!(
                last.contains(&format!("h{}.test", count.min(64) - 1)),
                "{last}"
            );
        }
    }
}
