//! Samples of one generation, and the stretch of time that a judgement compares.
//!
//! Room  pure.
//! Holds counters that went back (another process under the same name) count as nothing, never as negative.

use std::time::{Duration, Instant};

/// One look at a generation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    /// Counted since its start.
    pub(crate) accepted: u64,
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) latency: Vec<u64>,
    /// Now.
    pub(crate) connections: u64,
    pub(crate) healthy: u64,
    pub(crate) backends: u64,
    pub(crate) cpu: Duration,
    pub(crate) rss: u64,
    pub(crate) descriptors: u64,
}

impl Sample {
    /// The same process at its start: what is counted is zero, what it uses is not known and taken as it is.
    pub(crate) fn at_the_start(&self, started: Instant) -> Self {
        Self {
            at: started,
            accepted: 0,
            requests: 0,
            failed: 0,
            latency: Vec::new(),
            cpu: Duration::ZERO,
            ..self.clone()
        }
    }
}

/// What happened between the first and the last of some samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Window {
    pub(crate) length: Duration,
    pub(crate) accepted: u64,
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) latency: Vec<u64>,
    /// At the end.
    pub(crate) connections: u64,
    pub(crate) connections_min: u64,
    pub(crate) healthy: u64,
    pub(crate) backends: u64,
    pub(crate) cores_used: f64,
    pub(crate) rss: u64,
    pub(crate) first_rss: u64,
    pub(crate) descriptors: u64,
    pub(crate) first_descriptors: u64,
}

impl Window {
    pub(crate) fn error_rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = self.failed as f64 / self.requests.max(1) as f64;
        rate
    }

    /// How many answers were timed.
    pub(crate) fn answered(&self) -> u64 {
        self.latency
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// The window of these samples, oldest first; `None` without any.
pub(crate) fn window<'s>(samples: impl IntoIterator<Item = &'s Sample>) -> Option<Window> {
    let samples: Vec<&Sample> = samples.into_iter().collect();
    let (first, last) = (samples.first()?, samples.last()?);
    let length = last.at.saturating_duration_since(first.at);
    let cpu = last.cpu.saturating_sub(first.cpu);
    let before = first.latency.iter().copied().chain(std::iter::repeat(0));
    Some(Window {
        length,
        accepted: last.accepted.saturating_sub(first.accepted),
        requests: last.requests.saturating_sub(first.requests),
        failed: last.failed.saturating_sub(first.failed),
        latency: last
            .latency
            .iter()
            .zip(before)
            .map(|(now, before)| now.saturating_sub(before))
            .collect(),
        connections: last.connections,
        connections_min: samples
            .iter()
            .map(|sample| sample.connections)
            .min()
            .unwrap_or_default(),
        healthy: last.healthy,
        backends: last.backends,
        cores_used: if length.is_zero() {
            0.0
        } else {
            cpu.as_secs_f64() / length.as_secs_f64()
        },
        rss: last.rss,
        first_rss: first.rss,
        descriptors: last.descriptors,
        first_descriptors: first.descriptors,
    })
}
