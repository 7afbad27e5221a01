//! Is the successor as good as the incumbent was? The thresholds of a bake, and what crossing one leads to.
//!
//! Room  pure: samples in, a judgement out; no clock is asked and no process looked at.
//! In    what each generation told and used, second by second.
//! Out   good, or the first threshold that is crossed with both numbers; the gravest goes first.
//! Holds no data is never good; a threshold that both generations cross alike is the world's fault, not the
//!       successor's.

mod answers;
mod queue;
#[cfg(test)]
mod tests;
mod window;

use std::time::Duration;

use handoff::latency::quantile;
use serde::Deserialize;

pub(crate) use answers::Answers;
pub(crate) use queue::Queue;
pub(crate) use window::{Sample, Window, window};

/// What a bake watches; every value can be set under `[thresholds]` of supervisor.toml.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Thresholds {
    /// Failed requests of all, above which a person is asked.
    pub(crate) error_rate_pause: f64,
    /// Above which the incumbent returns.
    pub(crate) error_rate_rollback: f64,
    /// The successor's median answer time over the incumbent's.
    pub(crate) latency_factor: f64,
    /// Processor time of all cores.
    pub(crate) cpu: f64,
    /// Resident memory of what the host (or the unit) has.
    pub(crate) memory: f64,
    /// Resident memory and descriptors over the incumbent's, while they grow.
    pub(crate) growth_factor: f64,
    /// How much of the open connections may be missing.
    pub(crate) connections_drop: f64,
    /// Requests of a generation, below which its rates say nothing.
    pub(crate) min_requests: u64,
    /// Requests of the successor that a bake must have seen to be good; 0: an idle service may be upgraded.
    pub(crate) require_requests: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            error_rate_pause: 0.01,
            error_rate_rollback: 0.05,
            latency_factor: 2.0,
            cpu: 0.9,
            memory: 0.9,
            growth_factor: 2.0,
            connections_drop: 0.1,
            min_requests: 100,
            require_requests: 0,
        }
    }
}

/// Shortest window in which times and numbers of connections are compared. Sized: three samples.
pub(crate) const WINDOW_MIN: Duration = Duration::from_secs(3);

/// Differences of answer times below this are noise of the host, whatever their ratio.
const LATENCY_NOISE: Duration = Duration::from_millis(2);

/// Growth below this is a process that warms up: caches, buffers, the first connections.
const MEMORY_NOISE: u64 = 64 << 20;
const DESCRIPTORS_NOISE: u64 = 200;

/// Open connections below which a drop is chance.
const CONNECTIONS_MIN: u64 = 50;

/// What is known at one moment of a bake.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// Of the incumbent: before the successor accepted, or beside it in a canary.
    pub(crate) baseline: Option<Window>,
    /// Of the successor since it accepts.
    pub(crate) candidate: Option<Window>,
    /// Open connections of both, now.
    pub(crate) connections: u64,
    /// Cores of the host.
    pub(crate) cores: f64,
    /// Memory that there is, in bytes.
    pub(crate) memory: Option<u64>,
    /// The successor speaks the native handoff: it tells numbers, or something is wrong with it.
    pub(crate) is_native: bool,
    /// From the health URL, of a successor that tells nothing itself.
    pub(crate) answers: Option<Answers>,
    /// Of the sockets that a native successor accepts on.
    pub(crate) queue: Queue,
}

/// What the evidence says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    Good,
    /// Not yet enough is known.
    NoData(String),
    /// The host is busy: wait.
    Hold(String),
    /// Bad unless it passes quickly.
    Suspect(String),
    /// A person has to look.
    Pause(String),
    /// The incumbent returns at once.
    Breach(String),
}

/// The gravest finding, or none.
pub(crate) fn judge(limits: &Thresholds, evidence: &Evidence) -> Judgement {
    let Some(candidate) = &evidence.candidate else {
        return Judgement::NoData("the successor has told no numbers".to_owned());
    };
    let baseline = evidence.baseline.as_ref();
    errors(limits, baseline, candidate)
        .or_else(|| queue::queue(&evidence.queue, candidate))
        .or_else(|| growth(limits, baseline, candidate))
        .or_else(|| health(baseline, candidate))
        .or_else(|| answers::answers(limits, evidence.answers.as_ref()?))
        .or_else(|| latency(limits, baseline, candidate))
        .or_else(|| memory(limits, evidence.memory, candidate))
        .or_else(|| connections(limits, baseline, candidate, evidence.connections))
        .or_else(|| cpu(limits, evidence.cores, candidate))
        .or_else(|| traffic(limits, evidence.is_native, candidate))
        .unwrap_or(Judgement::Good)
}

fn errors(limits: &Thresholds, baseline: Option<&Window>, candidate: &Window) -> Option<Judgement> {
    if candidate.requests < limits.min_requests {
        return None;
    }
    let (rate, before) = (
        candidate.error_rate(),
        baseline.map_or(0.0, Window::error_rate),
    );
    let text = || {
        format!(
            "error rate {} of {} requests (the incumbent: {})",
            percent(rate),
            candidate.requests,
            percent(before)
        )
    };
    let is_its_own = rate > 2.0 * before;
    if rate > limits.error_rate_rollback && is_its_own {
        let limit = percent(limits.error_rate_rollback);
        return Some(Judgement::Breach(format!("{}, above {limit}", text())));
    }
    let limit = percent(limits.error_rate_pause);
    let above = rate > limits.error_rate_pause && is_its_own;
    above.then(|| Judgement::Pause(format!("{}, above {limit}", text())))
}

