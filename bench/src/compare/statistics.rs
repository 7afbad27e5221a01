//! Medians, and ratios of the same round: what the machine did meanwhile hits both sides of a ratio.
//!
//! Room  pure.

/// Median, least and greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

/// `None` without values.
pub(crate) fn spread(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    Some(Spread {
        median: *sorted.get(sorted.len() / 2)?,
        least: *sorted.first()?,
        greatest: *sorted.last()?,
    })
}

/// `ours` ÷ `theirs`, round by round.
pub(crate) fn ratios(ours: &[f64], theirs: &[f64]) -> Option<Spread> {
    let both = ours.iter().zip(theirs);
    spread(
        both.filter(|(_, theirs)| **theirs > 0.0)
            .map(|(ours, theirs)| ours / theirs),
    )
}

/// As [`ratios`], without the least and the greatest of each seven: one interruption of a shared machine is no doubt about
/// all the others.
pub(super) fn usual_ratios(ours: &[f64], theirs: &[f64]) -> Option<Spread> {
    let both = ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0);
    let mut all: Vec<f64> = both.map(|(ours, theirs)| ours / theirs).collect();
    all.sort_by(f64::total_cmp);
    let dropped = all.len() / 7;
    let usual = all.get(dropped..all.len() - dropped)?;
    spread(usual.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::{Spread, ratios, spread, usual_ratios};

    #[test]
    fn the_middle_one_and_the_ends() {
        let of = |median, least, greatest| {
            Some(Spread {
                median,
                least,
                greatest,
            })
        };
        assert_eq!(spread([]), None);
        assert_eq!(spread([3.0]), of(3.0, 3.0, 3.0));
        assert_eq!(spread([9.0, 1.0, 5.0]), of(5.0, 1.0, 9.0));
        assert_eq!(
            ratios(&[1.0, 4.0, 9.0], &[2.0, 2.0, 3.0]),
            of(2.0, 0.5, 3.0)
        );
        assert_eq!(ratios(&[1.0], &[0.0]), None);
        let seven = [1.0, 9.0, 2.0, 3.0, 4.0, 5.0, 0.1];
        assert_eq!(usual_ratios(&seven, &[1.0; 7]), of(3.0, 1.0, 5.0));
        assert_eq!(usual_ratios(&seven[..6], &[1.0; 6]), of(4.0, 1.0, 9.0));
        assert_eq!(usual_ratios(&[], &[]), None);
    }
}
