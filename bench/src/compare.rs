//! Our proxies beside others in one run: the same origins, the same clients, every answer checked, CPU for each request.
//!
//! ```text
//!   network of its own ─> origins ─> everybody started, idle until its turn
//!     for each scenario, round after round:  A B C, C B A, …  ─> ratios of the same round ─> their median
//!     then: latency at a fixed rate, system calls of a request, memory of an idle connection
//! ```
//!
//! Room  the order of the measurement; what is measured, who takes part and how it is told have their files.
//! In    which scenarios, how many rounds, which cores.
//! Out   a table and JSON lines; whether every answer was right.
//! Holds a run with a wrong or missing answer is no measurement: it ends the comparison.

pub(crate) mod contender;
mod extras;
mod gate;
mod network;
mod page;
pub(crate) mod pinning;
pub(crate) mod process;
mod report;
pub(crate) mod run;
pub(crate) mod scenario;
pub(crate) mod statistics;

use std::path::PathBuf;
use std::time::Duration;

use crate::certificates::Certificates;
use crate::origin::{Kind, Origin};
use crate::output::Output;

pub use contender::Peer;
pub use network::enter_own_network;
pub use pinning::Cores;
pub use scenario::Scenario;

use contender::{Contender, Site};
use gate::Verdict;
use report::Row;
use run::Measured;

/// What a person can choose.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The load balancer; `None`: beside this program.
    pub lb: Option<PathBuf>,
    /// The edge proxy; `None`: beside this program.
    pub edge: Option<PathBuf>,
    /// Which of them, in this order.
    pub scenarios: Vec<Scenario>,
    /// Whom we are compared with, in this order.
    pub peers: Vec<Peer>,
    /// They were asked for by name: one that is missing is an error, not an absence.
    pub peers_are_wanted: bool,
    /// Turns of everybody in each scenario.
    pub rounds: u32,
    /// How long a turn is measured.
    pub window: Duration,
    /// Who runs where.
    pub cores: Cores,
    /// Latency at a fixed rate, system calls, memory of idle connections, too.
    pub with_extras: bool,
    /// HTTP proxies write an access log into a file: ours, HAProxy and nginx.
    pub access_log: bool,
    /// Where a page with plots is written.
    pub report: Option<PathBuf>,
}

/// Why nothing was measured, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A file, a port, a process.
    #[error("the comparison cannot be set up: {what}: {source}")]
    SetUp {
        /// What was being made.
        what: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A proxy that does not answer as it must.
    #[error("{who} in {scenario}: {why}; nothing is compared with wrong answers. Its log: {log}")]
    Answers {
        /// Which proxy.
        who: String,
        /// In which scenario.
        scenario: &'static str,
        /// What was seen.
        why: String,
        /// The end of what it wrote.
        log: String,
    },
}

/// Measures. `Ok(true)`: every scenario was measured.
///
/// # Errors
/// See [`CompareError`].
pub async fn run(settings: &Settings, output: &mut Output) -> Result<bool, CompareError> {
    let (_directory, _origin, site) = stage(settings.cores, settings.access_log)?;
    let mut charts = Vec::new();
    for scenario in &settings.scenarios {
        let contenders = contender::start_all(&site, *scenario, settings).await?;
        let names: Vec<String> = contenders.iter().map(Contender::name).collect();
        output.line(&format!("\n{}: {}", scenario.title(), names.join(", ")));
        let turns = take_turns(&site, *scenario, settings, &contenders, output).await?;
        let mut rows = Vec::new();
        for (place, contender) in contenders.iter().enumerate() {
            let extras = if settings.with_extras {
                extras::measure(&site, *scenario, contender, &of(&turns, place)).await?
            } else {
                extras::Extras::default()
            };
            rows.push(Row::new(contender.name(), &turns, place, extras));
        }
        report::print(*scenario, &rows, output);
        charts.push(report::chart(*scenario, &rows));
        contenders.into_iter().for_each(Contender::stop);
    }
    if let Some(file) = &settings.report {
        std::fs::write(file, page::page(&how(settings), &charts))
            .map_err(|source| set_up(file.display().to_string(), source))?;
        output.line(&format!("\nthe report is in {}", file.display()));
    }
    Ok(true)
}

/// How it was measured, for the page.
fn how(settings: &Settings) -> Vec<String> {
    let where_ = match settings.cores {
        Cores::One => "Clients, proxies and origin on one processor",
        Cores::Two => "Clients and origin on one processor, proxies on another",
    };
    vec![
        format!(
            "{where_}, in turn, {} rounds of {:?}; every answer was checked. The control is our own proxy a second time: what its ratio is not 1 by is noise.",
            settings.rounds, settings.window
        ),
        "One worker each, kept connections to the origin, the same header fields added, TLS 1.3 with X25519 and AES-256-GCM.".to_owned(),
        match settings.access_log {
            true => "Each request is written into an access log, a file of each proxy's own.",
            false => "No access log.",
        }
        .to_owned(),
    ]
}