/// What leaks grows, and is larger than the incumbent ever was.
fn growth(limits: &Thresholds, baseline: Option<&Window>, candidate: &Window) -> Option<Judgement> {
    let baseline = baseline?;
    let allowed =
        |before: u64, noise: u64| scaled(before, limits.growth_factor).saturating_add(noise);
    let memory = allowed(baseline.rss, MEMORY_NOISE);
    let grows = candidate.rss > candidate.first_rss.saturating_add(MEMORY_NOISE / 2);
    if candidate.rss > memory && grows {
        return Some(Judgement::Breach(format!(
            "memory grows: {} MiB, at the beginning of the bake {} MiB (the incumbent: {} MiB)",
            candidate.rss >> 20,
            candidate.first_rss >> 20,
            baseline.rss >> 20
        )));
    }
    // A connection needs two descriptors, and a splice pipe two more.
    let needed = candidate.connections.saturating_mul(4);
    let descriptors = allowed(baseline.descriptors, DESCRIPTORS_NOISE).saturating_add(needed);
    let grows = candidate.descriptors
        > candidate
            .first_descriptors
            .saturating_add(DESCRIPTORS_NOISE / 2);
    (candidate.descriptors > descriptors && grows).then(|| {
        Judgement::Breach(format!(
            "descriptors grow: {}, at the beginning of the bake {} (the incumbent: {}), for {} connections",
            candidate.descriptors, candidate.first_descriptors, baseline.descriptors, candidate.connections
        ))
    })
}

fn health(baseline: Option<&Window>, candidate: &Window) -> Option<Judgement> {
    let was_healthy = baseline.is_none_or(|before| before.backends == 0 || before.healthy > 0);
    let is_unhealthy = candidate.backends > 0 && candidate.healthy == 0;
    (is_unhealthy && was_healthy).then(|| {
        Judgement::Suspect(format!(
            "unhealthy: none of its {} backends answers it (the incumbent: {})",
            candidate.backends,
            baseline.map_or(0, |before| before.healthy)
        ))
    })
}

fn latency(
    limits: &Thresholds,
    baseline: Option<&Window>,
    candidate: &Window,
) -> Option<Judgement> {
    let baseline = baseline?;
    let enough = |window: &Window| window.answered() >= limits.min_requests;
    if candidate.length < WINDOW_MIN || !enough(baseline) || !enough(candidate) {
        return None;
    }
    let (before, after) = (
        quantile(&baseline.latency, 0.5)?,
        quantile(&candidate.latency, 0.5)?,
    );
    let limit = before.mul_f64(limits.latency_factor.max(1.0));
    (after > limit && after > before + LATENCY_NOISE).then(|| {
        Judgement::Suspect(format!(
            "half of the answers take more than {after:.1?} (the incumbent: {before:.1?}), above {} ×",
            limits.latency_factor
        ))
    })
}

fn memory(limits: &Thresholds, total: Option<u64>, candidate: &Window) -> Option<Judgement> {
    let limit = scaled(total?, limits.memory);
    (candidate.rss > limit).then(|| {
        Judgement::Pause(format!(
            "memory {} MiB, above {} of what there is",
            candidate.rss >> 20,
            percent(limits.memory)
        ))
    })
}

fn connections(
    limits: &Thresholds,
    baseline: Option<&Window>,
    candidate: &Window,
    now: u64,
) -> Option<Judgement> {
    let before = baseline?.connections_min;
    let limit = scaled(before, 1.0 - limits.connections_drop);
    let is_clear = before >= CONNECTIONS_MIN && candidate.length >= WINDOW_MIN && now < limit;
    is_clear.then(|| {
        Judgement::Pause(format!(
            "{now} open connections of both generations (before: {before}), a drop of more than {}",
            percent(limits.connections_drop)
        ))
    })
}

fn cpu(limits: &Thresholds, cores: f64, candidate: &Window) -> Option<Judgement> {
    let share = candidate.cores_used / cores.max(1.0);
    (candidate.length >= WINDOW_MIN && share > limits.cpu).then(|| {
        Judgement::Hold(format!(
            "processor time {}, above {}",
            percent(share),
            percent(limits.cpu)
        ))
    })
}

fn traffic(limits: &Thresholds, is_native: bool, candidate: &Window) -> Option<Judgement> {
    let too_few = is_native && candidate.requests < limits.require_requests;
    too_few.then(|| {
        Judgement::NoData(format!(
            "{} requests, {} are required for a verdict",
            candidate.requests, limits.require_requests
        ))
    })
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bytes and counts against a threshold: rounding does not matter"
)]
fn scaled(count: u64, factor: f64) -> u64 {
    (count as f64 * factor.max(0.0)) as u64
}
