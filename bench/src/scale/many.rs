//! Many routes against one, and many upstreams against one: what a request costs.
//!
//! Room  which configurations are paired, and their bounds.
//! Holds both sides of a pair are asked by the same clients for the same bytes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::configuration::{host, routes_by_host, routes_by_path, upstream, upstreams_with_routes};
use super::pairs::{self, Side};
use super::table::{Finding, Unit};
use super::{Bench, resident};
use crate::compare::contender::{Contender, configuration, start_ours};
use crate::compare::statistics::{Spread, spread};
use crate::compare::{CompareError, Scenario, set_up};
use crate::origin::{Kind, Origin};
use crate::output::Output;

/// Backends of each upstream.
const BACKENDS: usize = 10;

/// CPU for a request with many routes ÷ with one. A look-up walks hosts and segments; what remains is the noise of a
/// shared machine.
const ROUTES_LIMIT: f64 = 1.10;

/// The same with many upstreams of which one is asked for. What a proxy does for its backends without a request is in it.
const UPSTREAMS_LIMIT: f64 = 1.15;

/// The same where each client asks for another upstream: connections to 64 times as many backends, each used the less, so a
/// wait brings fewer of them. Medians of seven rounds were 1.3 and 1.5 on a machine with other work,
/// single rounds 1.2 to 1.9, a short one 2.4.
const SPREAD_LIMIT: f64 = 2.00;

/// Milliseconds on a processor in each second for 10,000 backends of whom nobody asks anything.
const RESTING_LIMIT: f64 = 80.0;

/// How long it is looked at, so many times.
const RESTING: (Duration, u32) = (Duration::from_secs(2), 3);

/// An `edge` that was started, and how long that took.
struct Started {
    contender: Contender,
    took: f64,
}

impl Started {
    fn side(&self, hosts: Vec<String>) -> Side<'_> {
        Side {
            contender: &self.contender,
            scenario: Scenario::H1,
            hosts,
        }
    }
}

/// Starts `edge` with one worker and this after its listeners.
async fn start(bench: &Bench<'_>, title: &str, rest: &str) -> Result<Started, CompareError> {
    let name = format!("edge-{}", title.replace([' ', ','], "-"));
    let cpus = bench.site.cores.of_proxies().to_string();
    let begun = Instant::now();
    let text = |clear, tls| {
        let listeners = configuration::edge_listeners(&bench.site, 1, clear, tls);
        format!("{listeners}{rest}")
    };
    let names = (name.as_str(), title);
    let contender = start_ours(&bench.site, &bench.edge, names, &cpus, text).await?;
    Ok(Started {
        contender,
        took: begun.elapsed().as_secs_f64(),
    })
}

/// Measures a pair of which both sides are asked for `hosts`.
async fn measure(
    bench: &Bench<'_>,
    what: String,
    [small, large]: [(&Started, Vec<String>); 2],
    limit: f64,
    output: &mut Output,
) -> Result<Finding, CompareError> {
    let (small, large) = (
        (small.0.side(small.1), small.0),
        (large.0.side(large.1), large.0),
    );
    let times = (bench.settings.rounds, bench.settings.window);
    let pair = pairs::take(&bench.site, [&small.0, &large.0], times, output).await?;
    Ok(Finding {
        what,
        figure: pair.cost_ratio(),
        unit: Unit::Ratio,
        at_most: Some(limit),
        beside: format!(
            "{}; resident {} against {}; started in {:.2} s against {:.2}",
            pair.costs(),
            resident(&large.1.contender),
            resident(&small.1.contender),
            large.1.took,
            small.1.took
        ),
    })
}

/// Milliseconds on a processor in each second while nobody asks.
async fn resting(started: &Started) -> Option<Spread> {
    let (length, times) = RESTING;
    let mut each = Vec::new();
    for _ in 0..times {
        let before = started.contender.process.cpu()?;
        tokio::time::sleep(length).await;
        let spent = started.contender.process.cpu()?.saturating_sub(before);
        each.push(spent.as_secs_f64() * 1e3 / length.as_secs_f64());
    }
    spread(each)
}

/// Many routes against one: by host, the one in the middle; by path, the last one.
pub(super) async fn routes(
    bench: &Bench<'_>,
    output: &mut Output,
) -> Result<Vec<Finding>, CompareError> {
    let count = bench.settings.routes;
    let app = upstream(&[bench.site.origin]);
    let middle = count / 2;
    let mut findings = Vec::new();

    let one = routes_by_host(middle..=middle) + &app;
    let small = start(bench, "1 route by host", &one).await?;
    let all = routes_by_host(0..count) + &app;
    let large = start(bench, &format!("{count} routes by host"), &all).await?;
    let what = format!("edge, {count} routes by host ÷ 1 route, CPU for a request");
    let sides = [(&small, vec![host(middle)]), (&large, vec![host(middle)])];
    findings.push(measure(bench, what, sides, ROUTES_LIMIT, output).await?);
    // Nobody is there who does not take part.
    drop((small, large));

    let small = start(bench, "1 route by path", &(routes_by_path(1) + &app)).await?;
    let all = routes_by_path(count) + &app;
    let large = start(bench, &format!("{count} routes by path"), &all).await?;
    let what = format!("edge, {count} routes by path ÷ 1 route, CPU for a request");
    let sides = [(&small, Vec::new()), (&large, Vec::new())];
    findings.push(measure(bench, what, sides, ROUTES_LIMIT, output).await?);
    Ok(findings)
}

/// Many upstreams of ten backends against one: one of them asked for, and many of them.
pub(super) async fn upstreams(
    bench: &Bench<'_>,
    output: &mut Output,
) -> Result<Vec<Finding>, CompareError> {
    let count = bench.settings.upstreams;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let origins: std::io::Result<Vec<Origin>> = (0..BACKENDS)
        .map(|_| Origin::start(Kind::Http, any))
        .collect();
    let origins = origins.map_err(|source| set_up("ten origins", source))?;
    let backends: Vec<SocketAddr> = origins.iter().map(Origin::address).collect();
    let middle = count / 2;
    let one = upstreams_with_routes(middle..=middle, &backends);
    let small = start(bench, "1 upstream", &one).await?;
    let all = upstreams_with_routes(0..count, &backends);
    let large = start(bench, &format!("{count} upstreams"), &all).await?;
    let (at_rest, small_at_rest) = (resting(&large).await, resting(&small).await);
    let clients = 64.min(count);
    // Each client of the 64 asks for another one, all over the configuration.
    let hosts: Vec<String> = (0..clients).map(|n| host(n * count / clients)).collect();
    let same = || vec![host(middle); clients];
    let what = format!("edge, {count} upstreams x {BACKENDS} ÷ 1 x {BACKENDS}, CPU for a request");
    let limited = [
        (format!("{what}, one asked for"), same(), UPSTREAMS_LIMIT),
        (format!("{what}, {clients} asked for"), hosts, SPREAD_LIMIT),
    ];
    let mut findings = vec![Finding {
        what: format!("edge, {count} upstreams x {BACKENDS}, CPU while nobody asks"),
        figure: at_rest,
        unit: Unit::Millis,
        at_most: Some(RESTING_LIMIT),
        beside: match small_at_rest {
            Some(one) => format!("1 x {BACKENDS}: {:.1} ms/s", one.median),
            None => String::new(),
        },
    }];
    for (what, hosts, limit) in limited {
        let sides = [(&small, same()), (&large, hosts)];
        findings.push(measure(bench, what, sides, limit, output).await?);
    }
    Ok(findings)
}
