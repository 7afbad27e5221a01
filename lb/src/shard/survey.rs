//! What a shard's connections wait for, in words.
//!
//! Room  pure; asked for once a second while the process drains, never otherwise.

use std::time::Instant;

use handoff::held::Held;
use slab::Slab;

use crate::connection::{Connection, Stage};

/// Every connection, by age and by what it waits for.
pub(super) fn of(connections: &Slab<Box<Connection>>, now: Instant) -> Held {
    let mut held = Held::default();
    for (_, connection) in connections {
        let age = now.saturating_duration_since(connection.times.accepted);
        held.note(age, waits_for(connection));
    }
    held
}

fn waits_for(connection: &Connection) -> &'static str {
    match connection.stage {
        Stage::Header => "a PROXY header",
        Stage::Connecting => "a backend",
        Stage::Relaying if connection.to_client.held() > 0 => "the client to read",
        Stage::Relaying if connection.to_backend.held() > 0 => "the backend to read",
        Stage::Relaying if connection.is_half_closed() => "the other side's end",
        Stage::Relaying => "bytes",
    }
}
