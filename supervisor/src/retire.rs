//! Which old generations have to hurry: their number and their memory are bounded.
//!
//! Room  pure.
//! In    what drains, oldest first, and the bounds. Out  whose drain is shortened.
//! Holds the newest upgrade is never held up: the oldest give way; who was told once is not told again.

use std::time::Duration;

/// How long a generation that gives way may go on. Sized: its connections are closed one by one in it.
pub(crate) const RETIRE_WITHIN: Duration = Duration::from_secs(10);

/// A draining generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Old {
    pub(crate) number: u64,
    /// `None`: not known, and counted as nothing.
    pub(crate) rss: Option<u64>,
    /// It was told to hurry before.
    pub(crate) is_retired: bool,
}

/// The bounds of all draining generations together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) number: usize,
    /// In bytes; `None`: not known.
    pub(crate) memory: Option<u64>,
}

/// Why a generation has to hurry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Retirement {
    pub(crate) number: u64,
    pub(crate) why: String,
}

/// Those who have to hurry now; `draining` is oldest first.
pub(crate) fn retire(draining: &[Old], bounds: Bounds) -> Vec<Retirement> {
    let mut staying: Vec<&Old> = draining.iter().filter(|old| !old.is_retired).collect();
    let mut retired = Vec::new();
    while staying.len() > bounds.number {
        let count = staying.len();
        retired.push(Retirement {
            number: staying.remove(0).number,
            why: format!("{count} generations drain, {} may", bounds.number),
        });
    }
    let Some(limit) = bounds.memory else {
        return retired;
    };
    loop {
        let sum = staying
            .iter()
            .filter_map(|old| old.rss)
            .fold(0, u64::saturating_add);
        if sum <= limit || staying.is_empty() {
            return retired;
        }
        retired.push(Retirement {
            number: staying.remove(0).number,
            why: format!(
                "draining generations hold {} MiB, {} MiB may be",
                sum >> 20,
                limit >> 20
            ),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Old, retire};

    fn old(number: u64, mib: u64, is_retired: bool) -> Old {
        Old {
            number,
            rss: Some(mib << 20),
            is_retired,
        }
    }

    #[test]
    fn the_oldest_give_way_and_nobody_is_told_twice() {
        let table: [(&[Old], usize, u64, &[u64]); 8] = [
            (&[], 0, 0, &[]),
            (&[old(1, 9, false), old(2, 9, false)], 2, 18, &[]),
            (&[old(1, 9, false), old(2, 9, false)], 1, 99, &[1]),
            (&[old(1, 9, false), old(2, 9, false)], 0, 99, &[1, 2]),
            (&[old(1, 9, true), old(2, 9, false)], 1, 99, &[]),
            (&[old(1, 9, false), old(2, 9, false)], 8, 17, &[1]),
            (&[old(1, 9, false), old(2, 90, false)], 8, 17, &[1, 2]),
            (&[old(1, 90, true), old(2, 9, false)], 8, 17, &[]),
        ];
        for (draining, number, mib, expected) in table {
            let bounds = Bounds {
                number,
                memory: Some(mib << 20),
            };
            let retired: Vec<u64> = retire(draining, bounds)
                .iter()
                .map(|one| one.number)
                .collect();
            assert_eq!(retired, expected, "{draining:?} {bounds:?}");
        }
    }

    #[test]
    fn what_is_not_known_retires_nobody() {
        let unknown = Old {
            number: 1,
            ..Old::default()
        };
        let bounds = |memory| Bounds { number: 8, memory };
        assert!(retire(&[unknown], bounds(Some(0))).is_empty());
        assert!(retire(&[old(1, 900, false)], bounds(None)).is_empty());
    }
}
