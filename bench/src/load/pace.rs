//! When exchanges are due: fixed in advance (open loop) or after a pause (closed loop).
//!
//! Room  pure but for one atomic counter; `now` is an argument.
//! In    a rate, or a pause; the next client that is free.
//! Out   the time at which that client's next exchange is due, and from when its latency counts.
//! Holds in the open loop due times depend on nothing that the target does: no coordinated omission.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A client that wakes this late or less was woken by a timer that counts in milliseconds (tokio's wheel), not held up
/// by the target: its latency counts from when it woke.
const TIMER_SLACK: Duration = Duration::from_millis(2);

/// The clock of a load, shared by its short and keep-alive clients.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Option<NonZeroU32>,
    pause: Duration,
    begin: Instant,
    drawn: AtomicU64,
}

impl Pace {
    pub(super) fn new(rate: Option<NonZeroU32>, pause: Duration, begin: Instant) -> Self {
        Self {
            rate,
            pause,
            begin,
            drawn: AtomicU64::new(0),
        }
    }

    /// When the next exchange of a client that is free at `now` is due.
    pub(super) fn draw(&self, now: Instant) -> Instant {
        match self.rate {
            None => now + self.pause,
            Some(rate) => self.begin + due(self.drawn.fetch_add(1, Ordering::Relaxed), rate),
        }
    }
}

/// The `number`th due time of an open loop, from its beginning.
fn due(number: u64, rate: NonZeroU32) -> Duration {
    let nanos = u128::from(number) * 1_000_000_000 / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// From when the latency of an exchange counts that was due at `due` and for which a client was ready at `woke`.
pub(super) fn intended_start(due: Instant, woke: Instant) -> Instant {
    if woke.saturating_duration_since(due) <= TIMER_SLACK {
        woke
    } else {
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn due_times_of_an_open_loop_do_not_depend_on_when_clients_are_free() {
        let begin = Instant::now();
        let pace = Pace::new(NonZeroU32::new(100), Duration::ZERO, begin);
        let late = begin + Duration::from_secs(60);
        let dues: Vec<_> = (0..4).map(|_| pace.draw(late) - begin).collect();
        assert_eq!(dues, [Duration::ZERO, 10 * MS, 20 * MS, 30 * MS]);
    }

    #[test]
    fn due_times_do_not_drift() {
        let rate = NonZeroU32::new(3).unwrap();
        assert_eq!(due(3_000_000, rate), Duration::from_secs(1_000_000));
        assert_eq!(due(u64::MAX, rate).as_nanos(), u128::from(u64::MAX));
    }

    #[test]
    fn a_closed_loop_pauses_after_the_answer() {
        let now = Instant::now();
        assert_eq!(
            Pace::new(None, 5 * MS, now).draw(now + 7 * MS),
            now + 12 * MS
        );
    }

    #[test]
    fn a_late_exchange_counts_from_when_it_was_due() {
        let due = Instant::now();
        assert_eq!(intended_start(due, due + 300 * MS), due);
        assert_eq!(intended_start(due, due + MS), due + MS);
    }
}
