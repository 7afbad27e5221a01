//! One column of the ledger: how many were started, and what became of each.
//!
//! Room  pure: counters.
//! In    a start, and later one class for it.
//! Out   counts by class; how many are still unaccounted for.
//! Holds nothing is settled that was not started; at the end of a run every start has a class.

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::class::Class;

/// Counts of started things by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    started: u64,
    counts: [u64; Class::ALL.len()],
}

impl Tally {
    /// One more was started.
    pub fn start(&mut self) {
        self.started += 1;
    }

    /// One of those started ended as `class`.
    pub fn settle(&mut self, class: Class) {
        for (known, count) in Class::ALL.iter().zip(&mut self.counts) {
            *count += u64::from(*known == class);
        }
    }

    /// How many were started.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// How many ended as `class`.
    pub fn count(&self, class: Class) -> u64 {
        Class::ALL
            .iter()
            .zip(&self.counts)
            .find(|(known, _)| **known == class)
            .map_or(0, |(_, count)| *count)
    }

    /// How many ended in any class.
    pub fn settled(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many ended as a loss.
    pub fn lost(&self) -> u64 {
        self.settled() - self.count(Class::Ok)
    }

    /// During a run: how many are open. After it: must be 0, or the ledger does not add up.
    pub fn unaccounted(&self) -> u64 {
        self.started.abs_diff(self.settled())
    }

    /// Adds everything that `other` has.
    pub fn merge(&mut self, other: &Self) {
        self.started += other.started;
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
    }
}

/// `{"started": n, "ok": n, …, "unaccounted": n}`, every class named.
impl Serialize for Tally {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("started", &self.started)?;
        for (class, count) in Class::ALL.iter().zip(&self.counts) {
            map.serialize_entry(class.as_str(), count)?;
        }
        map.serialize_entry("unaccounted", &self.unaccounted())?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_and_not_settled_is_unaccounted() {
        let mut tally = Tally::default();
        (0..3).for_each(|_| tally.start());
        tally.settle(Class::Ok);
        tally.settle(Class::Reset);
        assert_eq!(
            (
                tally.started(),
                tally.settled(),
                tally.lost(),
                tally.unaccounted()
            ),
            (3, 2, 1, 1)
        );
    }

    #[test]
    fn what_is_settled_without_a_start_is_unaccounted_too() {
        let mut tally = Tally::default();
        tally.settle(Class::Ok);
        assert_eq!(tally.unaccounted(), 1);
    }

    #[test]
    fn each_class_has_its_own_counter_and_merging_adds() {
        let mut tally = Tally::default();
        for class in Class::ALL {
            tally.start();
            tally.settle(class);
        }
        let copy = tally.clone();
        tally.merge(&copy);
        assert!(Class::ALL.iter().all(|class| tally.count(*class) == 2));
        assert_eq!((tally.started(), tally.unaccounted()), (20, 0));
    }
}
