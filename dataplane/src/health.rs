//! Is a backend fit to be chosen? Active checks with rise and fall, and ejection by failed connects.
//!
//! Room  pure: `now` is an argument; who probes is `probe.rs`, who publishes is `upstream.rs`.
//! Holds an unchecked backend counts as healthy, so that a fresh start serves at once; a backend that
//!       keeps failing is ejected for longer each time, up to a bound.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// How an upstream's backends are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub kind: CheckKind,
    /// From the end of one check to the start of the next, with some jitter.
    pub interval: Duration,
    /// For a whole check.
    pub timeout: Duration,
    /// Checks in a row that must pass before an unhealthy backend is healthy.
    pub rise: u32,
    /// Checks in a row that must fail before a healthy backend is unhealthy.
    pub fall: u32,
    /// Another port than that of the traffic.
    pub port: Option<u16>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            kind: CheckKind::Tcp,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
            port: None,
        }
    }
}

/// What a check does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// Connects.
    Tcp,
    /// `GET path` and a status within `expect`.
    Http {
        path: String,
        /// The Host header; absent: the backend's address.
        host: Option<String>,
        expect: RangeInclusive<u16>,
    },
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    Passed,
    /// Why not, for a person.
    Failed(String),
}

/// When a backend that does not connect is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Failed connects in a row; 0 switches ejection off.
    pub failures: u32,
    /// Answers in a row that say the backend is broken (500, 502, 503, 504, none at all), where requests are seen;
    /// 0 switches this off.
    pub response_failures: u32,
    /// Length of the first ejection; each further one is longer by as much.
    pub base: Duration,
    /// Longest ejection.
    pub longest: Duration,
    /// Most of an upstream's backends that may be ejected at once, in percent.
    pub share_max_percent: u32,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            failures: 3,
            response_failures: 5,
            base: Duration::from_secs(10),
            longest: Duration::from_secs(300),
            share_max_percent: 50,
        }
    }
}

/// What the checks say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Checked {
    #[default]
    Unchecked,
    Healthy,
    Unhealthy,
}

/// The health of one backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Condition {
    checked: Checked,
    /// Results in a row that contradict `checked`.
    streak: u32,
    /// Failed connects in a row.
    failures: u32,
    ejected_until: Option<Instant>,
    /// Ejections in a row without a connect that succeeded for good.
    ejections: u32,
}

impl Condition {
    /// One check more; true when the word changed.
    pub fn probed(&mut self, passed: bool, rise: u32, fall: u32) -> bool {
        let contradicts = match self.checked {
            Checked::Unchecked | Checked::Healthy => !passed,
            Checked::Unhealthy => passed,
        };
        if !contradicts {
            self.streak = 0;
            let first = self.checked == Checked::Unchecked;
            if first {
                self.checked = Checked::Healthy;
            }
            return false;
        }
        self.streak = self.streak.saturating_add(1);
        // The very first check decides alone: a backend that is down at the start is not waited for.
        let needed = match self.checked {
            Checked::Unchecked => 1,
            Checked::Healthy => fall.max(1),
            Checked::Unhealthy => rise.max(1),
        };
        if self.streak < needed {
            return false;
        }
        self.streak = 0;
        self.checked = if passed {
            Checked::Healthy
        } else {
            Checked::Unhealthy
        };
        if passed {
            // The checks outrank the memory of failed connects.
            self.failures = 0;
            self.ejected_until = None;
            self.ejections = 0;
        }
        true
    }

    /// A connection was established.
    pub fn connected(&mut self) {
        self.failures = 0;
        self.ejections = self.ejections.saturating_sub(1);
    }

    /// True when a connect that succeeds changes anything.
    pub fn is_suspect(&self) -> bool {
        self.failures > 0 || self.ejections > 0
    }

    /// Checks were switched off: their last word no longer counts.
    pub fn forget_checks(&mut self) {
        self.checked = Checked::Unchecked;
        self.streak = 0;
    }

