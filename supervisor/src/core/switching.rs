//! Who accepts on what: the successor takes its share first, then the incumbent leaves it.
//!
//! Holds  at no moment does nobody accept on a socket; a step that one of them cannot make is no step.

use std::time::Instant;

use control::Role;
use handoff::Share;
use handoff::supervisor::Order;

use super::Core;
use crate::canary::Canary;
use crate::generation::Generation;
use crate::swap::Event;

impl Core {
    /// The successor gets its share; the incumbent still accepts on it too.
    pub(super) fn resume_successor(&mut self, now: Instant) {
        self.settle_canary();
        let Some(swap) = self.swap.as_mut() else {
            return;
        };
        let (share, percent) = (swap.canary.successor(), swap.canary.percent());
        let is_first = swap.opened_at.is_none();
        swap.opened_at.get_or_insert(now);
        let number = swap.successor;
        if is_first {
            let message = "the successor is ready; both accept now";
            self.tell("ready", message.to_owned());
        } else {
            self.tell("widening", format!("the successor takes {percent} %"));
        }
        let Some(successor) = number.and_then(|number| self.generations.get_mut(&number)) else {
            return;
        };
        successor.order(Order::Accept(share));
        if !successor.artifact.is_native() {
            successor.accepting = true;
            self.advance(Event::SuccessorAccepting, now);
        }
    }

    /// A canary needs two generations that can divide listeners; without them the successor takes everything.
    fn settle_canary(&mut self) {
        let divides = |one: Option<&Generation>| one.is_some_and(|one| one.divides);
        let incumbent = self
            .generations
            .values()
            .find(|one| one.role == Role::Incumbent);
        let can_divide = divides(self.successor()) && divides(incumbent);
        let Some(swap) = self.swap.as_mut() else {
            return;
        };
        if !swap.canary.is_whole() && !can_divide {
            swap.canary = Canary::default();
            let message =
                "no canary: a version that runs cannot divide listeners; the bake begins at once";
            self.tell("remark", message.to_owned());
        }
    }

    /// A level 1 incumbent cannot be paused: both share the queue until the commit.
    pub(super) fn pause_incumbent(&mut self, now: Instant) {
        let share = self.incumbent_share();
        self.tell("accepting", "the successor accepts".to_owned());
        match self.incumbent() {
            Some(incumbent) if incumbent.artifact.is_native() && incumbent.orders.is_some() => {
                incumbent.order(Order::Accept(share));
            }
            // It has a part to serve and cannot be told which: half a canary is none.
            _ if !share.is_none() => {
                self.set_reason("the incumbent cannot be reached in the canary".to_owned());
                self.advance(Event::IncumbentGone, now);
            }
            _ => self.advance(Event::IncumbentParked, now),
        }
    }

    /// What the incumbent keeps in this step.
    pub(super) fn incumbent_share(&self) -> Share {
        let swap = self.swap.as_ref();
        swap.map_or(Share::ALL, |swap| swap.canary.incumbent())
    }
}
