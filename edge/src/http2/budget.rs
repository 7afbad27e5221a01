//! How often a client may do what costs us more than it costs the client.
//!
//! Room  pure: counts over a window of ten seconds.
//! Holds a client that only uses the protocol never meets a limit; one that floods is ended.

/// What is counted over, in milliseconds.
const WINDOW_MS: u64 = 10_000;

/// SETTINGS, PING and PRIORITY frames, and frames that move nothing, of a window. Sized: a client that measures its
/// round trip ten times a second, twice.
pub(super) const CONTROLS_MAX: u32 = 200;

/// WINDOW_UPDATE frames of a window. Sized: one for each 2 KiB at 100 MB/s would be 500,000; clients send one for each
/// 16 KiB at most.
const UPDATES_MAX: u32 = 100_000;

/// Frames of one header block. Sized: 32 KiB of fields in frames of 4 KiB, twice.
pub(super) const BLOCK_FRAMES_MAX: u32 = 16;

/// Why a connection is not served any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abuse {
    /// More resets than allowed, the client's (CVE-2023-44487) or those that it makes us send (CVE-2025-8671).
    Resets,
    /// A flood of frames that carry nothing (CVE-2019-9512, 9515, 9518).
    Controls,
    /// A header block in endless pieces (CVE-2024-27316).
    Block,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    resets_max: u32,
    window_began: u64,
    resets: u32,
    controls: u32,
    updates: u32,
}

impl Budget {
    pub(super) fn new(resets_max: u32) -> Self {
        Self {
            resets_max,
            window_began: 0,
            resets: 0,
            controls: 0,
            updates: 0,
        }
    }

    /// The moment of what follows, in milliseconds.
    pub(super) fn at(&mut self, now: u64) {
        if now.saturating_sub(self.window_began) > WINDOW_MS {
            *self = Self::new(self.resets_max);
            self.window_began = now;
        }
    }

    pub(super) fn reset(&mut self) -> Result<(), Abuse> {
        self.resets += 1;
        within(self.resets, self.resets_max, Abuse::Resets)
    }

    pub(super) fn control(&mut self) -> Result<(), Abuse> {
        self.controls += 1;
        within(self.controls, CONTROLS_MAX, Abuse::Controls)
    }

    pub(super) fn update(&mut self) -> Result<(), Abuse> {
        self.updates += 1;
        within(self.updates, UPDATES_MAX, Abuse::Controls)
    }
}

fn within(count: u32, most: u32, abuse: Abuse) -> Result<(), Abuse> {
    if count > most { Err(abuse) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::{Abuse, Budget, CONTROLS_MAX};

    #[test]
    fn floods_are_abuse_and_patience_is_not() {
        let mut budget = Budget::new(10);
        for _ in 0..10 {
            budget.reset().expect("allowed");
        }
        assert_eq!(budget.reset(), Err(Abuse::Resets));
        budget.at(10_001);
        for _ in 0..CONTROLS_MAX {
            budget.control().expect("allowed");
        }
        assert_eq!(budget.control(), Err(Abuse::Controls));
        for second in 3..100 {
            budget.at(second * 5_000);
            budget.reset().expect("one in five seconds");
        }
    }
}
