//! Live connections move from the generation that leaves to the one that stays.
//!
//! Room  makes the way between two workers and hears how far they have come; no connection ever passes here.
//! Holds a move that fails costs nothing: who cannot move drains, as without it.

use std::time::{Duration, Instant};

use control::{Migrate, MovedStatus, Role};
use handoff::link::Channel;
use handoff::message::Moved;
use handoff::supervisor::Order;

use super::Core;
use crate::swap::{Event, Phase};

/// How long a passage that broke waits for the end of the successor to be seen. Sized: it is, within milliseconds.
const BROKEN_GRACE: Duration = Duration::from_millis(300);

impl Core {
    /// At the commit: everything goes to the successor.
    pub(super) fn move_connections(&mut self, now: Instant) {
        let migrate = self.swap.as_ref().map(|swap| swap.migrate);
        let incumbent = self.incumbent().map(|one| one.number);
        let successor = self.swap.as_ref().and_then(|swap| swap.successor);
        let joined = match (migrate, incumbent, successor) {
            (None | Some(Migrate::Never), _, _) => Err("connections do not move (--migrate never)"),
            (_, Some(from), Some(to)) => self.join(from, to, 100),
            // Nobody is there who would have any.
            _ => Err("the incumbent is gone"),
        };
        if let Err(why) = joined {
            tracing::info!(why, "what the incumbent holds drains");
            self.advance(Event::Moved, now);
        }
    }

    /// In a canary or a bake with `--migrate canary`: the successor gets as large a part of the open connections as of the new ones.
    pub(super) fn move_share(&mut self) {
        let incumbent = self.incumbent().map(|one| one.number);
        let Some(swap) = self
            .swap
            .as_mut()
            .filter(|swap| swap.migrate == Migrate::Canary)
        else {
            return;
        };
        let wanted = swap.canary.percent();
        let before = std::mem::replace(&mut swap.moved_percent, wanted);
        // Of what is left there.
        let part = u32::from(wanted.saturating_sub(before)) * 100 / u32::from(100 - before.min(99));
        if part == 0 {
            return;
        }
        let (Some(from), Some(to), Ok(part)) = (incumbent, swap.successor, u8::try_from(part))
        else {
            return;
        };
        if let Err(why) = self.join(from, to, part) {
            self.tell(
                "remark",
                format!("no connection moves with the canary: {why}"),
            );
        }
    }

    /// After a rollback: what the successor was given or has accepted goes to whoever serves.
    pub(super) fn move_back(&mut self) {
        let never = self
            .swap
            .as_ref()
            .is_none_or(|swap| swap.migrate == Migrate::Never);
        let incumbent = self.incumbent().map(|one| one.number);
        let successor = self.swap.as_ref().and_then(|swap| swap.successor);
        if let (false, Some(from), Some(to)) = (never, successor, incumbent)
            && let Err(why) = self.join(from, to, 100)
        {
            tracing::info!(why, "what the successor holds drains");
        }
    }

    /// Gives each of them an end of a way of their own.
    fn join(&mut self, from: u64, to: u64, percent: u8) -> Result<(), &'static str> {
        let moves = |number: u64| {
            let generation = self.generations.get(&number);
            generation.is_some_and(|one| one.moves > 0 && one.orders.is_some() && one.ready)
        };
        if !moves(from) || !moves(to) {
            return Err("one of the versions cannot move connections");
        }
        let (near, far) = Channel::pair().map_err(|_| "no descriptor is left for a passage")?;
        if let Some(taker) = self.generations.get(&to) {
            taker.order(Order::Take(far));
        }
        if let Some(giver) = self.generations.get(&from) {
            giver.order(Order::Give {
                passage: near,
                percent,
            });
        }
        Ok(())
    }

    /// How far a generation has come that gives its connections away.
    pub(super) fn handle_moved(&mut self, number: u64, moved: Moved, now: Instant) {
        let Some(generation) = self.generations.get_mut(&number) else {
            return;
        };
        let (is_over, is_broken) = (moved.over, moved.broken);
        let status = status(moved);
        let message = words(&status);
        generation.stayed = status.stayed.clone();
        if is_over {
            self.tally.stayed(&status.stayed);
        }
        let is_leaving = generation.role == Role::Draining;
        tracing::info!(
            generation = number,
            over = is_over,
            message,
            "connections move"
        );
        if is_leaving {
            return;
        }
        if let Some(swap) = self.swap.as_mut() {
            swap.moved = Some(status);
        }
        self.tell(if is_over { "moved" } else { "moving" }, message);
        let is_incumbent = self.incumbent().is_some_and(|one| one.number == number);
        if !is_over || self.phase != Phase::Moving || !is_incumbent {
            return;
        }
        if is_broken && let Some(swap) = self.swap.as_mut() {
            // Perhaps the successor has died, and its end is not seen yet.
            swap.deadline = Some(now + BROKEN_GRACE);
            return;
        }
        self.advance(Event::Moved, now);
    }

    /// The successor did not take everything in time; what is left moves on while it drains.
    pub(super) fn remark_slow_move(&self) {
        let last = self.swap.as_ref().and_then(|swap| swap.moved.as_ref());
        // Told already, with the reason.
        if last.is_some_and(|moved| !moved.stayed.is_empty()) {
            return;
        }
        self.tell(
            "remark",
            "connections still move: the rest does while the old version drains".to_owned(),
        );
    }
}

fn status(moved: Moved) -> MovedStatus {
    let milliseconds =
        |microseconds: u64| Duration::from_micros(microseconds).as_secs_f64() * 1000.0;
    MovedStatus {
        connections: moved.moved,
        took_ms: milliseconds(moved.took_us),
        stall_max_ms: milliseconds(moved.stall_max_us),
        stayed: moved.kept,
    }
}

/// "8000 connections moved in 140 ms (nobody waited longer than 3.1 ms); 2 stay: 2 waits for a backend".
pub(super) fn words(moved: &MovedStatus) -> String {
    let mut text = format!(
        "{} connections moved in {:.0} ms",
        moved.connections, moved.took_ms
    );
    if moved.connections > 0 {
        text += &format!(" (nobody waited longer than {:.1} ms)", moved.stall_max_ms);
    }
    let stay: u64 = moved.stayed.values().sum();
    if stay > 0 {
        let each = moved
            .stayed
            .iter()
            .map(|(why, count)| format!("{count} {why}"));
        text += &format!("; {stay} stay: {}", each.collect::<Vec<_>>().join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use handoff::message::Moved;

    use super::{status, words};

    #[test]
    fn a_person_reads_how_many_moved_how_long_it_took_and_why_others_stay() {
        let all = Moved {
            over: true,
            moved: 8000,
            took_us: 140_200,
            stall_max_us: 3_140,
            ..Moved::default()
        };
        assert_eq!(
            words(&status(all)),
            "8000 connections moved in 140 ms (nobody waited longer than 3.1 ms)"
        );
        let none = Moved {
            kept: [
                ("waits for a backend".to_owned(), 2),
                ("refused: no".to_owned(), 1),
            ]
            .into(),
            ..Moved::default()
        };
        assert_eq!(
            words(&status(none)),
            "0 connections moved in 0 ms; 3 stay: 1 refused: no, 2 waits for a backend"
        );
    }
}
