//! A worker's conversation broke, and the worker lives: it may come back, be let go, or be killed.
//!
//! Holds  whoever clients reach is never killed for a lost channel alone: it finishes what it holds. Its exit, if that
//!        was the cause, tells more than the broken conversation, so it is waited for a moment.

use std::time::{Duration, Instant};

use control::Role;

use super::Core;
use crate::swap::Event;

/// How long a worker may live on after its conversation broke.
const LOST_GRACE: Duration = Duration::from_millis(300);

impl Core {
    pub(super) fn handle_lost(&mut self, number: u64, reason: String, now: Instant) {
        let Some(generation) = self.generations.get_mut(&number) else {
            return;
        };
        generation.orders = None;
        generation.complaint.get_or_insert(reason);
        match generation.role {
            Role::Successor if generation.accepting => generation.lost_at = Some(now),
            Role::Successor => generation.kill_at = Some(now + LOST_GRACE),
            Role::Incumbent if !generation.ready => generation.kill_at = Some(now + LOST_GRACE),
            // It comes back, or ends by itself.
            Role::Incumbent | Role::Draining => {}
        }
    }

    /// A successor that cannot be told anything cannot be judged: the incumbent returns.
    pub(super) fn tick_lost(&mut self, now: Instant) {
        let is_over = |at: Instant| now.saturating_duration_since(at) >= LOST_GRACE;
        let mut all = self.generations.values_mut();
        let Some(lost) = all.find(|one| one.lost_at.is_some_and(is_over)) else {
            return;
        };
        lost.lost_at = None;
        let number = lost.number;
        lost.drain(self.settings.drain_timeout, now);
        let complaint = lost.complaint.clone().unwrap_or_default();
        let reason =
            format!("the private channel of generation {number} broke, and it lives: {complaint}");
        self.let_go(number, Event::SuccessorGone, reason, now);
    }
}
