//! What outlives a generation: the keys of session tickets, and what the incumbent knows of its clients.
//!
//! Holds  a state that is late, missing or wrong costs the successor its memory, never the upgrade.

use std::time::Instant;

use control::Role;
use handoff::Sealed;
use handoff::supervisor::Order;

use super::Core;
use crate::swap::{Event, Phase};

impl Core {
    /// Asks the incumbent for what the successor should know, if both can speak of it.
    pub(super) fn share_state(&mut self, now: Instant) {
        let is_native = |artifact: &crate::record::Artifact| artifact.is_native();
        let takes = self
            .successor()
            .is_some_and(|successor| is_native(&successor.artifact));
        match self.incumbent() {
            Some(incumbent)
                if takes && is_native(&incumbent.artifact) && incumbent.orders.is_some() =>
            {
                incumbent.order(Order::ShareState);
            }
            _ => self.advance(Event::StateShared, now),
        }
    }

    /// The incumbent's answer; one that comes too late, or from somebody else, is dropped.
    pub(super) fn handle_state(
        &mut self,
        number: u64,
        state: Result<Option<Sealed>, String>,
        now: Instant,
    ) {
        let is_incumbent = self
            .generations
            .get(&number)
            .is_some_and(|generation| generation.role == Role::Incumbent);
        if self.phase != Phase::Sharing || !is_incumbent {
            tracing::debug!(
                generation = number,
                "a state that nobody waits for: dropped"
            );
            return;
        }
        match state {
            Ok(Some(state)) => {
                tracing::debug!(
                    bytes = state.bytes(),
                    "the incumbent's state is handed over"
                );
                if let Some(successor) = self.successor() {
                    successor.order(Order::GiveState(state));
                }
            }
            Ok(None) => {}
            Err(reason) => self.remark_missing_state(&reason),
        }
        self.advance(Event::StateShared, now);
    }

    pub(super) fn remark_missing_state(&self, reason: &str) {
        self.tell(
            "remark",
            format!("the successor begins without the incumbent's state: {reason}"),
        );
    }

    /// New keys reach every living generation: each may be the one that gives them back one day.
    pub(super) fn tick_ticket_keys(&mut self, now: Instant) {
        let Some(keys) = self.ticket_keys.tick(now) else {
            return;
        };
        tracing::info!("the ticket keys were rotated");
        for generation in self.generations.values() {
            generation.order(Order::TicketKeys(keys.clone()));
        }
    }
}
