//! What to do with the operator's answers, and when to ask again.
//!
//! Room  pure: no clock, no network, no disk; chance is an argument.
//! In    each answer, or that there was none.
//! Out   [`Step`] and the pause before the next question.
//! Holds `delivered` is the set in force; a tag that is sent with a question is the operator's for that set.

use std::time::Duration;

use hyper::header::HeaderValue;

use super::answer::Discovered;
use super::ask::Answer;

/// Pause after the first failure; doubled by every further one.
///
/// Sized: an operator that restarts is away for a few seconds and is found again soon.
const BACK_OFF_FIRST: Duration = Duration::from_secs(1);

/// Longest pause between two questions while the operator fails.
///
/// Sized: it is asked often enough to be found again within a minute, and a fleet does not press on one that
/// just comes up.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// Shortest interval, whatever is asked for: discovery is no busy loop.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// This set takes force, and is to be remembered.
    Deliver(Vec<Discovered>),
    /// What is in force stays so.
    Keep,
    /// Nothing is in force, and the operator gave nothing: the set on disk, if there is one.
    UseDisk,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Course {
    interval: Duration,
    failures: u32,
    etag: Option<HeaderValue>,
    delivered: Option<Vec<Discovered>>,
    disk_tried: bool,
}

impl Course {
    pub(super) fn new(interval: Duration) -> Self {
        let interval = interval.max(INTERVAL_MIN);
        Self {
            interval,
            failures: 0,
            etag: None,
            delivered: None,
            disk_tried: false,
        }
    }

    /// The tag to ask with.
    pub(super) fn etag(&self) -> Option<HeaderValue> {
        self.etag.clone()
    }

    /// `None`: there was no good answer.
    pub(super) fn hear(&mut self, answer: Option<Answer>) -> Step {
        let Some(answer) = answer else {
            self.failures = self.failures.saturating_add(1);
            let first = !self.disk_tried && self.delivered.is_none();
            self.disk_tried = true;
            return if first { Step::UseDisk } else { Step::Keep };
        };
        self.failures = 0;
        let Answer::Set { etag, backends } = answer else {
            return Step::Keep;
        };
        self.etag = etag;
        if self.delivered.as_ref() == Some(&backends) {
            return Step::Keep;
        }
        self.delivered = Some(backends.clone());
        Step::Deliver(backends)
    }

    /// The set on disk took force.
    pub(super) fn resumed(&mut self, set: &[Discovered]) {
        self.delivered = Some(set.to_vec());
    }

    /// How long to wait before the next question; `chance` is from 0 to 1.
    pub(super) fn pause(&self, chance: f64) -> Duration {
        let Some(doublings) = self.failures.checked_sub(1) else {
            return self.interval.mul_f64(0.9 + 0.2 * chance);
        };
        let first = BACK_OFF_FIRST.min(self.interval);
        let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
        let longest = first.saturating_mul(factor).min(BACK_OFF_MAX);
        longest.mul_f64(0.5 + 0.5 * chance)
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::parse_backends as parse;
    use super::{Answer, BACK_OFF_MAX, Course, Discovered, Duration, HeaderValue, Step};

    fn set(label: &str) -> Vec<Discovered> {
        parse(format!("[{{\"address\":\"{label}\"}}]").as_bytes()).expect("a set")
    }

    fn told(label: &str) -> Option<Answer> {
        let etag = Some(HeaderValue::from_static("\"1\""));
        Some(Answer::Set {
            etag,
            backends: set(label),
        })
    }

    #[test]
    fn a_set_is_delivered_once_however_often_it_is_told() {
        let mut course = Course::new(Duration::from_secs(10));
        assert_eq!(course.etag(), None);
        assert_eq!(
            course.hear(told("127.0.0.1:1")),
            Step::Deliver(set("127.0.0.1:1"))
        );
        assert_eq!(course.etag(), Some(HeaderValue::from_static("\"1\"")));
        assert_eq!(course.hear(told("127.0.0.1:1")), Step::Keep);
        assert_eq!(course.hear(Some(Answer::Unchanged)), Step::Keep);
        assert_eq!(
            course.hear(told("127.0.0.1:2")),
            Step::Deliver(set("127.0.0.1:2"))
        );
    }

    #[test]
    fn a_failure_takes_nothing_away_and_the_disk_is_asked_once_and_only_at_the_start() {
        let mut course = Course::new(Duration::from_secs(10));
        assert_eq!(course.hear(None), Step::UseDisk);
        assert_eq!(course.hear(None), Step::Keep);
        assert_eq!(
            course.hear(told("127.0.0.1:1")),
            Step::Deliver(set("127.0.0.1:1"))
        );
        assert_eq!(course.hear(None), Step::Keep);
        assert_eq!(
            course.etag(),
            Some(HeaderValue::from_static("\"1\"")),
            "the tag of the set in force"
        );
        let mut course = Course::new(Duration::from_secs(10));
        assert_eq!(
            course.hear(told("127.0.0.1:1")),
            Step::Deliver(set("127.0.0.1:1"))
        );
        assert_eq!(
            course.hear(None),
            Step::Keep,
            "what the operator said is newer than the disk"
        );
    }

    #[test]
    fn a_set_from_disk_that_the_operator_confirms_is_not_delivered_again() {
        let mut course = Course::new(Duration::from_secs(10));
        assert_eq!(course.hear(None), Step::UseDisk);
        course.resumed(&set("127.0.0.1:1"));
        assert_eq!(course.hear(told("127.0.0.1:1")), Step::Keep);
        assert_eq!(
            course.hear(told("127.0.0.1:2")),
            Step::Deliver(set("127.0.0.1:2"))
        );
    }

    #[test]
    fn pauses_grow_with_failures_to_a_minute_and_are_the_interval_otherwise() {
        let mut course = Course::new(Duration::from_secs(10));
        assert_eq!(course.pause(0.5), Duration::from_secs(10));
        assert_eq!(course.pause(0.0), Duration::from_secs(9));
        assert_eq!(course.pause(1.0), Duration::from_secs(11));
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            course.hear(None);
            assert_eq!(course.pause(1.0), Duration::from_secs(seconds));
            assert_eq!(course.pause(0.0), Duration::from_secs(seconds) / 2);
        }
        for _ in 0..100 {
            course.hear(None);
        }
        assert_eq!(course.pause(1.0), BACK_OFF_MAX, "however long it lasts");
        course.hear(told("127.0.0.1:1"));
        assert_eq!(course.pause(0.5), Duration::from_secs(10), "recovered");
    }

    #[test]
    fn a_failing_operator_is_not_asked_more_often_than_a_working_one() {
        let mut course = Course::new(Duration::from_millis(50));
        course.hear(None);
        assert_eq!(course.pause(1.0), Duration::from_millis(50));
        assert!(Course::new(Duration::ZERO).pause(0.0) > Duration::ZERO);
    }
}
