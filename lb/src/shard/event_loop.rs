//! The loop of one shard: wait, note what is ready, give turns, accept, look at deadlines, carry out commands.
//!
//! Room  one thread, its tables of connections and listening sockets, and the order of its work.
//! In    events from `poll`, commands from `mailbox`.
//! Out   turns (`turn`), accepts (`accept`), acknowledgements.
//! Holds no connection gets a second turn before all others that are ready got their first; an event or a
//!       timer of a connection that is gone finds nothing.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use super::Timeouts;
use super::accept::Gate;
use super::farewell::Farewell;
use super::mailbox::{Command, Inbox, Order};
use super::poll::{Event, Readiness, Slot, Token};
use super::survey;
use super::tools::Tools;
use super::turn::{self, Outcome};
use crate::connection::deadline::{self, Due};
use crate::connection::flow::Flow;
use crate::connection::{Connection, Link};
use crate::relay;
use crate::socket;
use crate::totals::{Counters, End};

/// Everything one thread owns.
pub(super) struct Shard {
    inbox: Inbox,
    pub(super) gate: Gate,
    pub(super) connections: Slab<Box<Connection>>,
    /// Connections that get a turn in the coming round.
    queue: VecDeque<Slot>,
    pub(super) tools: Tools,
    /// Counts tenants of slots; see [`Slot`].
    pub(super) generation: u32,
    pub(super) farewell: Option<Farewell>,
    /// When a drain is over, if one began.
    pub(super) drained_by: Option<Instant>,
    stopped: bool,
}

/// Ends the process when a shard ends by a panic.
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Its sockets would go on taking connections that nobody accepts; a supervisor restarts us.
            std::process::abort();
        }
    }
}

/// The life of a shard's thread.
pub(super) fn run(mut shard: Shard) {
    let _guard = Guard;
    while !shard.stopped {
        if let Err(error) = shard.round() {
            tracing::error!(%error, "a shard's epoll failed; its connections are lost");
            shard.cut_all(End::InternalError);
            break;
        }
    }
    shard.cut_all(End::Shutdown);
    shard.gate.close(&shard.tools.poller);
}

impl Shard {
    pub(super) fn new(
        index: usize,
        shards: usize,
        timeouts: Timeouts,
        inbox: Inbox,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let tools = Tools::new(index, shards, timeouts, counters, Instant::now())?;
        tools.poller.watch_wake(inbox.wake())?;
        Ok(Self {
            inbox,
            gate: Gate::default(),
            connections: Slab::new(),
            queue: VecDeque::new(),
            tools,
            generation: 0,
            farewell: None,
            drained_by: None,
            stopped: false,
        })
    }

    fn round(&mut self) -> rustix::io::Result<()> {
        let patience = self.patience();
        self.tools.poller.wait(patience)?;
        self.tools.now = Instant::now();
        self.tools.bench.counters.wakeups.add(1);
        let woken = self.note_events();
        for _ in 0..self.queue.len() {
            if let Some(slot) = self.queue.pop_front() {
                self.give_turn(slot);
            }
        }
        self.accept_ready();
        self.look_at_deadlines();
        if std::mem::take(&mut self.tools.shortage) {
            // More clients would only meet the same shortage; they wait in the accept queue.
            self.gate.pause(
                &self.tools.poller,
                self.tools.now,
                &self.tools.bench.counters,
            );
        }
        if woken {
            self.inbox.hush();
            while let Some(command) = self.inbox.next() {
                self.carry_out(command);
            }
        }
        Ok(())
    }

