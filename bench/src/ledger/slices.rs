//! The run cut into slices of time, so that a stall during a swap is seen where it happened.
//!
//! Room  pure: every time is an argument, measured from the beginning of the run.
//! In    when an exchange was due and how long it took; when something was lost.
//! Out   per slice: how many, how long, how many lost.
//! Holds slice i covers [i * width, (i + 1) * width); at most SLICES_MAX slices: a longer run doubles the width.

use std::time::Duration;

use serde::{Serialize, Serializer, ser::SerializeSeq};

use super::latency::Latency;

/// How many slices are kept: at 250 ms the first 8.5 minutes, then coarser. Bounds memory to some 10 MB per ledger.
const SLICES_MAX: usize = 2_048;

/// What happened in one slice of time.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// How long the exchanges took that were due in this slice and went well (`count()`: how many those are).
    pub latency: Latency,
    /// Connections that were lost in this slice.
    pub lost: u64,
}

/// All slices of a run.
#[derive(Clone, Debug)]
pub struct Slices {
    width: Duration,
    slices: Vec<Slice>,
}

/// The longest wait in some part of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Beginning of the slice in which the waiting exchange was due, from the beginning of the run.
    pub at: Duration,
    /// How long the exchange took.
    pub lasted: Duration,
}

impl Slices {
    /// Slices of `width` (at least 1 ms).
    pub fn new(width: Duration) -> Self {
        Self {
            width: width.max(Duration::from_millis(1)),
            slices: Vec::new(),
        }
    }

    /// How long a slice is.
    pub fn width(&self) -> Duration {
        self.width
    }

    /// Each slice with its beginning, measured from the beginning of the run.
    pub fn iter(&self) -> impl Iterator<Item = (Duration, &Slice)> {
        let width = self.width;
        self.slices
            .iter()
            .enumerate()
            .map(move |(index, slice)| (start_of(index, width), slice))
    }

    /// An exchange that was due at `due` went well and took `took`.
    pub fn record(&mut self, due: Duration, took: Duration) {
        if let Some(slice) = self.slice_at(due) {
            slice.latency.record(took);
        }
    }

    /// A connection was lost at `at`.
    pub fn lose(&mut self, at: Duration) {
        if let Some(slice) = self.slice_at(at) {
            slice.lost += 1;
        }
    }

    /// Adds everything that `other` has; the coarser width wins.
    pub fn merge(&mut self, other: &Self) {
        while self.width < other.width {
            self.coarsen();
        }
        for (at, theirs) in other.iter() {
            if let Some(mine) = self.slice_at(at) {
                mine.latency.merge(&theirs.latency);
                mine.lost += theirs.lost;
            }
        }
    }

    /// The longest exchange that was due in a slice that touches `from..=until`.
    pub fn longest_between(&self, from: Duration, until: Duration) -> Option<Stall> {
        self.longest_where(|at| at <= until && at + self.width > from)
    }

    /// The longest exchange that was due in a slice whose beginning is `wanted`.
    pub fn longest_where(&self, wanted: impl Fn(Duration) -> bool) -> Option<Stall> {
        self.iter()
            .filter(|(at, slice)| slice.latency.count() > 0 && wanted(*at))
            .map(|(at, slice)| Stall {
                at,
                lasted: slice.latency.max(),
            })
            .max_by_key(|stall| stall.lasted)
    }

    fn slice_at(&mut self, at: Duration) -> Option<&mut Slice> {
        let mut index = self.index_of(at);
        while index >= SLICES_MAX {
            self.coarsen();
            index = self.index_of(at);
        }
        if index >= self.slices.len() {
            self.slices.resize_with(index + 1, Slice::default);
        }
        self.slices.get_mut(index)
    }

    fn index_of(&self, at: Duration) -> usize {
        usize::try_from(at.as_nanos() / self.width.as_nanos()).unwrap_or(usize::MAX)
    }

    /// Doubles the width: each two neighbours become one.
    fn coarsen(&mut self) {
        self.width *= 2;
        let fine = std::mem::take(&mut self.slices);
        let mut pairs = fine.into_iter();
        while let Some(mut first) = pairs.next() {
            if let Some(second) = pairs.next() {
                first.latency.merge(&second.latency);
                first.lost += second.lost;
            }
            self.slices.push(first);
        }
    }
}

fn start_of(index: usize, width: Duration) -> Duration {
    width.saturating_mul(u32::try_from(index).unwrap_or(u32::MAX))
}

/// A list of `{"at_ms", "lost", "latency"}`; slices in which nothing happened are left out.
impl Serialize for Slices {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Row<'a> {
            at_ms: u128,
            lost: u64,
            latency: &'a Latency,
        }
        let mut list = serializer.serialize_seq(None)?;
        for (at, slice) in self
            .iter()
            .filter(|(_, slice)| slice.latency.count() > 0 || slice.lost > 0)
        {
            list.serialize_element(&Row {
                at_ms: at.as_millis(),
                lost: slice.lost,
                latency: &slice.latency,
            })?;
        }
        list.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    #[test]
    fn a_stall_is_found_in_the_slice_where_the_exchange_was_due() {
        let mut slices = Slices::new(ms(250));
        (0..100).for_each(|n| slices.record(ms(n * 100), ms(1)));
        slices.record(ms(5_100), ms(400));
        assert_eq!(
            slices.longest_between(ms(0), ms(10_000)),
            Some(Stall {
                at: ms(5_000),
                lasted: ms(400)
            })
        );
        assert_eq!(
            slices.longest_between(ms(5_200), ms(5_200)),
            Some(Stall {
                at: ms(5_000),
                lasted: ms(400)
            })
        );
        assert_eq!(
            slices
                .longest_between(ms(5_250), ms(6_000))
                .map(|stall| stall.lasted),
            Some(ms(1))
        );
        assert_eq!(slices.longest_between(ms(60_000), ms(61_000)), None);
    }

    #[test]
    fn a_long_run_becomes_coarser_and_forgets_nothing() {
        let mut slices = Slices::new(ms(250));
        for second in 0..3_600 {
            slices.record(ms(second * 1_000), ms(second % 7 + 1));
        }
        slices.lose(ms(3_599_000));
        let count: u64 = slices.iter().map(|(_, slice)| slice.latency.count()).sum();
        assert_eq!(count, 3_600);
        assert!(slices.iter().count() <= SLICES_MAX);
        assert_eq!(slices.width(), ms(2_000));
        assert_eq!(slices.iter().map(|(_, slice)| slice.lost).sum::<u64>(), 1);
    }

    #[test]
    fn merging_keeps_every_count_whatever_the_widths() {
        for (mine, theirs) in [(250, 250), (250, 1_000), (1_000, 250), (300, 700)] {
            let mut left = Slices::new(ms(mine));
            let mut right = Slices::new(ms(theirs));
            (0..50).for_each(|n| left.record(ms(n * 90), ms(2)));
            (0..70).for_each(|n| right.record(ms(n * 110), ms(3)));
            right.lose(ms(1));
            left.merge(&right);
            assert_eq!(
                left.iter()
                    .map(|(_, slice)| slice.latency.count())
                    .sum::<u64>(),
                120
            );
            assert_eq!(left.iter().map(|(_, slice)| slice.lost).sum::<u64>(), 1);
            assert!(left.width() >= ms(mine.max(theirs)));
        }
    }

    #[test]
    fn an_absurd_time_does_not_allocate_without_bound() {
        let mut slices = Slices::new(ms(1));
        slices.record(Duration::from_secs(u64::from(u32::MAX)), ms(1));
        assert!(slices.iter().count() <= SLICES_MAX);
    }
}
