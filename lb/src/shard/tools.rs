//! What a connection's turn works with, and what is shared by all connections of one shard.
//!
//! Room  a bundle of parts, so that a connection and its tools can be borrowed apart from each other.
//! In    one per shard.
//! Out   borrowed for each turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::balance::Chooser;
use dataplane::upstream::Upstream;
use dataplane::wheel::Wheel;

use super::Timeouts;
use super::poll::{Poller, Slot};
use crate::connection::{Connection, deadline};
use crate::pipes::Pipes;
use crate::relay::{Bench, SCRATCH_SIZE};
use crate::totals::Counters;

/// How long a shard waits when the host is short of descriptors, memory or ports.
///
/// Covers: a shortage, during which clients wait in the kernel's queue, and those accepted for their backend.
/// Sized: long enough not to burn a core in retrying, short enough to be hardly felt once it is over.
pub(crate) const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// The parts of a shard that its connections use.
pub(crate) struct Tools {
    pub(crate) poller: Poller,
    pub(crate) bench: Bench,
    pub(crate) wheel: Wheel<Slot>,
    pub(crate) timeouts: Timeouts,
    /// The time of this round of the loop.
    pub(crate) now: Instant,
    /// A backend socket could not be had in this round: the shard pauses accepting.
    pub(crate) shortage: bool,
    choosers: Vec<(Arc<Upstream>, Chooser)>,
    index: usize,
}

impl Tools {
    pub(crate) fn new(
        index: usize,
        shards: usize,
        timeouts: Timeouts,
        counters: Arc<Counters>,
        now: Instant,
    ) -> rustix::io::Result<Self> {
        let scratch = vec![0; SCRATCH_SIZE].into_boxed_slice();
        Ok(Self {
            poller: Poller::new()?,
            bench: Bench {
                scratch,
                pipes: Pipes::for_one_of(shards),
                counters,
            },
            wheel: Wheel::new(now),
            timeouts,
            now,
            shortage: false,
            choosers: Vec::new(),
            index,
        })
    }

    /// This shard's chooser for an upstream.
    pub(crate) fn chooser(&mut self, upstream: &Arc<Upstream>) -> &mut Chooser {
        let known = self
            .choosers
            .iter()
            .position(|(known, _)| Arc::ptr_eq(known, upstream));
        let position = known.unwrap_or_else(|| {
            // An upstream that only its chooser still holds went with a reload.
            self.choosers
                .retain(|(known, _)| Arc::strong_count(known) > 1);
            // Shards differ, so that they do not all begin with the same backend.
            self.choosers
                .push((Arc::clone(upstream), Chooser::new(self.index as u64)));
            self.choosers.len() - 1
        });
        &mut self.choosers[position].1 // found or pushed just now
    }

    /// Makes sure that the wheel wakes this connection no later than its next deadline.
    pub(crate) fn arm(&mut self, connection: &mut Connection, slot: Slot) {
        let (at, _) = deadline::next(connection, &self.timeouts);
        if connection.times.due_entry.is_none_or(|entry| at < entry) {
            self.wheel.insert(at, slot);
            connection.times.due_entry = Some(at);
        }
    }
}
