//! A relaying connection as it travels to another process, and back.
//!
//! ```text
//!   descriptors  client, backend, then read and write end of each direction's pipe, to the backend first
//!   held bytes   those to the backend, then those to the client
//! ```
//!
//! Room  the form of the record; no system call but those that look at what arrived.
//! In    a connection between two turns; or a record with its descriptors, in which nothing is believed.
//! Out   the same connection.
//! Holds unknown fields are ignored, missing ones have a meaning; a reader that must know more than it does refuses.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use dataplane::backend::Lease;
use handoff::passage::{Item, RECORD_FORM};
use rustix::net::{AddressFamily, SocketType, sockopt};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::flow::{Flow, Mode, Source};
use super::{Connection, Link, Parties, Side, Stage, Times};
use crate::pipes::Pipe;
use crate::shard::service::Admission;

/// What travels of a connection beside its descriptors and held bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The lowest form that a reader must know.
    form: u16,
    pub(crate) listener: String,
    pub(crate) upstream: String,
    /// The backend's id and its address as written.
    pub(crate) backend: String,
    pub(crate) label: String,
    client: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    destination: Option<SocketAddr>,
    times: Ages,
    to_backend: Direction,
    to_client: Direction,
}

/// How long ago, in microseconds: two processes share no clock that can be written down.
#[derive(Debug, Serialize, Deserialize)]
struct Ages {
    accepted: u64,
    connected: u64,
    active: u64,
    /// The backend socket has its keepalive options.
    #[serde(default)]
    settled: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Direction {
    /// Written to the destination so far.
    bytes: u64,
    /// Of the held bytes, how many are of this direction.
    #[serde(skip_serializing_if = "is_zero")]
    kept: u64,
    /// Bytes in the pipe that travels along, if it does.
    #[serde(skip_serializing_if = "is_zero")]
    piped: u64,
    bulk: bool,
    /// The source said end of file, and the destination was told so.
    ended: bool,
    told: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Whether it can be handed over now; `Err`: not yet, or not any more, and what it waits for.
pub(crate) fn movable(connection: &Connection) -> Result<(), &'static str> {
    let Some(link) = connection.link.as_ref() else {
        return Err(waits_for(connection.stage));
    };
    if connection.stage != Stage::Relaying {
        return Err(waits_for(connection.stage));
    }
    let is_whole = |flow: &Flow| !flow.broken && flow.source != Source::Reset;
    let fine = !connection.client.failed
        && !link.side.failed
        && is_whole(&connection.to_backend)
        && is_whole(&connection.to_client);
    if fine { Ok(()) } else { Err("its end") }
}

fn waits_for(stage: Stage) -> &'static str {
    match stage {
        Stage::Header => "a PROXY header",
        Stage::Connecting | Stage::Relaying => "a backend",
    }
}

/// How many descriptors travel with it.
pub(crate) fn descriptors(connection: &Connection) -> usize {
    let pipes = [&connection.to_backend, &connection.to_client];
    let pipes = pipes.iter().filter(|flow| flow.pipe.is_some()).count();
    2 + 2 * pipes
}

/// What travels of a [`movable`] connection; its owner keeps it until it was acknowledged.
pub(crate) fn pack(connection: &Connection, now: Instant) -> Item<'_> {
    let times = &connection.times;
    let ago = |moment: Instant| microseconds(now.saturating_duration_since(moment));
    let settings = connection.admission.service().settings();
    let backend = connection.link.as_ref().map(|link| link.lease.backend());
    let record = Record {
        form: RECORD_FORM,
        listener: settings.name.clone(),
        upstream: settings.upstream.name().to_owned(),
        backend: backend
            .map(|backend| backend.id().to_owned())
            .unwrap_or_default(),
        label: backend
            .map(|backend| backend.label().to_owned())
            .unwrap_or_default(),
        client: connection.parties.client,
        destination: connection.parties.destination,
        times: Ages {
            accepted: ago(times.accepted),
            connected: ago(times.connected.unwrap_or(times.accepted)),
            active: ago(times.last_activity),
            settled: times.settled,
        },
        to_backend: Direction::of(&connection.to_backend),
        to_client: Direction::of(&connection.to_client),
    };
    let mut descriptors: Vec<BorrowedFd<'_>> = vec![connection.client.socket.as_fd()];
    descriptors.extend(connection.link.iter().map(|link| link.side.socket.as_fd()));
    let mut held = Vec::new();
    for flow in [&connection.to_backend, &connection.to_client] {
        descriptors.extend(flow.pipe.iter().flat_map(Pipe::ends));
        held.extend_from_slice(flow.kept());
    }
    Item {
        record: to_raw_value(&record).unwrap_or_default(),
        descriptors,
        held,
    }
}