    /// How long nothing can become due; `None`: nothing will.
    fn patience(&self) -> Option<Duration> {
        if !self.queue.is_empty() {
            return Some(Duration::ZERO);
        }
        let next = [
            self.tools.wheel.next_deadline(),
            self.gate.paused_until(),
            self.farewell.as_ref().map(Farewell::next),
        ];
        let next = next.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Notes what is ready; `true`: commands wait.
    fn note_events(&mut self) -> bool {
        let mut woken = false;
        let mut position = 0;
        while let Some(Event { token, readiness }) = self.tools.poller.event(position) {
            position += 1;
            match token {
                Token::Wake => woken = true,
                Token::Listener(slot) => self.gate.note_ready(slot),
                Token::Client(slot) => self.note(slot, readiness, true),
                Token::Backend(slot) => self.note(slot, readiness, false),
            }
        }
        woken
    }

    fn note(&mut self, slot: Slot, readiness: Readiness, of_client: bool) {
        let Some(connection) = find(&mut self.connections, slot) else {
            return;
        };
        if of_client {
            connection.client.notice(readiness);
        } else if let Some(link) = connection.link.as_mut() {
            link.side.notice(readiness);
        }
        if !connection.queued {
            connection.queued = true;
            self.queue.push_back(slot);
        }
    }

    fn give_turn(&mut self, slot: Slot) {
        let Some(connection) = find(&mut self.connections, slot) else {
            return;
        };
        connection.queued = false;
        let tools = &mut self.tools;
        let outcome = guarded(|| turn::turn(connection, slot, tools));
        self.settle(slot, outcome);
    }

    /// Does what a turn came to.
    pub(super) fn settle(&mut self, slot: Slot, outcome: Outcome) {
        let Some(connection) = find(&mut self.connections, slot) else {
            return;
        };
        match outcome {
            Outcome::Wait => self.tools.arm(connection, slot),
            Outcome::Again => {
                connection.queued = true;
                self.queue.push_back(slot);
                self.tools.arm(connection, slot);
            }
            Outcome::End(end) => self.end(slot, end),
        }
    }

    fn end(&mut self, slot: Slot, end: End) {
        if find(&mut self.connections, slot).is_none() {
            return;
        }
        let mut connection = self.connections.remove(slot.index);
        let bench = &mut self.tools.bench;
        relay::discard(&mut connection.to_backend, bench);
        relay::discard(&mut connection.to_client, bench);
        if cuts(end, &connection.to_client) {
            socket::reset_on_close(&connection.client.socket);
        }
        if let Some(Link { side, .. }) = connection.link.as_ref()
            && cuts(end, &connection.to_backend)
        {
            socket::reset_on_close(&side.socket);
        }
        if let Some(age) = connection.relayed_for(self.tools.now) {
            bench.counters.duration.record(age);
        }
        self.tools.shortage |= end == End::HostExhausted;
        // Closed and given back before it is counted: who reads the count finds the place free.
        drop(connection);
        self.tools.bench.counters.end(end);
    }

    fn look_at_deadlines(&mut self) {
        let now = self.tools.now;
        while let Some(slot) = self.tools.wheel.pop_expired(now) {
            self.look_at(slot);
        }
        if self.farewell.is_some_and(|farewell| farewell.next() <= now) {
            self.cut_some(now);
            // With nobody left there is nothing to look at.
            self.farewell = self.farewell.filter(|_| !self.connections.is_empty());
        }
        self.gate.resume_if_due(&self.tools.poller, now);
    }

    /// A timer entry of this connection has come due; perhaps activity has moved its deadline meanwhile.
    fn look_at(&mut self, slot: Slot) {
        let Some(connection) = find(&mut self.connections, slot) else {
            return;
        };
        let now = self.tools.now;
        if connection.times.due_entry.is_some_and(|entry| entry > now) {
            return; // a left-over entry: a nearer deadline replaced it, and the next is in the wheel
        }
        connection.times.due_entry = None;
        let outcome = match deadline::next(connection, &self.tools.timeouts) {
            (at, _) if at > now => Outcome::Wait,
            (_, Due::End(end)) => Outcome::End(end),
            (_, Due::Connect) => guarded(|| turn::seek_another(connection, slot, &mut self.tools)),
            (_, Due::Settle) => {
                connection.times.settled = true;
                if let Some(link) = connection.link.as_ref() {
                    // Refused by a socket that is gone: its own event tells.
                    let _ = socket::believe(&link.side.socket, self.tools.timeouts.patience());
                }
                Outcome::Wait
            }
        };
        self.settle(slot, outcome);
    }

    fn carry_out(&mut self, command: Command) {
        let poller = &self.tools.poller;
        let result = match command.order {
            Order::Serve(name, client) => self.serve(&name, client),
            Order::SetListener(service, watched) => self.gate.set(poller, service, watched),
            Order::RemoveListener(name) => self.gate.remove(poller, &name),
            Order::Accept(share) => self.gate.accept(poller, share),
            Order::SetTimeouts(timeouts) => {
                self.set_timeouts(timeouts);
                Ok(())
            }
            Order::Survey(answer) => {
                let _ = answer.send(survey::of(&self.connections, self.tools.now));
                Ok(())
            }
            Order::Freeze(descriptors, answer) => {
                // Nobody waits any more: they are served on.
                if let Err(unheard) = answer.send(self.freeze(descriptors)) {
                    self.thaw(unheard.0.connections);
                }
                Ok(())
            }
            Order::Settle {
                taken,
                others,
                done,
            } => {
                self.release(taken);
                self.thaw(others);
                let _ = done.send(());
                Ok(())
            }
            Order::Adopt(connections, done) => {
                self.adopt(connections);
                let _ = done.send(());
                Ok(())
            }
            Order::Kept(answer) => {
                let _ = answer.send(self.kept());
                Ok(())
            }
            Order::Drain(cut_at) => {
                self.drained_by = Some(cut_at);
                self.farewell = Some(Farewell::new(self.tools.now, cut_at));
                self.gate.close(poller);
                Ok(())
            }
            Order::Stop => {
                self.stopped = true;
                Ok(())
            }
        };
        // Nobody waits any more when the deadline for acknowledgements has passed.
        let _ = command.done.send(result.map_err(io::Error::from));
    }

    fn set_timeouts(&mut self, timeouts: Timeouts) {
        self.tools.timeouts = timeouts;
        for (index, connection) in &mut self.connections {
            let slot = Slot {
                index,
                generation: connection.generation,
            };
            self.tools.arm(connection, slot);
        }
    }

    /// Some of those that are left, or all.
    fn cut_some(&mut self, now: Instant) {
        let held = self.connections.len();
        let farewell = self.farewell.as_mut();
        let due = farewell.map_or(0, |farewell| farewell.due(now, held));
        let slots = self.connections.iter().take(due);
        let slots = slots.map(|(index, connection)| Slot {
            index,
            generation: connection.generation,
        });
        let slots: Vec<Slot> = slots.collect();
        slots
            .into_iter()
            .for_each(|slot| self.end(slot, End::CutByDrain));
    }

    fn cut_all(&mut self, end: End) {
        let slots = self.connections.iter().map(|(index, connection)| Slot {
            index,
            generation: connection.generation,
        });
        let slots: Vec<Slot> = slots.collect();
        slots.into_iter().for_each(|slot| self.end(slot, end));
    }
}

/// A bug that one peer's bytes bring out costs that connection, not the others.
pub(super) fn guarded(work: impl FnOnce() -> Outcome) -> Outcome {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Outcome::End(End::InternalError))
}

/// The connection that a token or a timer means, unless it is gone.
fn find(connections: &mut Slab<Box<Connection>>, slot: Slot) -> Option<&mut Connection> {
    let connection = connections.get_mut(slot.index)?;
    (connection.generation == slot.generation).then_some(&mut **connection)
}

/// Whether the destination of this flow must see a reset, because a close would look like a clean end.
fn cuts(end: End, flow: &Flow) -> bool {
    match end {
        End::Finished => false,
        End::ClientReset | End::BackendReset => true,
        // Who had everything up to the end of file keeps it: a reset would withdraw what the kernel is
        // still delivering to a slow reader.
        _ => !flow.told,
    }
}

#[cfg(test)]
mod tests;