/// Judges. `Ok(true)`: every scenario has passed.
///
/// # Errors
/// See [`CompareError`].
pub async fn gate(settings: &Settings, output: &mut Output) -> Result<bool, CompareError> {
    let (_directory, _origin, site) = stage(settings.cores, settings.access_log)?;
    let (mut passed, mut failed, mut open) = (0, 0, 0);
    for scenario in &settings.scenarios {
        let contenders = contender::start_all(&site, *scenario, settings).await?;
        let mut verdict = Verdict::Inconclusive(String::new());
        let mut turns = Vec::new();
        for _ in 0..ATTEMPTS {
            turns.extend(take_turns(&site, *scenario, settings, &contenders, output).await?);
            verdict = judge(*scenario, &contenders, &turns);
            if matches!(verdict, Verdict::Passed(_)) {
                break;
            }
        }
        let (word, why, count) = match &verdict {
            Verdict::Passed(why) => ("passed", why, &mut passed),
            Verdict::Failed(why) => ("FAILED", why, &mut failed),
            Verdict::Inconclusive(why) => ("INCONCLUSIVE", why, &mut open),
        };
        *count += 1;
        output.line(&format!("{word:<13} {:<16} {why}", scenario.name()));
        output.event(&serde_json::json!({
            "event": "verdict", "scenario": scenario.name(), "verdict": word.to_lowercase(), "why": why,
        }));
        contenders.into_iter().for_each(Contender::stop);
    }
    output.line(&format!(
        "{passed} passed, {failed} failed, {open} inconclusive"
    ));
    Ok(failed == 0 && open == 0)
}

/// How often a scenario that has not passed is measured; the rounds before count on.
const ATTEMPTS: u32 = 3;

fn judge(scenario: Scenario, contenders: &[Contender], turns: &[Vec<Measured>]) -> Verdict {
    let costs = |place: usize| -> Vec<f64> {
        of(turns, place)
            .iter()
            .map(|turn| turn.cost(scenario))
            .collect()
    };
    let peers = contenders.iter().enumerate().skip(2);
    let peers: Vec<(String, Vec<f64>)> = peers
        .map(|(place, peer)| (peer.name(), costs(place)))
        .collect();
    gate::judge(scenario.limit(), &costs(0), &costs(1), &peers)
}

/// The turns of the contender at `place`.
fn of(turns: &[Vec<Measured>], place: usize) -> Vec<Measured> {
    turns
        .iter()
        .filter_map(|turn| turn.get(place))
        .cloned()
        .collect()
}

/// Origin, certificates and a directory; they end with the values.
pub(crate) fn stage(
    cores: Cores,
    access_log: bool,
) -> Result<(tempfile::TempDir, Origin, Site), CompareError> {
    let directory = tempfile::Builder::new()
        .prefix("zeitwork-compare-")
        .tempdir()
        .map_err(|source| set_up("a directory", source))?;
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let origin = Origin::start(Kind::Http, any).map_err(|source| set_up("an origin", source))?;
    let certificates = Certificates::write(directory.path(), &[scenario::HOST])
        .map_err(|source| set_up("certificates", source))?;
    let site = Site {
        directory: directory.path().to_owned(),
        origin: origin.address(),
        certificates,
        cores,
        access_log,
        third: std::cell::Cell::new(None),
    };
    Ok((directory, origin, site))
}

/// `rounds` turns of everybody; in every other round from the last to the first, so that a drift of the machine hits
/// nobody more than others. What a round measured, in the order of the contenders.
async fn take_turns(
    site: &Site,
    scenario: Scenario,
    settings: &Settings,
    contenders: &[Contender],
    output: &mut Output,
) -> Result<Vec<Vec<Measured>>, CompareError> {
    let mut rounds = Vec::new();
    for round in 0..settings.rounds {
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        let mut measured: Vec<(usize, Measured)> = Vec::new();
        for place in order {
            let Some(contender) = contenders.get(place) else {
                continue;
            };
            output.progress(&format!(
                "round {} of {}: {}",
                round + 1,
                settings.rounds,
                contender.name()
            ));
            let turn = run::measure(site, scenario, contender, settings.window, None).await?;
            output.event(&turn.event(scenario, &contender.name(), round));
            measured.push((place, turn));
        }
        measured.sort_by_key(|(place, _)| *place);
        rounds.push(measured.into_iter().map(|(_, turn)| turn).collect());
    }
    Ok(rounds)
}

pub(crate) fn set_up(what: impl Into<String>, source: std::io::Error) -> CompareError {
    CompareError::SetUp {
        what: what.into(),
        source,
    }
}