impl Direction {
    fn of(flow: &Flow) -> Self {
        Self {
            bytes: flow.bytes,
            kept: u64::try_from(flow.kept().len()).unwrap_or(u64::MAX),
            piped: flow
                .pipe
                .as_ref()
                .map_or(0, |pipe| u64::try_from(pipe.held()).unwrap_or(u64::MAX)),
            bulk: flow.mode == Mode::Splice,
            ended: flow.source == Source::Ended,
            told: flow.told,
        }
    }

    fn unpack(
        self,
        held: &mut Vec<u8>,
        descriptors: &mut std::vec::IntoIter<OwnedFd>,
    ) -> Result<Flow, String> {
        let mut flow = Flow::new();
        // What a peer counts is added to: it must not overflow.
        flow.bytes = self.bytes.min(u64::MAX / 2);
        flow.told = self.told;
        if self.ended {
            flow.source = Source::Ended;
        }
        if self.bulk {
            flow.mode = Mode::Splice;
        }
        let kept = usize::try_from(self.kept).unwrap_or(usize::MAX);
        if kept > held.len() {
            return Err("it announces more held bytes than arrived".to_owned());
        }
        let later = held.split_off(kept);
        flow.keep(&std::mem::replace(held, later));
        if self.piped > 0 {
            let (Some(read_end), Some(write_end)) = (descriptors.next(), descriptors.next()) else {
                return Err("its pipe did not arrive".to_owned());
            };
            flow.pipe = Some(Pipe::arrived(read_end, write_end, self.piped)?);
        }
        Ok(flow)
    }
}

/// A record of this build or of one beside it.
///
/// # Errors
/// Why it cannot be served here.
pub(crate) fn read(record: &RawValue) -> Result<Record, String> {
    let record: Record = serde_json::from_str(record.get())
        .map_err(|error| format!("its record cannot be read: {error}"))?;
    if record.form > RECORD_FORM {
        return Err(format!(
            "its record has form {}, this version reads up to {RECORD_FORM}",
            record.form
        ));
    }
    Ok(record)
}

/// The connection of a record; it is registered nowhere.
///
/// # Errors
/// What arrived is not what the record says.
pub(crate) fn unpack(
    record: Record,
    arrived: (Vec<OwnedFd>, Vec<u8>),
    (admission, lease): (Admission, Lease),
    now: Instant,
) -> Result<Connection, String> {
    let (descriptors, mut held) = arrived;
    let mut descriptors = descriptors.into_iter();
    let (Some(client), Some(backend)) = (descriptors.next(), descriptors.next()) else {
        return Err("its sockets did not arrive".to_owned());
    };
    for socket in [&client, &backend] {
        check_socket(socket)?;
    }
    let to_backend = record.to_backend.unpack(&mut held, &mut descriptors)?;
    let to_client = record.to_client.unpack(&mut held, &mut descriptors)?;
    if !held.is_empty() || descriptors.next().is_some() {
        return Err("more arrived than its record says".to_owned());
    }
    let before = |ago: u64| now.checked_sub(Duration::from_micros(ago)).unwrap_or(now);
    Ok(Connection {
        generation: 0,
        admission,
        stage: Stage::Relaying,
        // Nothing is known of them: registering them with epoll tells.
        client: Side::new(client, false),
        link: Some(Link {
            side: Side::new(backend, false),
            lease,
            started: before(record.times.connected),
            connect_by: now,
        }),
        to_backend,
        to_client,
        parties: Parties {
            client: record.client,
            destination: record.destination,
        },
        tried: Vec::new(),
        times: Times {
            accepted: before(record.times.accepted),
            connected: Some(before(record.times.connected)),
            last_activity: before(record.times.active),
            due_entry: None,
            seek_again: None,
            settled: record.times.settled,
        },
        queued: false,
        refused: None,
    })
}

fn check_socket(socket: &OwnedFd) -> Result<(), String> {
    let is_stream = sockopt::socket_type(socket) == Ok(SocketType::STREAM);
    let family = sockopt::socket_domain(socket);
    let is_internet = matches!(family, Ok(AddressFamily::INET | AddressFamily::INET6));
    if is_stream && is_internet {
        Ok(())
    } else {
        Err("a descriptor is no TCP socket".to_owned())
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
