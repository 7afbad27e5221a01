//! Connections on their way to another process, and those that arrive from one: plain byte streams in clear.
//!
//! ```text
//!   between two HTTP/1.1 requests, or a tunnel ──freeze──▶ Live ──record, sockets, held bytes──▶ Live ──▶ served on
//!   descriptors  client, then the tunnel's backend
//!   held bytes   those to the backend, then those to the client
//! ```
//!
//! Room  the values and the form of their record; taking them out of a worker and into one is `worker/moving`'s.
//! In    a connection whose task has ended; or a record with its descriptors, in which nothing is believed.
//! Holds what speaks TLS or HTTP/2 is never here: its state is not a plain value yet. The seam for it is
//!       `Stream::Tls`, whose rustls connection is reachable at an idle point (docs/adr/0007-edge-engine.md).

mod record;

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use dataplane::backend::Lease;
use handoff::passage::{Arrived, Item};

use crate::policy::Client;
use crate::request::AccountLeft;
use crate::site::Site;

/// A connection out of its worker.
#[derive(Debug)]
pub struct FrozenConnection {
    pub(crate) worker: usize,
    pub(crate) live: Live,
}

/// A connection from another process that nobody serves yet.
#[derive(Debug)]
pub struct ArrivedConnection(pub(crate) Live);

/// Everything that there is of a connection.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) socket: OwnedFd,
    pub(crate) listener: String,
    pub(crate) client: Client,
    pub(crate) began: Instant,
    /// Requests begun.
    pub(crate) served: u64,
    /// HTTP/2 may begin here.
    pub(crate) sniffs: bool,
    /// What is left of the wait it was in, in milliseconds.
    pub(crate) left_ms: u64,
    /// Bytes of the client that were read and not written yet.
    pub(crate) input: Vec<u8>,
    pub(crate) tunnel: Option<Box<LiveTunnel>>,
    /// Another process would not have it, and why.
    pub(crate) refused: Option<Box<str>>,
}

/// The far side of a tunnel.
#[derive(Debug)]
pub(crate) struct LiveTunnel {
    pub(crate) socket: OwnedFd,
    pub(crate) upstream: String,
    pub(crate) lease: Lease,
    /// Bytes of the backend that were read and not written yet.
    pub(crate) input: Vec<u8>,
    /// The backend, and the client, were told that the other side ended.
    pub(crate) is_shut: (bool, bool),
    /// What the client was told.
    pub(crate) status: u16,
    pub(crate) account: AccountLeft,
}

impl FrozenConnection {
    /// What travels of it.
    #[must_use]
    pub fn item(&self) -> Item<'_> {
        let live = &self.live;
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![live.socket.as_fd()];
        let mut held = live.input.clone();
        if let Some(tunnel) = &live.tunnel {
            descriptors.push(tunnel.socket.as_fd());
            held.extend_from_slice(&tunnel.input);
        }
        Item {
            record: record::write(live, Instant::now()),
            descriptors,
            held,
        }
    }
}

impl ArrivedConnection {
    /// Builds a connection of what arrived.
    ///
    /// # Errors
    /// Why it cannot be served under this configuration.
    pub fn prepare(arrived: Arrived, site: &Site) -> Result<Self, String> {
        record::read(arrived, site, Instant::now()).map(Self)
    }
}
