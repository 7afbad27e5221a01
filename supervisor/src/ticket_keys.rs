//! The keys of TLS session tickets of one service: made here, the same in every generation, so that a session
//! survives a swap.
//!
//! Room  a value and the host's randomness; who is told is `core`'s business.
//! Holds keys are in memory only, never in a file or the log; keys that living workers give back are kept, so
//!       that tickets also survive the supervisor.

use std::time::{Duration, Instant};

use handoff::TicketKeys;

/// How many keys are accepted; the newest makes new tickets.
///
/// Sized: a ticket is good for at least two rotations after it was made.
const KEPT: usize = 3;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ring {
    keys: TicketKeys,
    rotation: Duration,
    rotate_at: Option<Instant>,
}

impl Ring {
    /// Without a key until somebody needs one: living workers may bring theirs.
    pub(crate) fn new(rotation: Duration) -> Self {
        Self {
            keys: TicketKeys::default(),
            rotation,
            rotate_at: None,
        }
    }

    /// The keys there are, and when the next one is due.
    pub(crate) fn parts(&self) -> (TicketKeys, Option<Instant>) {
        (self.keys.clone(), self.rotate_at)
    }

    /// Goes on with the keys of the supervisor that was here before, in its rhythm.
    pub(crate) fn go_on_with(&mut self, keys: TicketKeys, rotate_at: Option<Instant>) {
        self.keys = keys;
        self.rotate_at = rotate_at;
    }

    /// The keys now; makes the first one.
    pub(crate) fn keys(&mut self, now: Instant) -> TicketKeys {
        if self.keys.is_empty() {
            self.rotate(now);
        }
        self.keys.clone()
    }

    /// Goes on with the keys of a worker that came back, unless there are keys already.
    pub(crate) fn adopt(&mut self, keys: &TicketKeys, now: Instant) {
        if self.keys.is_empty() && !keys.is_empty() {
            tracing::info!("the ticket keys of a living worker are kept");
            self.keys = keys.clone();
            // Their age is not known; a whole interval more is the most a key may live too long.
            self.rotate_at = Some(now + self.rotation);
        }
    }

    /// The new keys when it is time for them.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<TicketKeys> {
        if self.rotate_at.is_none_or(|at| now < at) {
            return None;
        }
        self.rotate(now);
        Some(self.keys.clone())
    }

    fn rotate(&mut self, now: Instant) {
        self.keys.rotate(random(), KEPT);
        self.rotate_at = Some(now + self.rotation);
    }
}

/// From the operating system (getrandom(2)): fit for keys and tokens.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()).unwrap_or(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use handoff::TicketKeys;

    use super::Ring;

    const ROTATION: Duration = Duration::from_secs(60);

    #[test]
    fn keys_change_at_their_time_and_the_last_three_are_kept() {
        let start = Instant::now();
        let mut ring = Ring::new(ROTATION);
        assert_eq!(
            ring.tick(start + ROTATION * 9),
            None,
            "nobody needs a key yet"
        );
        let first = ring.keys(start);
        assert_eq!(first.as_slice().len(), 1);
        assert_eq!(ring.keys(start), first);
        assert_eq!(ring.tick(start + ROTATION - Duration::from_millis(1)), None);
        let mut newest = first.as_slice()[0];
        for (turn, kept) in [(1, 2), (2, 3), (3, 3)] {
            let keys = ring.tick(start + ROTATION * turn).expect("is due");
            assert_eq!(keys.as_slice().len(), kept);
            assert_ne!(keys.as_slice()[0], newest);
            assert_eq!(keys.as_slice()[1], newest);
            newest = keys.as_slice()[0];
        }
    }

    #[test]
    fn keys_that_come_back_are_kept_as_they_are_and_only_the_first_ones() {
        let start = Instant::now();
        let mut theirs = TicketKeys::default();
        theirs.rotate([7; 32], 3);
        let mut ring = Ring::new(ROTATION);
        ring.adopt(&TicketKeys::default(), start);
        ring.adopt(&theirs, start);
        assert_eq!(ring.keys(start), theirs);
        let mut others = TicketKeys::default();
        others.rotate([8; 32], 3);
        ring.adopt(&others, start);
        assert_eq!(ring.keys(start), theirs);
        let rotated = ring.tick(start + ROTATION).expect("is due");
        assert_eq!(rotated.as_slice()[1], [7; 32]);
    }
}
