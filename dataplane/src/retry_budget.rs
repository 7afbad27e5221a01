//! A budget for retries: when everything fails, retries must not multiply the load.
//!
//! ```text
//!   request ──deposit──▶ window (10 s, in slices) ◀──withdraw── retry     allowed: floor + percent of requests
//! ```
//!
//! Room  pure: `now` is an argument. Atomics only, shared by all workers.
//! Holds within a window at most `floor + percent/100 x requests` retries are made; workers that ask in the same
//!       instant may together go beyond by one each, for no lock makes them wait for each other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Slices of a window, each of one second.
const SLICES: usize = 10;
const WINDOW_SECONDS: u64 = 10;

/// Retries of a window that need no requests, unless told otherwise: a quiet service may retry too.
pub const FLOOR: u64 = 10;

/// See the module.
#[derive(Debug)]
pub struct RetryBudget {
    percent: u32,
    floor: u64,
    begun: Instant,
    slices: [Slice; SLICES],
}

/// What happened within one second: requests and retries, 20 bits each (more are not told apart from the most),
/// below 24 bits of the second they belong to, which come around after half a year.
#[derive(Debug, Default)]
struct Slice(AtomicU64);

const COUNT_BITS: u32 = 20;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

impl Slice {
    fn read(&self, second: u64) -> (u64, u64) {
        let word = self.0.load(Ordering::Relaxed);
        if word >> (2 * COUNT_BITS) == stamp(second) {
            ((word >> COUNT_BITS) & COUNT_MAX, word & COUNT_MAX)
        } else {
            (0, 0)
        }
    }

    fn add(&self, second: u64, requests: u64, retries: u64) {
        let change = |word: u64| {
            let (old_requests, old_retries) = if word >> (2 * COUNT_BITS) == stamp(second) {
                ((word >> COUNT_BITS) & COUNT_MAX, word & COUNT_MAX)
            } else {
                (0, 0)
            };
            let requests = (old_requests + requests).min(COUNT_MAX);
            let retries = (old_retries + retries).min(COUNT_MAX);
            Some((stamp(second) << (2 * COUNT_BITS)) | (requests << COUNT_BITS) | retries)
        };
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }
}

/// A second as it fits above the counters; 0 is no second.
fn stamp(second: u64) -> u64 {
    (second + 1) & ((1 << (64 - 2 * COUNT_BITS)) - 1)
}

impl RetryBudget {
    /// `percent` of requests may be retries, and [`FLOOR`] in a window.
    pub fn new(percent: u32, now: Instant) -> Self {
        Self::with_floor(percent, FLOOR, now)
    }

    /// `percent` of requests may be retries, and `floor` in a window.
    pub fn with_floor(percent: u32, floor: u64, now: Instant) -> Self {
        Self {
            percent,
            floor,
            begun: now,
            slices: Default::default(),
        }
    }

    /// A request began.
    pub fn deposit(&self, now: Instant) {
        self.add(now, 1, 0);
    }

    /// True when a retry may be made; it is counted.
    pub fn try_withdraw(&self, now: Instant) -> bool {
        let second = self.second(now);
        let first = second.saturating_sub(WINDOW_SECONDS - 1);
        let (mut requests, mut retries) = (0, 0);
        for past in first..=second {
            let (more_requests, more_retries) = self.slice(past).read(past);
            requests += more_requests;
            retries += more_retries;
        }
        let allowed = self.floor + requests * u64::from(self.percent) / 100;
        let may = retries < allowed;
        if may {
            self.add(now, 0, 1);
        }
        may
    }

    fn add(&self, now: Instant, requests: u64, retries: u64) {
        let second = self.second(now);
        self.slice(second).add(second, requests, retries);
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.begun)
            .min(Duration::from_secs(u64::MAX / 4))
            .as_secs()
    }

    fn slice(&self, second: u64) -> &Slice {
        let index = usize::try_from(second % WINDOW_SECONDS).unwrap_or(0);
        self.slices.get(index).unwrap_or(&self.slices[0])
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{FLOOR, RetryBudget};

    #[test]
    fn when_everything_fails_retries_stay_within_the_share() {
        for (seed, rate) in [(1_u64, 5_u64), (2, 50), (3, 500)] {
            let mut random = fastrand::Rng::with_seed(seed);
            let begun = Instant::now();
            let budget = RetryBudget::new(20, begun);
            let (mut offered, mut sent) = (0_u64, 0_u64);
            for millisecond in 0..60_000 {
                let now = begun + Duration::from_millis(millisecond);
                if random.u64(..1000) < rate {
                    offered += 1;
                    sent += 1;
                    budget.deposit(now);
                    // Everything fails: up to three retries are wanted.
                    for _ in 0..3 {
                        sent += u64::from(budget.try_withdraw(now));
                    }
                }
            }
            let allowed = offered + offered * 20 / 100 + FLOOR * 7;
            assert!(sent <= allowed, "{sent} sent for {offered} offered");
        }
    }

    #[test]
    fn a_quiet_service_may_retry_and_the_window_forgets() {
        let begun = Instant::now();
        let budget = RetryBudget::new(0, begun);
        let spent = (0..100).filter(|_| budget.try_withdraw(begun)).count();
        assert_eq!(u64::try_from(spent).expect("few"), FLOOR);
        assert!(budget.try_withdraw(begun + Duration::from_secs(11)));
    }

    #[test]
    fn the_floor_may_be_another_and_none() {
        let begun = Instant::now();
        let spent = |budget: &RetryBudget| (0..100).filter(|_| budget.try_withdraw(begun)).count();
        assert_eq!(spent(&RetryBudget::with_floor(20, 3, begun)), 3);
        let none = RetryBudget::with_floor(20, 0, begun);
        assert_eq!(spent(&none), 0);
        (0..10).for_each(|_| none.deposit(begun));
        assert_eq!(spent(&none), 2, "a fifth of ten");
    }

    #[test]
    fn a_request_pays_for_retries_as_long_as_it_is_in_the_window() {
        let begun = Instant::now();
        for (seconds, allowed) in [(0, true), (9, true), (10, false), (3600, false)] {
            let budget = RetryBudget::with_floor(100, 0, begun);
            budget.deposit(begun);
            let then = begun + Duration::from_secs(seconds);
            assert_eq!(budget.try_withdraw(then), allowed, "{seconds} s");
            assert!(!budget.try_withdraw(then), "{seconds} s, twice");
        }
    }

    #[test]
    fn workers_share_one_budget() {
        let begun = Instant::now();
        let budget = RetryBudget::new(20, begun);
        let work = || {
            (0..5_000).fold(0_u64, |sent, _| {
                budget.deposit(begun);
                sent + u64::from(budget.try_withdraw(begun))
            })
        };
        let sent: u64 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            let sent = workers
                .into_iter()
                .map(|worker| worker.join().expect("no panic"));
            sent.sum()
        });
        let allowed = FLOOR + 20_000 / 5;
        assert!(
            (allowed - 4..=allowed + 4).contains(&sent),
            "{sent} of {allowed}"
        );
    }
}
