//! Metrics as Prometheus text: one recorder per process, rendered on demand.
//!
//! Room  the registry; what is counted is decided by the binaries.
//! Holds the recorder is installed once; a series that nobody publishes any more (a backend that left)
//!       disappears after `STALE_AFTER`.

mod upstreams;

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;

pub use upstreams::{describe_upstreams, publish_upstreams};

/// How long a counter or gauge is shown after it was last published.
///
/// Sized: everything is published once a second and on each scrape; a missed minute means it is gone.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// Bounds of a latency histogram, in seconds: 1 ms to 10 s.
const LATENCY_SECONDS: [f64; 13] = [
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The process's registry.
#[derive(Clone, Debug)]
pub struct Exposition(PrometheusHandle);

/// The recorder could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be recorded: {0}")]
pub struct InstallError(String);

impl Exposition {
    /// Makes `metrics`' macros count here; a second call returns the same registry.
    ///
    /// # Errors
    /// Another recorder was installed in this process.
    pub fn install() -> Result<Self, InstallError> {
        static INSTALLED: OnceLock<Exposition> = OnceLock::new();
        static INSTALLING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(installed) = INSTALLED.get() {
            return Ok(installed.clone());
        }
        let recorder = PrometheusBuilder::new()
            .idle_timeout(
                MetricKindMask::COUNTER | MetricKindMask::GAUGE,
                Some(STALE_AFTER),
            )
            .set_buckets(&LATENCY_SECONDS)
            .map_err(|error| InstallError(error.to_string()))?
            .build_recorder();
        let exposition = Self(recorder.handle());
        metrics::set_global_recorder(recorder).map_err(|error| InstallError(error.to_string()))?;
        Ok(INSTALLED.get_or_init(|| exposition).clone())
    }

    /// Everything recorded, as Prometheus text (version 0.0.4).
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Moves recorded samples into their histograms; to be called regularly, or memory grows.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

/// One histogram that was counted elsewhere, as Prometheus text.
///
/// `counts` has one entry for each of `bounds` (seconds, ascending) and one more for what lies above.
pub fn render_histogram(
    name: &str,
    help: &str,
    bounds: &[f64],
    counts: &[u64],
    sum: f64,
) -> String {
    use std::fmt::Write as _;
    let mut text = format!("# HELP {name} {help}\n# TYPE {name} histogram\n");
    let mut total = 0_u64;
    let labels = bounds
        .iter()
        .map(ToString::to_string)
        .chain(std::iter::once("+Inf".to_owned()));
    for (bound, count) in labels.zip(counts.iter().chain(std::iter::repeat(&0))) {
        total = total.saturating_add(*count);
        let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {total}");
    }
    let _ = writeln!(text, "{name}_sum {sum}\n{name}_count {total}\n");
    text
}

/// A gauge's value for yes and no.
pub fn truth(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// A gauge's value for a count: exact up to 2^53, and good enough beyond.
pub fn number(count: u64) -> f64 {
    let high = u32::try_from(count >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(count & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    f64::from(high).mul_add(4_294_967_296.0, f64::from(low))
}

#[cfg(test)]
mod tests {
    use super::{Exposition, render_histogram};

    #[test]
    fn what_is_counted_is_rendered_and_installing_twice_is_harmless() {
        let exposition = Exposition::install().expect("installs");
        metrics::counter!("test_things_total", "kind" => "a").absolute(7);
        let again = Exposition::install().expect("is the same");
        assert!(again.render().contains("test_things_total{kind=\"a\"} 7"));
        exposition.upkeep();
    }

    #[test]
    fn a_histogram_counted_elsewhere_is_cumulative() {
        let text = render_histogram("x_seconds", "how long", &[0.5, 1.0], &[2, 3, 1], 4.5);
        assert_eq!(
            text,
            "# HELP x_seconds how long\n# TYPE x_seconds histogram\nx_seconds_bucket{le=\"0.5\"} 2\n\
             x_seconds_bucket{le=\"1\"} 5\nx_seconds_bucket{le=\"+Inf\"} 6\nx_seconds_sum 4.5\n\
             x_seconds_count 6\n\n"
        );
    }
}
