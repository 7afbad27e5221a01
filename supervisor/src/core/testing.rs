//! The self-test of a successor: what is tried, beside whom, and what its outcome leads to.
//!
//! Holds  no client has been on the successor yet; a test that cannot be made is said, and is no reason to stop.

use std::time::Instant;

use control::Role;
use handoff::message::SelfTest;

use super::{Core, Happening};
use crate::generation::Generation;
use crate::self_test::{self, Report, Subject};
use crate::swap::{Event, Phase};

impl Core {
    /// Begins as a task; comes back as [`Happening::SelfTested`].
    pub(super) fn run_self_test(&mut self, now: Instant) {
        let Some(swap) = self.swap.as_ref() else {
            return;
        };
        let subject = |one: Option<&Generation>| -> Option<(Subject, Vec<SelfTest>)> {
            let one = one.filter(|one| one.divides)?;
            let orders = one.orders.clone()?;
            Some((Subject::new(orders), one.self_tests.clone()))
        };
        let successor = subject(self.successor()).filter(|(_, tests)| !tests.is_empty());
        let Some(successor) = successor.filter(|_| self.settings.self_test) else {
            return self.advance(Event::SelfTested, now);
        };
        let mut serving = self.generations.values();
        let incumbent = subject(serving.find(|one| one.role == Role::Incumbent && one.accepting));
        let (id, happenings) = (swap.id, self.happenings.clone());
        tokio::spawn(async move {
            let report = self_test::run(successor, incumbent).await;
            let _ = happenings.send(Happening::SelfTested(id, report));
        });
    }

    pub(super) fn handle_self_tested(&mut self, id: u64, report: Report, now: Instant) {
        if self.phase != Phase::SelfTesting || !self.is_current(id) {
            return;
        }
        for remark in report.remarks {
            self.tell("remark", remark);
        }
        if let Some(failure) = report.failure {
            self.set_reason(failure);
            return self.advance(Event::SelfTestFailed, now);
        }
        let passed = report.passed;
        self.tell(
            "self-tested",
            format!("{passed} tries passed before any client"),
        );
        self.advance(Event::SelfTested, now);
    }
}
