//! Times sorted into fixed buckets: recorded by one shard, read and summed by anyone.
//!
//! Room  counting only.
//! In    one duration per connection or connect attempt.
//! Out   [`Histogram`]: bounds and counts, which a Prometheus page can be written from.
//! Holds a duration is counted in exactly one bucket: the first whose bound it does not exceed, else the last.

use std::time::Duration;

use super::Tally;

/// Upper bounds for the time to connect a backend. Sized: loopback takes 50 µs, another region 150 ms, and
/// the default connect timeout is 2 s.
pub(super) const CONNECT_BOUNDS: [Duration; 14] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
];

/// Upper bounds for a connection's age at its end. Sized: one short request to the default lifetime of 24 h.
pub(super) const DURATION_BOUNDS: [Duration; 16] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(6 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
];

/// How often durations fell into each bucket.
#[derive(Clone, Debug)]
pub struct Histogram {
    bounds: &'static [Duration],
    counts: Vec<u64>,
    sum: Duration,
}

impl Histogram {
    pub(super) fn empty(bounds: &'static [Duration]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: Duration::ZERO,
        }
    }

    /// Each bucket's upper bound (inclusive) and the count of this bucket alone; the last bucket, of what is
    /// longer than every bound, has none.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let bounds = self.bounds.iter().copied().map(Some).chain([None]);
        bounds.zip(self.counts.iter().copied())
    }

    /// How many durations were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All recorded durations added up, to the microsecond.
    #[must_use]
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

/// A histogram that one shard writes.
#[derive(Debug)]
pub(crate) struct Buckets {
    bounds: &'static [Duration],
    counts: Box<[Tally]>,
    sum_us: Tally,
}

impl Buckets {
    pub(super) fn new(bounds: &'static [Duration]) -> Self {
        let counts = (0..=bounds.len()).map(|_| Tally::default()).collect();
        Self {
            bounds,
            counts,
            sum_us: Tally::default(),
        }
    }

    /// Counts one duration. Only the shard's own thread may call this.
    pub(crate) fn record(&self, duration: Duration) {
        let bucket = self.bounds.partition_point(|bound| *bound < duration);
        if let Some(count) = self.counts.get(bucket) {
            count.add(1);
        }
        self.sum_us
            .add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn add_to(&self, histogram: &mut Histogram) {
        for (sum, count) in histogram.counts.iter_mut().zip(&self.counts) {
            *sum += count.read();
        }
        histogram.sum += Duration::from_micros(self.sum_us.read());
    }
}

#[cfg(test)]
mod tests {
    use super::{Buckets, CONNECT_BOUNDS, DURATION_BOUNDS, Histogram};
    use std::time::Duration;

    fn counted(bounds: &'static [Duration], durations: &[Duration]) -> Vec<u64> {
        let buckets = Buckets::new(bounds);
        durations
            .iter()
            .for_each(|duration| buckets.record(*duration));
        let mut histogram = Histogram::empty(bounds);
        buckets.add_to(&mut histogram);
        histogram.buckets().map(|(_, count)| count).collect()
    }

    #[test]
    fn bounds_rise() {
        assert!(CONNECT_BOUNDS.is_sorted());
        assert!(DURATION_BOUNDS.is_sorted());
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket_and_what_is_longer_to_the_last() {
        let counts = counted(
            &DURATION_BOUNDS,
            &[
                Duration::ZERO,
                Duration::from_millis(1),
                Duration::from_micros(1_001),
                Duration::from_secs(90_000),
            ],
        );
        assert_eq!(counts.first(), Some(&2));
        assert_eq!(counts.get(1), Some(&1));
        assert_eq!(counts.last(), Some(&1));
        assert_eq!(counts.iter().sum::<u64>(), 4);
    }
}
