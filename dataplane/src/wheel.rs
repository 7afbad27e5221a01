//! A timer wheel: very many deadlines, of which few ever come due.
//!
//! Room  pure: `now` is an argument.
//! In    an item and when it is due, from a shard: one entry or two for each connection.
//! Out   the items that are due; a moment to sleep until.
//! Holds no item leaves before its time, and none leaves later than one tick after it, if it is asked for.
//!       Within one round of the wheel items leave in the order of their ticks.
//!
//! ```text
//!   tick 0    1    2        1023 | 1024 …            an item lies in slot (its tick mod 1024), also when its
//!      [ ]  [x]  [ ]  …  [xx]    |                   tick is rounds away; each slot knows its earliest tick,
//!       0    1    2       1023   | 0  1  2 …         so a round that does not concern it costs it nothing
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What deadlines are rounded up to.
///
/// Sized: the shortest deadline of a connection is some hundred milliseconds; a sleeping shard wakes at most 16
/// times a second for the wheel.
const TICK: Duration = Duration::from_millis(64);

/// One round is 65.5 s: most deadlines (connect, PROXY header, half-close) fall within one.
const SLOTS: usize = 1024;

/// A slot keeps memory for so many entries after a burst; beyond it, for twice what it holds.
const SLOT_ENTRIES_KEPT: usize = 64;

/// Memory is kept for so many items that come due at once: those of a busy second.
const DUE_KEPT: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct Wheel<T> {
    start: Instant,
    slots: Box<[Slot<T>]>,
    /// The smallest `earliest` of all slots; `u64::MAX`: all are empty.
    earliest: u64,
    /// Due already, to be taken one by one.
    due: VecDeque<T>,
}

/// The entries of every tick that is equal to the slot's index modulo [`SLOTS`].
#[derive(Debug)]
struct Slot<T> {
    /// The smallest tick among the entries; `u64::MAX`: there is none.
    earliest: u64,
    entries: Vec<(u64, T)>,
}

impl<T> Wheel<T> {
    /// An empty wheel whose ticks are counted from `now`.
    pub fn new(now: Instant) -> Self {
        let slot = || Slot {
            earliest: u64::MAX,
            entries: Vec::new(),
        };
        Self {
            start: now,
            slots: std::iter::repeat_with(slot).take(SLOTS).collect(),
            earliest: u64::MAX,
            due: VecDeque::new(),
        }
    }

    /// Files an item; a time that is past makes it due at once. Cost: constant.
    pub fn insert(&mut self, at: Instant, item: T) {
        let tick = self.tick_not_before(at);
        self.earliest = self.earliest.min(tick);
        if let Some(slot) = self.slots.get_mut(index_of(tick)) {
            slot.earliest = slot.earliest.min(tick);
            slot.entries.push((tick, item));
        }
    }

    /// When to ask next: the tick in which the earliest item is due. `None`: there is no item. Cost: constant.
    pub fn next_deadline(&self) -> Option<Instant> {
        if !self.due.is_empty() {
            return Some(self.start);
        }
        if self.earliest == u64::MAX {
            return None;
        }
        let since_start = u64::try_from(TICK.as_millis())
            .unwrap_or(u64::MAX)
            .saturating_mul(self.earliest);
        self.start.checked_add(Duration::from_millis(since_start))
    }

    /// Takes an item that is due. Cost: constant, but for one look at every slot in a tick in which some are due.
    pub fn pop_expired(&mut self, now: Instant) -> Option<T> {
        if self.due.is_empty() {
            let tick = self.tick_at(now);
            if self.earliest <= tick {
                self.collect(tick);
            }
        }
        let item = self.due.pop_front();
        if self.due.is_empty() && self.due.capacity() > DUE_KEPT {
            self.due.shrink_to(DUE_KEPT);
        }
        item
    }

    /// Moves what is due at `now` out of the slots, starting with the slot of the earliest tick.
    fn collect(&mut self, now: u64) {
        let (before, from) = self.slots.split_at_mut(index_of(self.earliest));
        let mut earliest = u64::MAX;
        for slot in from.iter_mut().chain(before) {
            if slot.earliest <= now {
                slot.drain(now, &mut self.due);
            }
            earliest = earliest.min(slot.earliest);
        }
        self.earliest = earliest;
    }

    /// The last tick that has begun at `now`.
    fn tick_at(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start);
        u64::try_from(elapsed.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX)
    }

    /// The first tick that begins at `at` or later; never `u64::MAX`, which means "none".
    fn tick_not_before(&self, at: Instant) -> u64 {
        let elapsed = at.saturating_duration_since(self.start);
        let tick = elapsed.as_nanos().div_ceil(TICK.as_nanos());
        u64::try_from(tick).unwrap_or(u64::MAX).min(u64::MAX - 1)
    }
}

impl<T> Slot<T> {
    fn drain(&mut self, now: u64, due: &mut VecDeque<T>) {
        let is_due = |(tick, _): &mut (u64, T)| *tick <= now;
        due.extend(self.entries.extract_if(.., is_due).map(|(_, item)| item));
        self.earliest = self
            .entries
            .iter()
            .map(|(tick, _)| *tick)
            .min()
            .unwrap_or(u64::MAX);
        if self.entries.capacity() > SLOT_ENTRIES_KEPT.max(4 * self.entries.len()) {
            self.entries
                .shrink_to(SLOT_ENTRIES_KEPT.max(2 * self.entries.len()));
        }
    }
}

fn index_of(tick: u64) -> usize {
    usize::try_from(tick % SLOTS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests;
