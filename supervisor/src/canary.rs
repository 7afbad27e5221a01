//! The steps of a canary: how much of every listener's group the successor accepts on, and when it gets more.
//!
//! Room  pure.
//! In    percentages as a person gives them. Out  the share of each generation at each step.
//! Holds the last step is always the whole; the two shares of a step divide every group.

use handoff::Share;

/// The whole, in percent: the last step of every upgrade.
const WHOLE: u8 = 100;

/// Where a canary is. Without steps it is at the whole from the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Canary {
    steps: Vec<u8>,
    at: usize,
}

/// Steps that are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("canary steps are rising percentages from 1 to 99, as in 10,50; got {0}")]
pub(crate) struct CanaryError(String);

impl Default for Canary {
    fn default() -> Self {
        Self {
            steps: vec![WHOLE],
            at: 0,
        }
    }
}

impl Canary {
    pub(crate) fn new(steps: &[u8]) -> Result<Self, CanaryError> {
        let rises = steps.windows(2).all(|pair| pair[0] < pair[1]);
        let in_range = steps.iter().all(|step| (1..WHOLE).contains(step));
        if !rises || !in_range {
            let text: Vec<String> = steps.iter().map(u8::to_string).collect();
            return Err(CanaryError(text.join(",")));
        }
        Ok(Self {
            steps: steps.iter().copied().chain([WHOLE]).collect(),
            at: 0,
        })
    }

    /// What the successor is asked to take now, in percent.
    pub(crate) fn percent(&self) -> u8 {
        self.steps.get(self.at).copied().unwrap_or(WHOLE)
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.percent() == WHOLE
    }

    /// The next step; the whole stays the whole.
    pub(crate) fn advance(&mut self) {
        self.at = (self.at + 1).min(self.steps.len().saturating_sub(1));
    }

    pub(crate) fn successor(&self) -> Share {
        Share::below(self.percent())
    }

    pub(crate) fn incumbent(&self) -> Share {
        Share::above(self.percent())
    }
}

#[cfg(test)]
mod tests {
    use handoff::Share;

    use super::Canary;

    #[test]
    fn the_steps_lead_to_the_whole_and_stay_there() {
        let mut canary = Canary::new(&[10, 50]).expect("rises");
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push((canary.percent(), canary.is_whole()));
            canary.advance();
        }
        assert_eq!(seen, [(10, false), (50, false), (100, true), (100, true)]);
        assert!(Canary::default().is_whole());
        assert_eq!(Canary::default().incumbent(), Share::NONE);
        assert_eq!(Canary::new(&[]).expect("no steps"), Canary::default());
    }

    #[test]
    fn what_does_not_rise_or_is_no_part_is_refused() {
        for wrong in [&[0][..], &[100], &[50, 10], &[10, 10], &[10, 200]] {
            let error = Canary::new(wrong).expect_err("refused").to_string();
            assert!(error.contains("rising percentages"), "{error}");
        }
    }
}
