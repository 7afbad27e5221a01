//! A connection as a plain value: two sockets, what is on its way between them, and when it must end.
//!
//! Room  state only. It borrows nothing from its shard, so that between two turns it can be taken out and
//!       handed to another process: sockets, held bytes, ends and times are all there is to it.
//! In    an accepted socket; what `shard/turn` and `relay` learn about it.
//! Out   the same, one turn later.
//! Holds the backend's lease and the listener's admission live exactly as long as the connection.

pub(crate) mod deadline;
pub(crate) mod flow;
pub(crate) mod record;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::backend::{Backend, Lease};
use dataplane::proxy_protocol::Header;

use crate::shard::poll::Readiness;
use crate::shard::service::Admission;
use flow::{Flow, Source};

/// One of the two sockets and what epoll said about it.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) socket: OwnedFd,
    /// A read may return something.
    pub(crate) readable: bool,
    /// A write may be taken.
    pub(crate) writable: bool,
    /// The peer has ended or was reset: reads go on until the end of file, for no further edge will come.
    pub(crate) hung_up: bool,
    /// The socket has an error: no write can succeed any more.
    pub(crate) failed: bool,
}

impl Side {
    /// A fresh socket: nothing known to be readable.
    pub(crate) fn new(socket: OwnedFd, writable: bool) -> Self {
        Self {
            socket,
            readable: false,
            writable,
            hung_up: false,
            failed: false,
        }
    }

    /// Adds what epoll reported; only reads and writes take flags away.
    pub(crate) fn notice(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable;
        self.writable |= readiness.writable;
        self.hung_up |= readiness.hung_up;
        self.failed |= readiness.failed;
    }
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    /// The PROXY header is not complete yet; there is no backend.
    Header,
    /// A backend's handshake is under way, or waits for a descriptor; the client is not read.
    Connecting,
    /// Bytes pass.
    Relaying,
}

/// The backend's side: its socket and the right to be counted there.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) side: Side,
    pub(crate) lease: Lease,
    pub(crate) started: Instant,
    /// The connect deadline.
    pub(crate) connect_by: Instant,
}

/// Who speaks with whom, as PROXY headers and balancing see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parties {
    /// The client: the peer of the accepted socket, or whom a trusted peer's PROXY header names.
    pub(crate) client: SocketAddr,
    /// What the client connected to, if a PROXY header named it; else the accepted socket's own address.
    pub(crate) destination: Option<SocketAddr>,
}

impl Parties {
    /// Believes a trusted peer's header. One that names nobody (v1 UNKNOWN, v2 LOCAL) changes nothing: the
    /// peer speaks for itself, as its health checks do.
    pub(crate) fn learn(&mut self, header: &Header) {
        if let Some((client, destination)) = header.addresses {
            self.client = client;
            self.destination = Some(destination);
        }
    }
}

/// The times of a connection. `due_entry` is the earliest live entry in the shard's wheel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) accepted: Instant,
    /// When relaying began.
    pub(crate) connected: Option<Instant>,
    /// The last turn in which a byte or an end moved.
    pub(crate) last_activity: Instant,
    pub(crate) due_entry: Option<Instant>,
    /// When a backend is sought again, because this host had no descriptor or port for one.
    pub(crate) seek_again: Option<Instant>,
    /// The backend socket has its keepalive options; see [`deadline::SETTLE_AFTER`].
    pub(crate) settled: bool,
}

/// One client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Tells this connection from earlier ones in the same slot of its shard.
    pub(crate) generation: u32,
    pub(crate) admission: Admission,
    pub(crate) stage: Stage,
    pub(crate) client: Side,
    pub(crate) link: Option<Link>,
    pub(crate) to_backend: Flow,
    pub(crate) to_client: Flow,
    pub(crate) parties: Parties,
    /// Backends that were tried and failed.
    pub(crate) tried: Vec<Arc<Backend>>,
    pub(crate) times: Times,
    /// It is in the shard's run queue.
    pub(crate) queued: bool,
    /// Another process would not have it, and why; it is not offered again.
    pub(crate) refused: Option<Box<str>>,
}

/// As a shard's table holds it: it goes from one to the next without being copied.
pub(crate) type Boxed = Box<Connection>;

impl Connection {
    pub(crate) fn new(
        generation: u32,
        admission: Admission,
        socket: OwnedFd,
        peer: SocketAddr,
        now: Instant,
    ) -> Self {
        let wants_header = admission.service().settings().proxy_protocol_in;
        Self {
            generation,
            admission,
            stage: if wants_header {
                Stage::Header
            } else {
                Stage::Connecting
            },
            client: Side::new(socket, true),
            link: None,
            to_backend: Flow::new(),
            to_client: Flow::new(),
            parties: Parties {
                client: peer,
                destination: None,
            },
            tried: Vec::new(),
            times: Times {
                accepted: now,
                connected: None,
                last_activity: now,
                due_entry: None,
                seek_again: None,
                settled: false,
            },
            queued: false,
            refused: None,
        }
    }

    /// One side has ended and the other has not.
    pub(crate) fn is_half_closed(&self) -> bool {
        [&self.to_backend, &self.to_client]
            .iter()
            .any(|flow| flow.broken || flow.source != Source::Open)
    }

    /// Time since relaying began, if it did.
    pub(crate) fn relayed_for(&self, now: Instant) -> Option<Duration> {
        self.times
            .connected
            .map(|connected| now.saturating_duration_since(connected))
    }
}
