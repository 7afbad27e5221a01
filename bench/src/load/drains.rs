//! When tunnels may end: an old process carries them to the bound of its drain, and then cuts them.
//!
//! Room  pure, behind one lock: the caller says when drains began.
//! In    the bound, and the moments at which commits were seen.
//! Out   whether the end of a tunnel is what was announced, or a loss.
//! Holds a tunnel that ends before the bound of any drain that it can be part of is never explained.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A drain begins before its beginning is seen: the commit passes two processes and a command. Small against any
/// bound that a drain could have, large against what a busy machine takes for it.
const SEEN_LATE: Duration = Duration::from_millis(500);

/// The drains of the program under measurement, as seen from outside. Clones share them.
#[derive(Clone, Debug)]
pub struct Drains {
    bound: Duration,
    begun: Arc<Mutex<Vec<Instant>>>,
}

impl Drains {
    /// No drain yet; each one lasts `bound`.
    pub fn new(bound: Duration) -> Self {
        Self {
            bound,
            begun: Arc::default(),
        }
    }

    /// A drain was seen to begin at `moment`.
    pub fn begin(&self, moment: Instant) {
        self.begun
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(moment);
    }

    /// Whether a tunnel of `connected` may end at `ended`.
    pub(super) fn explain(&self, connected: Instant, ended: Instant) -> bool {
        self.begun
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .any(|begun| connected <= *begun && ended + SEEN_LATE >= *begun + self.bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bound_of_a_drain_explains_the_end_of_a_tunnel() {
        let zero = Instant::now();
        let at = |seconds: u64| zero + Duration::from_secs(seconds);
        let drains = Drains::new(Duration::from_secs(5));
        assert!(!drains.explain(at(0), at(100)), "nothing drains");
        drains.begin(at(10));
        for (connected, ended, expected) in [
            (0, 9, false),
            (0, 11, false),
            (0, 14, false),
            (0, 15, true),
            (0, 16, true),
            (10, 15, true),
            (11, 60, false),
        ] {
            let explained = drains.explain(at(connected), at(ended));
            assert_eq!(explained, expected, "{connected} to {ended}");
        }
    }
}
