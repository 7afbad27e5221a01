//! One turn: clients at one proxy for a while, and what that cost it.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::contender::{Contender, Site};
use super::{CompareError, Scenario};
use crate::ledger::Ledger;
use crate::load::{Load, Running};

/// Before it is measured: connections are made, caches are warm.
const WARM_UP: Duration = Duration::from_millis(400);

/// What one turn came to.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// Requests of the whole turn, with its beginning.
    pub(crate) whole: u64,
    /// Requests that were answered while it was measured.
    pub(crate) requests: u64,
    /// Bytes of their answers.
    pub(crate) bytes: u64,
    /// The proxy's time on its processor meanwhile.
    pub(crate) cpu: Duration,
    pub(crate) took: Duration,
    /// From when a request was due to its whole answer, over the whole turn.
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) p999: Duration,
    pub(crate) resident: u64,
    /// Handshakes of the turn, and those among them that continued a session.
    pub(crate) handshakes: (u64, u64),
}

impl Measured {
    /// Microseconds of processor time for a request; for bulk, seconds for a GB (10^9 bytes).
    #[expect(clippy::cast_precision_loss, reason = "a figure of four digits")]
    pub(crate) fn cost(&self, scenario: Scenario) -> f64 {
        if scenario.counts_bytes() {
            return self.cpu.as_secs_f64() / (self.bytes.max(1) as f64 / 1e9);
        }
        self.cpu.as_secs_f64() * 1e6 / self.requests.max(1) as f64
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(crate) fn per_second(&self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64()
    }

    /// For a program.
    pub(crate) fn event(&self, scenario: Scenario, who: &str, round: u32) -> Value {
        json!({
            "event": "turn",
            "scenario": scenario.name(),
            "proxy": who,
            "round": round,
            "cost": self.cost(scenario),
            "requests": self.requests,
            "bytes": self.bytes,
            "cpu_ns": u64::try_from(self.cpu.as_nanos()).unwrap_or(u64::MAX),
            "requests_per_s": self.per_second(),
            "p50_us": u64::try_from(self.p50.as_micros()).unwrap_or(u64::MAX),
            "p99_us": u64::try_from(self.p99.as_micros()).unwrap_or(u64::MAX),
            "p999_us": u64::try_from(self.p999.as_micros()).unwrap_or(u64::MAX),
            "resident_bytes": self.resident,
            "handshakes": self.handshakes.0,
            "resumed": self.handshakes.1,
        })
    }
}

/// Lets the clients of a scenario loose on a proxy, as fast as answers come or at a rate.
pub(super) async fn measure(
    site: &Site,
    scenario: Scenario,
    contender: &Contender,
    window: Duration,
    rate: Option<NonZeroU32>,
) -> Result<Measured, CompareError> {
    let entry = contender
        .entry(site)
        .map_err(|error| contender.fault(scenario.name(), error.to_string()))?;
    let mut load = scenario.load(&entry);
    load.rate = rate;
    watch(scenario, contender, vec![load], window).await
}

/// Lets these clients loose on a proxy, all at once; `scenario` says what kind of clients they are.
pub(crate) async fn watch(
    scenario: Scenario,
    contender: &Contender,
    loads: Vec<Load>,
    window: Duration,
) -> Result<Measured, CompareError> {
    let fault = |why: String| contender.fault(scenario.name(), why);
    let running: Result<Vec<Running>, _> = loads.into_iter().map(Load::start).collect();
    let running = running.map_err(|error| fault(error.to_string()))?;
    let snapshot = || merged(running.iter().map(Running::snapshot));
    tokio::time::sleep(WARM_UP).await;
    let before = (snapshot(), contender.process.cpu(), Instant::now());
    tokio::time::sleep(window).await;
    let after = (snapshot(), contender.process.cpu(), Instant::now());
    let resident = contender.process.resident();
    running.iter().for_each(Running::stop);
    let finished = futures_util::future::join_all(running.into_iter().map(Running::finish)).await;
    let whole = merged(finished);
    check(scenario, &whole).map_err(&fault)?;
    let ok = |ledger: &Ledger| ledger.exchanges.count(crate::ledger::Class::Ok);
    let cpu = after
        .1
        .zip(before.1)
        .map(|(after, before)| after.saturating_sub(before));
    Ok(Measured {
        whole: ok(&whole),
        requests: ok(&after.0).saturating_sub(ok(&before.0)),
        bytes: after
            .0
            .bytes_received
            .saturating_sub(before.0.bytes_received),
        cpu: cpu.ok_or_else(|| fault("it has ended".to_owned()))?,
        took: after.2.saturating_duration_since(before.2),
        p50: whole.latency.quantile(0.5),
        p99: whole.latency.quantile(0.99),
        p999: whole.latency.quantile(0.999),
        resident: resident.unwrap_or_default(),
        handshakes: (whole.handshakes, whole.resumed),
    })
}

/// The account of all of them.
fn merged(parts: impl IntoIterator<Item = Ledger>) -> Ledger {
    let mut parts = parts.into_iter();
    let first = parts.next().unwrap_or_else(|| Ledger::new(WARM_UP));
    parts.fold(first, |mut whole, part| {
        whole.merge(&part);
        whole
    })
}

/// Whoever is fast and wrong is not compared.
pub(crate) fn check(scenario: Scenario, ledger: &Ledger) -> Result<(), String> {
    if !ledger.is_clean() {
        let example = ledger.examples.first().map(|example| example.what.clone());
        return Err(format!(
            "{} of {} requests were lost: {}",
            ledger.losses(),
            ledger.exchanges.started(),
            example.unwrap_or_default()
        ));
    }
    match scenario {
        Scenario::Handshakes if ledger.resumed > 0 => {
            Err(format!("{} handshakes were no full ones", ledger.resumed))
        }
        Scenario::Resumptions if ledger.resumed * 10 < ledger.handshakes * 9 => Err(format!(
            "only {} of {} handshakes continued a session",
            ledger.resumed, ledger.handshakes
        )),
        _ => Ok(()),
    }
}
