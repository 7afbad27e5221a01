//! How our proxies hold at scale: the same work with little beside it and with much, in turn, and the ratio.
//!
//! ```text
//!   one route ⇄ ten thousand        one upstream ⇄ a thousand        nobody idle ⇄ thousands idle        one worker ⇄ two
//! ```
//!
//! Room  the order of the measurements; configurations are in `text`, idle clients in `idle`.
//! In    the binaries, how many rounds. Out  a table and JSON lines; whether every answer was right.
//! Holds both sides of a ratio are measured in the same round, and in turn first.

mod idle;
mod text;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde_json::json;

use super::contender::{self, Contender, Site};
use super::run::{self, Measured};
use super::statistics::{Spread, ratios};
use super::{CompareError, Scenario, Settings, set_up};
use crate::origin::{Kind, Origin};
use crate::output::Output;

/// Routes beside the one that is asked for.
const ROUTES: usize = 10_000;

/// Upstreams, each with its own route, and backends of each.
const UPSTREAMS: usize = 1000;
const BACKENDS: u8 = 10;

/// Idle connections: what two processes of a limit of 20,000 descriptors hold; through `lb` each has two.
const IDLE_EDGE: usize = 15_000;
const IDLE_LB: usize = 9000;

/// One thing beside another.
struct Pair<'a> {
    title: String,
    scenario: Scenario,
    little: &'a Contender,
    much: &'a Contender,
}

/// Measures. `Ok(true)`: everything was measured, and every answer was right.
///
/// # Errors
/// See [`CompareError`].
pub async fn scale(settings: &Settings, output: &mut Output) -> Result<bool, CompareError> {
    let (_directory, _origin, mut site) = super::stage(settings)?;
    // Backends of many addresses are one origin.
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let everywhere =
        Origin::start(Kind::Http, any).map_err(|source| set_up("an origin", source))?;
    site.origin = SocketAddr::from((Ipv4Addr::LOCALHOST, everywhere.address().port()));
    output.line("CPU of a request, much ÷ little: median (least to greatest) of the rounds");
    routes(&site, settings, output).await?;
    upstreams(&site, settings, output).await?;
    workers(&site, settings, output).await?;
    output.line("\nidle connections");
    idle::measure(&site, settings, output).await?;
    Ok(true)
}

async fn routes(site: &Site, settings: &Settings, output: &mut Output) -> Result<(), CompareError> {
    let little = start(site, settings, "edge", "one-route", |at| {
        text::routes(site, at, 0)
    })
    .await?;
    let much = start(site, settings, "edge", "routes", |at| {
        text::routes(site, at, ROUTES)
    })
    .await?;
    let pair = Pair {
        title: format!("edge, {ROUTES} routes ÷ one"),
        scenario: Scenario::H1,
        little: &little,
        much: &much,
    };
    compare(site, settings, &pair, output).await
}

async fn upstreams(
    site: &Site,
    settings: &Settings,
    output: &mut Output,
) -> Result<(), CompareError> {
    let text = |count| move |at| text::upstreams(site, at, count, BACKENDS);
    let little = start(site, settings, "edge", "one-upstream", text(0)).await?;
    let much = start(site, settings, "edge", "upstreams", text(UPSTREAMS)).await?;
    let pair = Pair {
        title: format!("edge, {UPSTREAMS} upstreams with {BACKENDS} backends ÷ one"),
        scenario: Scenario::H1,
        little: &little,
        much: &much,
    };
    compare(site, settings, &pair, output).await
}

