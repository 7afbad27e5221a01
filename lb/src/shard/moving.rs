//! Connections that leave the shard while they live, and those that come to it.
//!
//! ```text
//!   freeze ─▶ taken elsewhere: release      adopt ◀─ from elsewhere
//!        └──▶ not taken: thaw
//! ```
//!
//! Room  the shard's tables, epoll and counters; what travels is `connection/record`.
//! Holds a frozen connection is watched by no epoll and is in no table: no event, no timer and no drain touches it. It
//!       counts as active here until it is released.

use std::collections::BTreeMap;
use std::time::Instant;

use dataplane::moving::NOT_ASKED;

use super::event_loop::Shard;
use super::farewell::Farewell;
use super::poll::{Slot, Token};
use super::turn::Outcome;
use crate::connection::{Boxed, record};
use crate::relay;
use crate::totals::End;

/// What a shard gives out.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) connections: Vec<Boxed>,
    /// Others may be movable soon.
    pub(crate) others_wait: bool,
}

impl Shard {
    /// Takes movable connections out, with at most so many descriptors together.
    pub(super) fn freeze(&mut self, descriptors: usize) -> Batch {
        let mut batch = Batch::default();
        let mut chosen = Vec::new();
        let mut left = descriptors;
        for (index, connection) in &mut self.connections {
            if connection.refused.is_some() {
                continue;
            }
            if record::movable(connection).is_err() {
                batch.others_wait = true;
                continue;
            }
            // A pipe that was lent for more than came does not travel.
            for flow in [&mut connection.to_backend, &mut connection.to_client] {
                relay::rest(flow, &mut self.tools.bench);
            }
            let needed = record::descriptors(connection);
            if needed > left {
                break;
            }
            left -= needed;
            chosen.push(index);
        }
        for index in chosen {
            let mut connection = self.connections.remove(index);
            let sockets = connection.link.iter().map(|link| &link.side.socket);
            for socket in sockets.chain([&connection.client.socket]) {
                // It was registered; were it not, there would be nothing to take out.
                let _ = self.tools.poller.forget(socket);
            }
            connection.times.due_entry = None;
            batch.connections.push(connection);
        }
        batch
    }

    /// Another process serves them: closed here, and the peers hear nothing of it.
    pub(super) fn release(&mut self, connections: Vec<Boxed>) {
        for mut connection in connections {
            relay::discard(&mut connection.to_backend, &mut self.tools.bench);
            relay::discard(&mut connection.to_client, &mut self.tools.bench);
            drop(connection);
            self.tools.bench.counters.end(End::Moved);
        }
    }

    /// They stay, and are served on.
    pub(super) fn thaw(&mut self, connections: Vec<Boxed>) {
        for connection in connections {
            self.insert(connection);
        }
        self.renew_farewell();
    }

    /// Connections of another process: they are served from now on.
    pub(super) fn adopt(&mut self, connections: Vec<Boxed>) {
        let counters = &self.tools.bench.counters;
        for connection in &connections {
            counters.adopted.add(1);
            for flow in [&connection.to_backend, &connection.to_client] {
                counters.bytes_pending.add(flow.held() as u64);
                if flow.pipe.is_some() {
                    counters.pipes_lent.add(1);
                    self.tools.bench.pipes.note_arrived();
                }
            }
        }
        for connection in connections {
            self.insert(connection);
        }
        self.renew_farewell();
    }

    /// Why connections are still here, by reason.
    pub(super) fn kept(&self) -> BTreeMap<String, u64> {
        let mut kept = BTreeMap::new();
        for (_, connection) in &self.connections {
            let why = match (&connection.refused, record::movable(connection)) {
                (Some(reason), _) => format!("refused: {reason}"),
                (None, Err(awaited)) => format!("waits for {awaited}"),
                (None, Ok(())) => NOT_ASKED.to_owned(),
            };
            *kept.entry(why).or_default() += 1;
        }
        kept
    }

    /// Epoll reports at once what its sockets are ready for, so its first turn comes with the next round.
    fn insert(&mut self, mut connection: Boxed) {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        connection.generation = generation;
        connection.queued = false;
        let known_side =
            |side: &mut crate::connection::Side| (side.readable, side.writable) = (false, false);
        known_side(&mut connection.client);
        connection
            .link
            .iter_mut()
            .for_each(|link| known_side(&mut link.side));
        let entry = self.connections.vacant_entry();
        let slot = Slot {
            index: entry.key(),
            generation,
        };
        let connection = entry.insert(connection);
        let poller = &self.tools.poller;
        let client = poller.watch_connection(&connection.client.socket, Token::Client(slot));
        let backend = connection.link.iter().map(|link| &link.side.socket);
        let backend = backend.map(|socket| poller.watch_connection(socket, Token::Backend(slot)));
        let outcome = match backend.fold(client, Result::and) {
            Ok(()) => Outcome::Wait,
            Err(_) => Outcome::End(End::HostExhausted),
        };
        self.settle(slot, outcome);
    }

    /// A drain that had nobody left has somebody again.
    fn renew_farewell(&mut self) {
        if let (None, Some(until)) = (self.farewell, self.drained_by)
            && !self.connections.is_empty()
        {
            self.farewell = Some(Farewell::new(Instant::now(), until));
        }
    }
}
