//! What a draining worker still holds: its connections by age, and what they wait for.
//!
//! Room  pure.
//! Out   counts that travel with the worker's numbers; an older peer sends none and ignores them.
//! Holds the bounds of the ages never change; the words are the worker's own, for people.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where the classes of age end, in seconds; the last class has no end.
pub const AGES_S: [u64; 4] = [10, 60, 600, 3600];

/// Longest list of words that is believed of a peer.
const WAITS_MAX: usize = 32;

/// Connections that are held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Held {
    /// By age: one count for each of [`AGES_S`], and one for what is older.
    pub ages: Vec<u64>,
    /// Age of the oldest, in seconds.
    pub oldest_s: u64,
    /// By what they wait for.
    pub waits: BTreeMap<String, u64>,
}

impl Held {
    /// Counts a connection of this age that waits for this.
    pub fn note(&mut self, age: Duration, waits_for: &str) {
        let age = age.as_secs();
        let class = AGES_S.partition_point(|bound| *bound <= age);
        self.ages.resize(AGES_S.len() + 1, 0);
        if let Some(count) = self.ages.get_mut(class) {
            *count += 1;
        }
        self.oldest_s = self.oldest_s.max(age);
        *self.waits.entry(waits_for.to_owned()).or_default() += 1;
    }

    /// Adds what another thread holds.
    pub fn merge(&mut self, other: &Self) {
        let classes = self.ages.len().max(other.ages.len());
        self.ages.resize(classes, 0);
        for (sum, count) in self.ages.iter_mut().zip(&other.ages) {
            *sum = sum.saturating_add(*count);
        }
        self.oldest_s = self.oldest_s.max(other.oldest_s);
        for (word, count) in other.waits.iter().take(WAITS_MAX) {
            let sum = self.waits.entry(word.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Held;

    #[test]
    fn each_age_has_its_class() {
        let table = [
            (0, 0),
            (9, 0),
            (10, 1),
            (59, 1),
            (60, 2),
            (599, 2),
            (600, 3),
            (3599, 3),
            (3600, 4),
            (u64::MAX, 4),
        ];
        for (age, class) in table {
            let mut held = Held::default();
            held.note(Duration::from_secs(age), "bytes");
            let place = held.ages.iter().position(|count| *count == 1);
            assert_eq!((place, held.oldest_s), (Some(class), age), "{age}");
        }
    }

    #[test]
    fn what_two_threads_hold_is_their_sum() {
        let mut one = Held::default();
        one.note(Duration::from_secs(5), "bytes");
        one.note(Duration::from_secs(70), "a header");
        let mut other = Held::default();
        other.note(Duration::from_secs(7), "bytes");
        let mut sum = Held::default();
        sum.merge(&one);
        sum.merge(&other);
        sum.merge(&Held::default());
        assert_eq!((sum.ages, sum.oldest_s), (vec![2, 0, 1, 0, 0], 70));
        assert_eq!((sum.waits["bytes"], sum.waits["a header"]), (2, 1));
    }
}
