//! How long exchanges took: a histogram that merges, and percentiles of it.
//!
//! Room  pure: arithmetic on durations (hdrhistogram).
//! In    one duration per exchange.
//! Out   percentiles within 1 %, the exact maximum.
//! Holds the histogram is allocated with the first value: an empty slice of time costs nothing.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer, ser::SerializeStruct};

/// Significant digits of a histogram: within 1 %, a few kilobytes each, one per slice.
const DIGITS: u8 = 2;

/// Longer values count as this: bounds the histogram's memory. Every exchange has a shorter limit.
const LONGEST: Duration = Duration::from_secs(3_600);

/// A distribution of durations.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    histogram: Option<Histogram<u32>>,
    max: Duration,
}

impl Latency {
    /// Adds one value (unit of storage: the microsecond).
    pub fn record(&mut self, took: Duration) {
        self.max = self.max.max(took);
        let micros = u64::try_from(took.min(LONGEST).as_micros())
            .unwrap_or(u64::MAX)
            .max(1);
        if self.histogram.is_none() {
            self.histogram = Histogram::new(DIGITS).ok();
        }
        if let Some(histogram) = &mut self.histogram {
            // It resizes itself up to LONGEST, so it cannot refuse a value.
            histogram.record(micros).unwrap_or_default();
        }
    }

    /// Adds everything that `other` has.
    pub fn merge(&mut self, other: &Self) {
        self.max = self.max.max(other.max);
        match (&mut self.histogram, &other.histogram) {
            (Some(mine), Some(theirs)) => mine.add(theirs).unwrap_or_default(),
            (None, Some(theirs)) => self.histogram = Some(theirs.clone()),
            (_, None) => {}
        }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    /// The longest value, exactly; zero when there is none.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The value that the share `quantile` (0.0 to 1.0) of all values does not exceed; zero when there is none.
    pub fn quantile(&self, quantile: f64) -> Duration {
        let value = |histogram: &Histogram<u32>| {
            Duration::from_micros(histogram.value_at_quantile(quantile))
        };
        self.histogram
            .as_ref()
            .map_or(Duration::ZERO, value)
            .min(self.max)
    }
}

/// Microseconds, with the unit in the name, for people who read JSON.
impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let mut map = serializer.serialize_struct("Latency", 6)?;
        map.serialize_field("count", &self.count())?;
        for (name, quantile) in [
            ("p50_us", 0.5),
            ("p90_us", 0.9),
            ("p99_us", 0.99),
            ("p999_us", 0.999),
        ] {
            map.serialize_field(name, &micros(self.quantile(quantile)))?;
        }
        map.serialize_field("max_us", &micros(self.max))?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(values: impl IntoIterator<Item = u64>) -> Latency {
        let mut latency = Latency::default();
        values
            .into_iter()
            .for_each(|value| latency.record(Duration::from_millis(value)));
        latency
    }

    fn is_near(actual: Duration, expected_ms: u64) -> bool {
        let expected = Duration::from_millis(expected_ms);
        actual.abs_diff(expected) <= expected.mul_f64(0.01)
    }

    #[test]
    fn percentiles_are_within_one_percent_and_the_maximum_is_exact() {
        let latency = milliseconds(1..=1_000);
        assert!(is_near(latency.quantile(0.5), 500));
        assert!(is_near(latency.quantile(0.9), 900));
        assert!(is_near(latency.quantile(0.999), 999));
        assert_eq!(latency.max(), Duration::from_secs(1));
        assert_eq!(latency.count(), 1_000);
    }

    #[test]
    fn merging_equals_recording_everything_in_one() {
        let mut merged = milliseconds(1..=500);
        merged.merge(&milliseconds(501..=1_000));
        let whole = milliseconds(1..=1_000);
        assert_eq!(merged.count(), whole.count());
        for quantile in [0.0, 0.5, 0.99, 1.0] {
            assert_eq!(merged.quantile(quantile), whole.quantile(quantile));
        }
        let mut empty = Latency::default();
        empty.merge(&whole);
        assert_eq!(empty.quantile(0.5), whole.quantile(0.5));
    }

    #[test]
    fn nothing_recorded_is_zero_and_extremes_are_kept() {
        let nothing = Latency::default();
        assert_eq!(
            (nothing.count(), nothing.max(), nothing.quantile(0.99)),
            (0, Duration::ZERO, Duration::ZERO)
        );
        let mut extremes = Latency::default();
        extremes.record(Duration::ZERO);
        extremes.record(Duration::from_secs(86_400));
        assert_eq!(extremes.count(), 2);
        assert_eq!(extremes.max(), Duration::from_secs(86_400));
    }

    #[test]
    fn json_has_the_unit_in_each_name() {
        let json = serde_json::to_value(milliseconds([2])).unwrap();
        assert_eq!(json["count"], 1);
        assert_eq!(json["max_us"], 2_000);
        assert!(json["p99_us"].as_u64().unwrap() >= 1_980);
    }
}
