//! Which part of every listener's group a worker accepts on.
//!
//! Room  pure.
//! In    a part of the whole in percent, and the number of sockets of a group.
//! Out   the sockets by their place in the group.
//! Holds shares that meet at a percentage divide every group without a gap and without an overlap, whatever its
//!       size; a group of one socket cannot be divided and stays with whoever has the upper end.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The whole, in percent.
const WHOLE: u8 = 100;

/// From `from` to `to` percent of each group's sockets, in their fixed order.
///
/// A canary at 10 % is `0..10` of the successor and `10..100` of the incumbent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Bounds")]
pub struct Share {
    from: u8,
    to: u8,
}

/// As it travels.
#[derive(Deserialize)]
struct Bounds {
    from: u8,
    to: u8,
}

/// Not a part of a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("from {from} to {to} percent is no share")]
pub struct ShareError {
    from: u8,
    to: u8,
}

impl TryFrom<Bounds> for Share {
    type Error = ShareError;

    fn try_from(Bounds { from, to }: Bounds) -> Result<Self, ShareError> {
        if from > to || to > WHOLE {
            return Err(ShareError { from, to });
        }
        Ok(Self { from, to })
    }
}

impl Share {
    /// Every socket.
    pub const ALL: Self = Self { from: 0, to: WHOLE };
    /// No socket.
    pub const NONE: Self = Self { from: 0, to: 0 };

    /// The first `percent` of each group; more than 100 is all.
    #[must_use]
    pub fn below(percent: u8) -> Self {
        Self {
            from: 0,
            to: percent.min(WHOLE),
        }
    }

    /// What [`Self::below`] leaves.
    #[must_use]
    pub fn above(percent: u8) -> Self {
        if percent >= WHOLE {
            return Self::NONE;
        }
        Self {
            from: percent,
            to: WHOLE,
        }
    }

    /// True when it is every socket.
    #[must_use]
    pub fn is_all(self) -> bool {
        self == Self::ALL
    }

    /// True when it is no socket of any group.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.from == self.to
    }

    /// The places of this share in a group of `sockets`.
    #[must_use]
    pub fn places(self, sockets: usize) -> Range<usize> {
        cut(self.from, sockets)..cut(self.to, sockets)
    }

    /// True when the socket at `place` of a group of `sockets` belongs to it.
    #[must_use]
    pub fn holds(self, place: usize, sockets: usize) -> bool {
        self.places(sockets).contains(&place)
    }
}

/// How many sockets lie below `percent`: rounded, and neither none nor all unless that was asked for.
fn cut(percent: u8, sockets: usize) -> usize {
    match percent {
        0 => 0,
        WHOLE.. => sockets,
        _ if sockets < 2 => 0,
        _ => {
            let rounded = (sockets * usize::from(percent) + 50) / usize::from(WHOLE);
            rounded.clamp(1, sockets - 1)
        }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {} %", self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn the_places_are_those_of_the_table() {
        let table = [
            (Share::ALL, 16, 0..16),
            (Share::NONE, 16, 0..0),
            (Share::below(10), 16, 0..2),
            (Share::above(10), 16, 2..16),
            (Share::below(50), 16, 0..8),
            (Share::below(1), 16, 0..1),
            (Share::below(99), 16, 0..15),
            (Share::above(99), 16, 15..16),
            (Share::below(50), 1, 0..0),
            (Share::above(50), 1, 0..1),
            (Share::below(50), 2, 0..1),
            (Share::below(200), 3, 0..3),
            (Share::above(100), 3, 0..0),
            (Share::ALL, 0, 0..0),
        ];
        for (share, sockets, places) in table {
            let found = share.places(sockets);
            assert!(
                found == places || (found.is_empty() && places.is_empty()),
                "{share} of {sockets}: {found:?}"
            );
        }
    }

    #[test]
    fn two_shares_divide_every_group_without_gap_or_overlap() {
        for sockets in 0..70 {
            for percent in 0..=100 {
                let (below, above) = (Share::below(percent), Share::above(percent));
                for place in 0..sockets {
                    assert_ne!(
                        below.holds(place, sockets),
                        above.holds(place, sockets),
                        "{place} of {sockets} at {percent} %"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_no_share_is_refused_when_it_arrives() {
        for wrong in [r#"{"from":3,"to":2}"#, r#"{"from":0,"to":101}"#, "{}", "3"] {
            assert!(serde_json::from_str::<Share>(wrong).is_err(), "{wrong}");
        }
        let text = serde_json::to_string(&Share::above(10)).expect("encodes");
        assert_eq!(
            serde_json::from_str::<Share>(&text).expect("decodes"),
            Share::above(10)
        );
    }
}
