//! One turn: clients at one proxy for a while, and what that cost it.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::contender::{Contender, Site};
use super::{CompareError, Scenario};
use crate::ledger::Ledger;

/// Before it is measured: connections are made, caches are warm.
const WARM_UP: Duration = Duration::from_millis(400);

/// What one turn came to.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    /// Requests of the whole turn, with its beginning.
    pub(super) whole: u64,
    /// Requests that were answered while it was measured.
    pub(super) requests: u64,
    /// Bytes of their answers.
    pub(super) bytes: u64,
    /// The proxy's time on its processor meanwhile.
    pub(super) cpu: Duration,
    pub(super) took: Duration,
    /// From when a request was due to its whole answer, over the whole turn.
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) p999: Duration,
    pub(super) resident: u64,
    /// Handshakes of the turn, and those among them that continued a session.
    pub(super) handshakes: (u64, u64),
}

impl Measured {
    /// Microseconds of processor time for a request; for bulk, seconds for a GB (10^9 bytes).
    #[expect(clippy::cast_precision_loss, reason = "a figure of four digits")]
    pub(super) fn cost(&self, scenario: Scenario) -> f64 {
        if scenario.counts_bytes() {
            return self.cpu.as_secs_f64() / (self.bytes.max(1) as f64 / 1e9);
        }
        self.cpu.as_secs_f64() * 1e6 / self.requests.max(1) as f64
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(super) fn per_second(&self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64()
    }

    /// For a program.
    pub(super) fn event(&self, scenario: Scenario, who: &str, round: u32) -> Value {
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
    let fault = |why: String| CompareError::Answers {
        who: contender.name(),
        scenario: scenario.name(),
        why,
        log: contender.process.log(),
    };
    let mut load = scenario.load(
        &contender
            .entry(site)
            .map_err(|error| fault(error.to_string()))?,
    );
    load.rate = rate;
    let running = load.start().map_err(|error| fault(error.to_string()))?;
    tokio::time::sleep(WARM_UP).await;
    let before = (running.snapshot(), contender.process.cpu(), Instant::now());
    tokio::time::sleep(window).await;
    let after = (running.snapshot(), contender.process.cpu(), Instant::now());
    let resident = contender.process.resident();
    running.stop();
    let whole = running.finish().await;
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

/// Whoever is fast and wrong is not compared.
fn check(scenario: Scenario, ledger: &Ledger) -> Result<(), String> {
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
