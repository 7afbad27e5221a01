//! When the connections of a draining shard are cut: one after the other before the deadline, not all at it.
//!
//! Room  pure: times and numbers.
//! In    when the drain began and when it is over; how many connections are left.
//! Out   when to look next, and how many to cut then.
//! Holds nobody is cut in the first half of a drain; at the deadline nobody is left. Clients that come back
//!       then do so one by one, and not as a herd.

use std::time::{Duration, Instant};

/// Longest time over which they are spread. Sized: a thousand clients that come back within ten seconds are a
/// hundred a second.
const SPREAD_MAX: Duration = Duration::from_secs(10);

/// Time between two looks.
const STEP: Duration = Duration::from_millis(100);

/// The last part of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Farewell {
    next: Instant,
    until: Instant,
}

impl Farewell {
    /// Of a drain that begins now and is over at `until`.
    pub(super) fn new(now: Instant, until: Instant) -> Self {
        let left = until.saturating_duration_since(now);
        let spread = (left / 2).min(SPREAD_MAX);
        Self {
            next: until.checked_sub(spread).unwrap_or(now),
            until,
        }
    }

    /// When to look.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// How many of `held` connections to cut now; to be asked once it is time to look.
    pub(super) fn due(&mut self, now: Instant, held: usize) -> usize {
        if now < self.next {
            return 0;
        }
        let left = self.until.saturating_duration_since(now);
        if left.is_zero() {
            return held;
        }
        // The looks that are left, this one included, share the rest evenly.
        let looks = left.as_millis().div_ceil(STEP.as_millis()) + 1;
        let looks = usize::try_from(looks).unwrap_or(usize::MAX);
        let due = held.div_ceil(looks);
        // A few take the whole time, too.
        let rest = u32::try_from(held - due).unwrap_or(u32::MAX);
        let pause = STEP.max(left / rest.saturating_add(1));
        self.next = (now + pause).min(self.until);
        due
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Farewell;

    fn cuts(drain: Duration, held: usize) -> Vec<(Duration, usize)> {
        let begin = Instant::now();
        let mut farewell = Farewell::new(begin, begin + drain);
        let mut left = held;
        let mut cuts = Vec::new();
        for _ in 0..1000 {
            let now = farewell.next();
            let due = farewell.due(now, left);
            left -= due;
            cuts.push((now - begin, due));
            if left == 0 {
                return cuts;
            }
        }
        panic!("{left} are never cut");
    }

    #[test]
    fn a_long_drain_is_spread_over_its_last_ten_seconds() {
        let cuts = cuts(Duration::from_secs(600), 1000);
        assert_eq!(cuts.first().map(|(at, _)| at.as_secs()), Some(590));
        assert!(cuts.iter().all(|(_, count)| *count <= 11), "{cuts:?}");
        assert_eq!(cuts.iter().map(|(_, count)| count).sum::<usize>(), 1000);
        assert!(
            cuts.last()
                .is_some_and(|(at, _)| *at <= Duration::from_secs(600))
        );
    }

    #[test]
    fn a_short_one_over_its_second_half_and_none_at_once() {
        let short = cuts(Duration::from_secs(2), 10);
        assert_eq!(
            short.first().map(|(at, _)| *at),
            Some(Duration::from_secs(1))
        );
        let at_once = cuts(Duration::ZERO, 10);
        assert_eq!(at_once, [(Duration::ZERO, 10)]);
        let few = cuts(Duration::from_secs(600), 3);
        assert_eq!(few.len(), 3);
        assert!(
            few.windows(2)
                .all(|pair| pair[1].0 - pair[0].0 >= Duration::from_secs(3))
        );
    }

    #[test]
    fn nobody_is_cut_before_it_is_time() {
        let begin = Instant::now();
        let mut farewell = Farewell::new(begin, begin + Duration::from_secs(60));
        assert_eq!(farewell.due(begin, 10), 0);
        assert_eq!(farewell.due(begin + Duration::from_secs(61), 10), 10);
    }
}