    /// A connect failed; true when this backend should be ejected (if the share allows it).
    pub fn connect_failed(&mut self, ejection: &Ejection) -> bool {
        self.failures = self.failures.saturating_add(1);
        ejection.failures > 0 && self.failures >= ejection.failures && self.ejected_until.is_none()
    }

    /// Leaves the backend alone for a while.
    pub fn eject(&mut self, ejection: &Ejection, now: Instant) {
        self.ejections = self.ejections.saturating_add(1);
        let length = ejection
            .base
            .saturating_mul(self.ejections)
            .min(ejection.longest);
        self.ejected_until = Some(now + length);
        self.failures = 0;
    }

    /// True when an ejection has just ended: the backend may be tried again.
    pub fn forgive(&mut self, now: Instant) -> bool {
        let over = self.ejected_until.is_some_and(|until| now >= until);
        if over {
            self.ejected_until = None;
        }
        over
    }

    /// By its checks.
    pub fn is_healthy(&self) -> bool {
        self.checked != Checked::Unhealthy
    }

    /// By its failed connects.
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.ejected_until.is_some_and(|until| now < until)
    }

    /// For the admin API.
    pub fn word(&self, now: Instant) -> &'static str {
        match self.checked {
            Checked::Unhealthy => "unhealthy",
            _ if self.is_ejected(now) => "ejected",
            Checked::Unchecked => "unchecked",
            Checked::Healthy => "healthy",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Condition, Ejection};

    /// Each step: a check's result, then the word and whether it changed.
    #[test]
    fn rise_and_fall_as_a_table() {
        let now = Instant::now();
        type Step = (bool, &'static str, bool);
        let table: [(&str, &[Step]); 4] = [
            (
                "starts healthy",
                &[(true, "healthy", false), (true, "healthy", false)],
            ),
            (
                "down from the first check, up after two",
                &[
                    (false, "unhealthy", true),
                    (true, "unhealthy", false),
                    (true, "healthy", true),
                ],
            ),
            (
                "falls after three in a row only",
                &[
                    (true, "healthy", false),
                    (false, "healthy", false),
                    (false, "healthy", false),
                    (true, "healthy", false),
                    (false, "healthy", false),
                    (false, "healthy", false),
                    (false, "unhealthy", true),
                ],
            ),
            (
                "a flapping backend stays out",
                &[
                    (false, "unhealthy", true),
                    (true, "unhealthy", false),
                    (false, "unhealthy", false),
                    (true, "unhealthy", false),
                    (false, "unhealthy", false),
                ],
            ),
        ];
        for (name, steps) in table {
            let mut condition = Condition::default();
            assert_eq!(condition.word(now), "unchecked");
            for (step, (passed, word, changed)) in steps.iter().enumerate() {
                assert_eq!(
                    condition.probed(*passed, 2, 3),
                    *changed,
                    "{name}, step {step}"
                );
                assert_eq!(condition.word(now), *word, "{name}, step {step}");
            }
        }
    }

    #[test]
    fn ejections_grow_and_are_bounded() {
        let ejection = Ejection::default();
        let start = Instant::now();
        let mut condition = Condition::default();
        let mut lengths = Vec::new();
        let mut now = start;
        for _ in 0..40 {
            assert!(!condition.connect_failed(&ejection));
            assert!(!condition.connect_failed(&ejection));
            assert!(condition.connect_failed(&ejection));
            condition.eject(&ejection, now);
            let ejected_at = now;
            while condition.is_ejected(now) {
                assert!(!condition.forgive(now));
                now += Duration::from_secs(1);
            }
            assert!(condition.forgive(now));
            lengths.push((now - ejected_at).as_secs());
        }
        assert_eq!(lengths.get(..4), Some(&[10, 20, 30, 40][..]));
        assert_eq!(lengths.last(), Some(&300));
    }

    #[test]
    fn a_connect_that_succeeds_interrupts_the_count() {
        let ejection = Ejection::default();
        let mut condition = Condition::default();
        for _ in 0..10 {
            assert!(!condition.connect_failed(&ejection));
            assert!(!condition.connect_failed(&ejection));
            condition.connected();
        }
    }
}
