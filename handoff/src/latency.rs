//! How long answers took, in buckets that two processes of different versions can compare.
//!
//! Room  pure.
//! In    durations, or counts that travelled. Out  a bucket's place, its bound, a quantile.
//! Holds the bounds never change: four to each doubling, from a microsecond to a minute; a peer's counts of any
//!       length are understood.

use std::time::Duration;

/// Buckets to each doubling: neighbours are at most 25 % apart, well below the threshold of a verdict.
const PER_DOUBLING: u32 = 4;

/// Doublings from a microsecond on: 2^26 µs are 67 s.
const DOUBLINGS: u32 = 26;

/// How many buckets there are; the last one is of everything longer.
pub const LATENCY_BUCKETS: usize = (DOUBLINGS * PER_DOUBLING) as usize + 1;

/// The place of the bucket that counts `took`.
#[must_use]
pub fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let doubling = micros.ilog2();
    if doubling >= DOUBLINGS {
        return LATENCY_BUCKETS - 1;
    }
    // The quarter of the way from 2^d to 2^(d+1), rounded down.
    let quarter = ((micros - (1 << doubling)) * u64::from(PER_DOUBLING)) >> doubling;
    let place = u64::from(doubling * PER_DOUBLING) + quarter;
    usize::try_from(place).unwrap_or(LATENCY_BUCKETS - 1)
}

/// Where the bucket at `place` begins; those beyond the last begin where the last does.
#[must_use]
pub fn begins(place: usize) -> Duration {
    let place = place.min(LATENCY_BUCKETS - 1);
    let per_doubling = PER_DOUBLING as usize;
    let base = 1_u64 << (place / per_doubling);
    let quarter = u64::try_from(place % per_doubling).unwrap_or_default();
    Duration::from_micros(base + base * quarter / u64::from(PER_DOUBLING))
}

/// The duration below which `share` (0.0 to 1.0) of what was counted lies, within its bucket's width; `None` when
/// nothing was counted.
#[must_use]
pub fn quantile(counts: &[u64], share: f64) -> Option<Duration> {
    let total: u64 = counts
        .iter()
        .fold(0, |sum, count| sum.saturating_add(*count));
    if total == 0 {
        return None;
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank among counts: exact below 2^53, clamped above"
    )]
    let rank = ((total as f64 * share.clamp(0.0, 1.0)).ceil() as u64).clamp(1, total);
    let mut seen = 0_u64;
    for (place, count) in counts.iter().enumerate() {
        let before = seen;
        seen = seen.saturating_add(*count);
        if seen >= rank {
            let (low, high) = (begins(place), begins(place + 1));
            let width = high.saturating_sub(low);
            let within = u32::try_from((rank - before).min(1 << 20)).unwrap_or(1);
            let of = u32::try_from((*count).min(1 << 20)).unwrap_or(1).max(1);
            return Some(low + width * within.min(of) / of);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{LATENCY_BUCKETS, begins, bucket, quantile};

    #[test]
    fn the_bounds_are_those_of_the_table() {
        for (micros, place) in [
            (0, 0),
            (1, 0),
            (2, 4),
            (3, 6),
            (4, 8),
            (5, 9),
            (1000, 39),
            (1024, 40),
            (u64::MAX, LATENCY_BUCKETS - 1),
        ] {
            assert_eq!(bucket(Duration::from_micros(micros)), place, "{micros} µs");
        }
        assert_eq!(begins(40), Duration::from_micros(1024));
        assert_eq!(begins(41), Duration::from_micros(1280));
        assert_eq!(begins(9999), Duration::from_micros(1 << 26));
    }

    #[test]
    fn a_quantile_lies_in_its_bucket() {
        let mut counts = vec![0; LATENCY_BUCKETS];
        for millis in 1..=100 {
            counts[bucket(Duration::from_millis(millis))] += 1;
        }
        let median = quantile(&counts, 0.5).expect("counted");
        assert!((45..60).contains(&median.as_millis()), "{median:?}");
        let last = quantile(&counts, 0.99).expect("counted");
        assert!((90..116).contains(&last.as_millis()), "{last:?}");
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[0, 0], 0.5), None);
    }

    proptest! {
        #[test]
        fn every_duration_is_within_its_bucket(micros in 1u64..(1 << 26)) {
            let took = Duration::from_micros(micros);
            let place = bucket(took);
            prop_assert!(begins(place) <= took);
            prop_assert!(took < begins(place + 1) || begins(place) == begins(place + 1));
        }

        #[test]
        fn counts_of_a_peer_never_panic(counts in proptest::collection::vec(any::<u64>(), 0..300), share in -1.0f64..2.0) {
            let _ = quantile(&counts, share);
        }
    }
}
