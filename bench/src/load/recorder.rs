//! Where the clients of a load write: a few ledgers behind locks, merged when somebody looks.
//!
//! Room  locks and the clock, so that the ledger itself needs neither.
//! In    what a client saw, with its number.
//! Out   the merged ledger; how many connections are established.
//! Holds a lock is held for one entry only; clients are spread over the parts, so they hardly ever meet.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::ledger::Ledger;

/// Parts of the account: more than the threads that write, so that they seldom wait for each other.
const PARTS: usize = 8;

/// The account of a load under way.
#[derive(Debug)]
pub(super) struct Recorder {
    parts: [Mutex<Ledger>; PARTS],
    established: AtomicUsize,
    slice: Duration,
    epoch: Instant,
}

impl Recorder {
    pub(super) fn new(slice: Duration, epoch: Instant) -> Self {
        let parts = std::array::from_fn(|_| Mutex::new(Ledger::new(slice)));
        Self {
            parts,
            established: AtomicUsize::new(0),
            slice,
            epoch,
        }
    }

    /// `moment` on the time axis of the ledger.
    pub(super) fn since_epoch(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.epoch)
    }

    /// Writes into the part of client `id`; the second argument is now.
    pub(super) fn with<R>(
        &self,
        id: u64,
        write: impl FnOnce(&mut Ledger, Duration) -> R,
    ) -> Option<R> {
        let at = self.since_epoch(Instant::now());
        let part = self.parts.get(usize::try_from(id).unwrap_or(0) % PARTS)?;
        let mut ledger = part.lock().unwrap_or_else(PoisonError::into_inner);
        Some(write(&mut ledger, at))
    }

    /// All parts as one.
    pub(super) fn ledger(&self) -> Ledger {
        let mut whole = Ledger::new(self.slice);
        for part in &self.parts {
            whole.merge(&part.lock().unwrap_or_else(PoisonError::into_inner));
        }
        whole
    }

    pub(super) fn established(&self) -> usize {
        self.established.load(Ordering::Relaxed)
    }

    /// One more connection is established, until the guard is dropped.
    pub(super) fn establish(self: &Arc<Self>) -> Established {
        self.established.fetch_add(1, Ordering::Relaxed);
        Established(self.clone())
    }
}

/// Counts a connection as established for as long as it lives.
#[derive(Debug)]
pub(super) struct Established(Arc<Recorder>);

impl Drop for Established {
    fn drop(&mut self) {
        self.0.established.fetch_sub(1, Ordering::Relaxed);
    }
}
