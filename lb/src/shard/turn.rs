//! What one connection does next: a bounded amount of work, then the shard looks after the others.
//!
//! Room  the steps of a connection's life, and the rules for its end. Bytes move in `relay`.
//! In    a connection whose flags epoll has set.
//! Out   [`Outcome`]: wait for epoll, come again, or end.
//! Holds an end of file reaches the other side after all bytes before it; a reset reaches it as a reset.
//!
//! ```text
//!   Header ──complete──> Connecting ──connected──> Relaying ──both sides over──> end
//!      │ bad, late            │ refused, late: another backend    │ reset, timeout: end by reset
//!      └──────────────────────┴── nobody left ────────────────────┘
//! ```

use dataplane::proxy_protocol::{self, Parsed};
use rustix::io::Errno;

use super::poll::Slot;
use super::tools::Tools;
use crate::connect;
use crate::connection::flow::{Flow, Source};
use crate::connection::{Connection, Link, Side, Stage};
use crate::relay;
use crate::socket;
use crate::totals::End;

/// What the shard does with the connection now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// Wait for epoll or a deadline.
    Wait,
    /// There is more to do that epoll will not report again.
    Again,
    /// It is over.
    End(End),
}

/// Gives the connection its turn.
pub(super) fn turn(connection: &mut Connection, slot: Slot, tools: &mut Tools) -> Outcome {
    match connection.stage {
        Stage::Header => header(connection, slot, tools),
        Stage::Connecting => connecting(connection, slot, tools),
        Stage::Relaying => relaying(connection, tools),
    }
}

/// Looks for a backend: the first step of a connection without a PROXY header, the second of one with.
pub(super) fn seek_backend(connection: &mut Connection, slot: Slot, tools: &mut Tools) -> Outcome {
    match connect::try_next(connection, slot, tools) {
        Ok(()) => Outcome::Wait,
        Err(end) => Outcome::End(end),
    }
}

/// The attempt under way is given up for another backend.
pub(super) fn seek_another(connection: &mut Connection, slot: Slot, tools: &mut Tools) -> Outcome {
    match connect::try_another(connection, slot, tools) {
        Ok(()) => Outcome::Wait,
        Err(end) => Outcome::End(end),
    }
}

/// Collects the PROXY header; what came behind it waits for the backend.
fn header(connection: &mut Connection, slot: Slot, tools: &mut Tools) -> Outcome {
    while connection.client.readable {
        let scratch = &mut tools.bench.scratch;
        let count = match socket::receive(&connection.client.socket, scratch) {
            Ok(0) => return Outcome::End(End::BadProxyHeader),
            Ok(count) => count,
            Err(Errno::AGAIN) => {
                connection.client.readable = false;
                return Outcome::Wait;
            }
            Err(_) => return Outcome::End(End::ClientReset),
        };
        let bytes = scratch.get(..count).unwrap_or_default();
        tools.bench.counters.bytes_pending.add(count as u64);
        connection.to_backend.keep(bytes);
        match proxy_protocol::parse(connection.to_backend.kept()) {
            Ok(Parsed::Incomplete) => {}
            Ok(Parsed::Complete { header, length }) => {
                tools.bench.counters.bytes_pending.subtract(length as u64);
                connection.to_backend.release(length);
                connection.parties.learn(&header);
                return seek_backend(connection, slot, tools);
            }
            Err(_) => return Outcome::End(End::BadProxyHeader),
        }
    }
    Outcome::Wait
}

/// Looks whether the backend has answered; the client can only leave.
fn connecting(connection: &mut Connection, slot: Slot, tools: &mut Tools) -> Outcome {
    if connection.client.failed {
        return Outcome::End(End::ClientReset);
    }
    let Some(link) = connection.link.as_ref() else {
        return Outcome::Wait; // for a descriptor
    };
    if link.side.failed {
        return seek_another(connection, slot, tools);
    }
    if !link.side.writable {
        return Outcome::Wait;
    }
    connected(connection, tools);
    relaying(connection, tools)
}

/// The backend has answered: its PROXY header goes before the client's first byte.
fn connected(connection: &mut Connection, tools: &mut Tools) {
    let upstream = connect::upstream_of(connection);
    if let Some(link) = connection.link.as_ref() {
        let took = tools.now.saturating_duration_since(link.started);
        tools.bench.counters.connected(took);
        upstream.connect_succeeded(link.lease.backend(), tools.now);
    }
    connection.stage = Stage::Relaying;
    connection.times.connected = Some(tools.now);
    connection.times.last_activity = tools.now;
    // Nobody is tried again for this connection: what it holds of the others can go.
    connection.tried = Vec::new();
    let Some(version) = upstream.settings().proxy_protocol_out else {
        return;
    };
    let client = connection.parties.client;
    let named = connection.parties.destination;
    let destination = named.or_else(|| socket::local_address(&connection.client.socket));
    let header = proxy_protocol::encode(version, client, destination.unwrap_or(client));
    let behind = connection.to_backend.take_kept();
    tools.bench.counters.bytes_pending.add(header.len() as u64);
    connection.to_backend.keep(&header);
    connection.to_backend.keep(&behind);
}

/// Moves bytes in both directions, then passes on what ended.
fn relaying(connection: &mut Connection, tools: &mut Tools) -> Outcome {
    let Connection {
        client,
        link,
        to_backend,
        to_client,
        times,
        ..
    } = connection;
    let Some(Link { side: backend, .. }) = link.as_mut() else {
        return Outcome::End(End::InternalError);
    };
    let up = relay::pump(to_backend, client, backend, &mut tools.bench);
    let down = relay::pump(to_client, backend, client, &mut tools.bench);
    tools.bench.counters.bytes_to_backends.add(up.bytes);
    tools.bench.counters.bytes_to_clients.add(down.bytes);
    if up.moved || down.moved {
        times.last_activity = tools.now;
    }
    if let Some(end) = verdict(to_backend, to_client, client, backend) {
        return Outcome::End(end);
    }
    pass_end_on(to_backend, backend);
    pass_end_on(to_client, client);
    let again = up.more
        || down.more
        || has_last_words(to_backend, client, backend)
        || has_last_words(to_client, backend, client);
    if again { Outcome::Again } else { Outcome::Wait }
}

/// A side that broke in this turn may have left bytes, and no edge will tell of them.
fn has_last_words(flow: &Flow, from: &Side, to: &Side) -> bool {
    from.failed && from.readable && to.writable && !flow.is_over()
}

/// How the connection ends, if it does now.
fn verdict(to_backend: &Flow, to_client: &Flow, client: &Side, backend: &Side) -> Option<End> {
    // A side that was reset has nothing more to say, and nothing reaches it: the other is told at once.
    if to_backend.source == Source::Reset {
        return Some(End::ClientReset);
    }
    if to_client.source == Source::Reset {
        return Some(End::BackendReset);
    }
    if !(to_backend.is_over() && to_client.is_over()) {
        return None;
    }
    Some(match (client.failed, backend.failed) {
        (_, true) => End::BackendReset,
        (true, false) => End::ClientReset,
        (false, false) => End::Finished,
    })
}

/// After the last byte of a direction: the destination hears the end of file, and may go on sending.
fn pass_end_on(flow: &mut Flow, to: &Side) {
    if flow.source == Source::Ended && flow.is_over() && !flow.broken && !flow.told {
        flow.told = true;
        // Refused when the destination was reset meanwhile; its own direction tells.
        let _ = socket::finish_writing(&to.socket);
    }
}
