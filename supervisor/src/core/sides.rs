//! Both generations of a canary or a bake in numbers, for whoever watches it.
//!
//! Holds  they are the samples that the verdict judges; nothing is asked or counted for the eye alone.

use std::time::{Duration, Instant};

use control::{Role, SideStatus};
use handoff::latency::quantile;

use super::Core;
use crate::generation::Generation;
use crate::verdict::{Sample, Window, window};

/// How far back rates go. Sized: three samples, so that a single late one does not show as a gap.
const RECENT: Duration = Duration::from_millis(3500);

impl Core {
    /// The incumbent and the successor, in this order; those that there are.
    pub(super) fn sides(&self, now: Instant) -> Vec<SideStatus> {
        let role = |wanted: Role| {
            let mut all = self.generations.values();
            all.find(|one| one.role == wanted)
        };
        let both = [role(Role::Incumbent), role(Role::Successor)];
        both.into_iter()
            .flatten()
            .map(|one| side(one, now))
            .collect()
    }
}

fn side(generation: &Generation, now: Instant) -> SideStatus {
    let is_recent = |sample: &&Sample| now.saturating_duration_since(sample.at) <= RECENT;
    let recent = window(generation.samples.iter().filter(is_recent)).unwrap_or_default();
    let last = generation.samples.back();
    let native = generation.artifact.is_native();
    let latency = |share| milliseconds(quantile(&recent.latency, share));
    let own = generation
        .health
        .as_ref()
        .and_then(|health| health.median());
    SideStatus {
        role: generation.role,
        generation: generation.number,
        version: generation.artifact.version.clone(),
        connections: last.filter(|_| native).map(|sample| sample.connections),
        requests_per_s: rate(&recent, native),
        error_rate: (native && recent.requests > 0).then(|| recent.error_rate()),
        p50_ms: latency(0.5).or_else(|| milliseconds(own)),
        p99_ms: latency(0.99),
        cores_used: (!recent.length.is_zero()).then_some(recent.cores_used),
        resident_bytes: last.map(|sample| sample.rss),
        descriptors: last.map(|sample| sample.descriptors),
    }
}

fn rate(recent: &Window, native: bool) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a rate for the eye")]
    let rate = recent.requests as f64 / recent.length.as_secs_f64();
    (native && !recent.length.is_zero()).then_some(rate)
}

fn milliseconds(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_secs_f64() * 1000.0)
}
