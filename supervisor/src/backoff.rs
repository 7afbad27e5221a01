//! How long to wait before the committed version is started again.
//!
//! Room  pure: uptime in, delay out.
//! Holds the first restart is immediate enough that clients in the accept queue never notice; a crash
//!       loop costs at most one start every [`DELAY_MAX`].

use std::time::Duration;

/// First delay. Sized: far below any client's connect timeout.
const DELAY_MIN: Duration = Duration::from_millis(50);

/// Longest delay between two starts of a worker that keeps dying.
const DELAY_MAX: Duration = Duration::from_secs(5);

/// A worker that lived this long did not die of its start: the delay begins anew.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Consecutive crashes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    crashes: u32,
}

impl Backoff {
    /// Goes on after so many crashes in a row.
    pub(crate) fn after(crashes: u32) -> Self {
        Self { crashes }
    }

    /// Crashes in a row.
    pub(crate) fn crashes(self) -> u32 {
        self.crashes
    }

    /// The delay after one more crash of a worker that had lived for `uptime`.
    pub(crate) fn next(&mut self, uptime: Duration) -> Duration {
        if uptime >= STABLE_AFTER {
            self.crashes = 0;
        }
        let delay = DELAY_MIN.saturating_mul(1 << self.crashes.min(10));
        self.crashes = self.crashes.saturating_add(1);
        delay.min(DELAY_MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Backoff;

    #[test]
    fn a_crash_loop_slows_down_and_a_stable_worker_forgives() {
        let mut backoff = Backoff::default();
        let young = Duration::from_millis(5);
        let delays: Vec<u64> = (0..9)
            .map(|_| u64::try_from(backoff.next(young).as_millis()).expect("small"))
            .collect();
        assert_eq!(delays, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(
            backoff.next(Duration::from_secs(60)),
            Duration::from_millis(50)
        );
    }
}
