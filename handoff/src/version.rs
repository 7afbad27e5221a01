//! The protocol numbers this build speaks, and how two builds agree on one.
//!
//! Room  pure.
//! Holds version N talks to N-1 and N+1 as long as their ranges overlap; unknown fields never matter.

use serde::{Deserialize, Serialize};

/// The lowest and the highest handoff protocol a process speaks, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtocolRange {
    pub min: u16,
    pub max: u16,
}

/// What this build speaks. Raise `max` when a message gains a meaning that an older peer must know of;
/// raise `min` only one release after every supported peer speaks it.
///
/// 2: `Accept` with a share, `Serve`, self-tests in `Ready`.
pub const SPOKEN: ProtocolRange = ProtocolRange { min: 1, max: 2 };

/// From this protocol on a worker accepts on a part of a group and serves self-tests.
pub const DIVIDING_PROTOCOL: u16 = 2;

impl ProtocolRange {
    /// The highest protocol both sides speak.
    pub fn agree(self, other: Self) -> Option<u16> {
        let highest = self.max.min(other.max);
        let lowest = self.min.max(other.min);
        (self.min <= self.max && other.min <= other.max && lowest <= highest).then_some(highest)
    }
}

impl std::fmt::Display for ProtocolRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::ProtocolRange;

    fn range(min: u16, max: u16) -> ProtocolRange {
        ProtocolRange { min, max }
    }

    #[test]
    fn the_highest_common_protocol_is_agreed_on() {
        let table = [
            (range(1, 1), range(1, 1), Some(1)),
            (range(1, 2), range(2, 3), Some(2)),
            (range(1, 3), range(1, 2), Some(2)),
            (range(1, 1), range(2, 2), None),
            (range(4, 2), range(1, 9), None),
            (range(1, 9), range(4, 2), None),
        ];
        for (ours, theirs, agreed) in table {
            assert_eq!(ours.agree(theirs), agreed, "{ours} with {theirs}");
            assert_eq!(theirs.agree(ours), agreed, "{theirs} with {ours}");
        }
    }
}