/// Two workers do twice the work where there is a processor for each: a request must not cost more with them. How even the
/// listening sockets share clients out is seen in the workers' own time.
async fn workers(
    site: &Site,
    settings: &Settings,
    output: &mut Output,
) -> Result<(), CompareError> {
    for (program, scenario) in [("lb", Scenario::L4KeepAlive), ("edge", Scenario::H1)] {
        let text = |workers| move |at| text::workers(site, program, at, workers);
        let little = start(site, settings, program, "one-worker", text(1)).await?;
        let much = start(site, settings, program, "two-workers", text(2)).await?;
        let pair = Pair {
            title: format!("{program}, two workers ÷ one"),
            scenario,
            little: &little,
            much: &much,
        };
        compare(site, settings, &pair, output).await?;
        let before = much.process.workers();
        // A connection for each request: every one is shared out anew.
        let load = Scenario::L4Connections;
        run::measure(site, load, &much, settings.window, None).await?;
        let shares = shares(&before, &much.process.workers());
        let percent: Vec<String> = shares.iter().map(|share| format!("{share:.0} %")).collect();
        output.line(&format!(
            "  {program}: new connections keep its workers busy with {}",
            percent.join(" and ")
        ));
        output.event(&json!({ "event": "accept-balance", "program": program, "percent": shares }));
    }
    Ok(())
}

/// Each worker's part of the time that all of them used, in percent.
fn shares(before: &[u64], after: &[u64]) -> Vec<f64> {
    let used: Vec<u64> = after
        .iter()
        .zip(before)
        .map(|(after, before)| after.saturating_sub(*before))
        .collect();
    let all: u64 = used.iter().sum();
    #[expect(clippy::cast_precision_loss, reason = "percent for a person")]
    let percent = |part: u64| part as f64 * 100.0 / all.max(1) as f64;
    used.into_iter().map(percent).collect()
}

async fn start(
    site: &Site,
    settings: &Settings,
    program: &str,
    name: &str,
    text: impl FnOnce((SocketAddr, SocketAddr)) -> String,
) -> Result<Contender, CompareError> {
    let given = match program {
        "lb" => &settings.lb,
        _ => &settings.edge,
    };
    let beside = || std::env::current_exe().map(|here| here.with_file_name(program));
    let path: PathBuf = match given {
        Some(path) => path.clone(),
        None => beside().map_err(|source| set_up(program, source))?,
    };
    contender::start_ours(site, &path, &format!("{program}-{name}"), text).await
}

async fn compare(
    site: &Site,
    settings: &Settings,
    pair: &Pair<'_>,
    output: &mut Output,
) -> Result<(), CompareError> {
    let (mut little, mut much) = (Vec::new(), Vec::new());
    for round in 0..settings.rounds {
        output.progress(&format!(
            "{}: round {} of {}",
            pair.title,
            round + 1,
            settings.rounds
        ));
        let turn = |contender| run::measure(site, pair.scenario, contender, settings.window, None);
        let (one, other) = match round % 2 {
            0 => {
                let one = turn(pair.little).await?;
                (one, turn(pair.much).await?)
            }
            _ => {
                let other = turn(pair.much).await?;
                (turn(pair.little).await?, other)
            }
        };
        little.push(one.cost(pair.scenario));
        much.push(other.cost(pair.scenario));
    }
    tell(&pair.title, &much, &little, output);
    Ok(())
}

fn tell(title: &str, much: &[f64], little: &[f64], output: &mut Output) {
    let Some(Spread {
        median,
        least,
        greatest,
    }) = ratios(much, little)
    else {
        return;
    };
    output.line(&format!(
        "  {title:<58} {median:.2} ({least:.2} to {greatest:.2})"
    ));
    output.event(&json!({
        "event": "scale", "title": title, "ratio": median, "least": least, "greatest": greatest,
    }));
}

/// The costs of a request, of so many turns.
async fn costs(
    site: &Site,
    settings: &Settings,
    scenario: Scenario,
    contender: &Contender,
) -> Result<Vec<f64>, CompareError> {
    let mut costs = Vec::new();
    for _ in 0..settings.rounds {
        let turn: Measured = run::measure(site, scenario, contender, settings.window, None).await?;
        costs.push(turn.cost(scenario));
    }
    Ok(costs)
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn shares_are_of_what_was_used_meanwhile() {
        assert_eq!(shares(&[100, 100], &[400, 200]), [75.0, 25.0]);
        assert_eq!(shares(&[5, 5], &[5, 5]), [0.0, 0.0]);
    }
}
