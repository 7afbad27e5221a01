//! The messages of the handoff and their limits.
//!
//! Room  values only: no bytes, no descriptors, no sockets.
//! Holds a field that a peer does not know is ignored, a kind that it does not know becomes `Unknown`;
//!       a field may be added, never given another meaning (that takes a new protocol number).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::listeners::ListenerName;
use crate::share::Share;
use crate::ticket_keys::TicketKeys;
use crate::version::ProtocolRange;

/// What a supervisor says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToWorker {
    /// Answer to `Hello`: the conversation goes on.
    Welcome(Welcome),
    /// Answer to `Hello`: it does not, and why.
    Refuse { reason: String },
    /// One batch of listeners; its descriptors travel in the same frame, in the same order.
    Listeners(Batch),
    /// A batch that the worker bound has arrived whole.
    BoundAck { batch: u32 },
    /// Accept on every claimed listener.
    Resume,
    /// Accept on this part of every claimed listener's group and on no other (since protocol 2).
    Accept { share: Share },
    /// Serve this frame's one descriptor, a connection, as if it had been accepted on that listener (since
    /// protocol 2): a self-test, which no client takes part in.
    Serve { listener: ListenerName },
    /// Stop accepting, keep the descriptors and every connection.
    Pause,
    /// Stop accepting for good, finish what is held, exit.
    Drain { within_ms: u64 },
    /// Read the configuration again, all or nothing.
    Reload,
    /// Exit without waiting.
    Shutdown,
    /// The keys of TLS session tickets changed.
    TicketKeys { keys: TicketKeys },
    /// A successor is ready: answer with `State`.
    ShareState,
    /// Give this part of the connections, in percent, to whoever is at the far end of the [`passage`](crate::passage) in this
    /// frame's one descriptor; answered by `Moved`.
    Give { percent: u8 },
    /// Take connections from whoever is at the far end of the passage in this frame's one descriptor.
    Take,
    /// What the incumbent knows; so many bytes in the sealed memory of this frame's one descriptor.
    State { bytes: u64 },
    /// A kind from a newer supervisor: ignored.
    #[serde(other)]
    Unknown,
}

/// What a worker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToSupervisor {
    /// First word of every conversation.
    Hello(Hello),
    /// So many descriptors of that batch arrived.
    ListenersAck { batch: u32, received: u32 },
    /// One batch of listeners that the worker holds and the supervisor does not.
    Bound(Batch),
    /// Listeners that the worker no longer wants (configuration reload).
    Released { names: Vec<ListenerName> },
    /// Everything is in place; waits for `Resume`.
    Ready {
        unclaimed: Vec<ListenerName>,
        /// What a supervisor can try before clients come; an older worker has none.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        self_tests: Vec<SelfTest>,
    },
    /// Cannot start, and why.
    Failed { reason: String },
    /// Answer to `Resume`, `Accept` (true) and `Pause` (false), once it is so.
    Accepting {
        on: bool,
        /// An older worker accepts on everything or on nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        share: Option<Share>,
    },
    /// Once a second; also the sign of life.
    Stats(Stats),
    /// Answer to `Reload`; no mistakes means that the new configuration runs.
    Reloaded { mistakes: Vec<String> },
    /// Answer to `ShareState`: so many bytes in the sealed memory of this frame's one descriptor; 0 without
    /// a descriptor: there is none, and perhaps why.
    State {
        bytes: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        missing: Option<String>,
    },
    /// Answer to `Give`, now and then while connections move, and when no more will.
    Moved(Moved),
    /// Nothing is held any more; the worker exits.
    Drained {
        finished: u64,
        cut: u64,
        /// Connections that another process serves now.
        #[serde(default, skip_serializing_if = "is_zero")]
        moved: u64,
    },
    /// A kind from a newer worker: ignored.
    #[serde(other)]
    Unknown,
}

/// One way to try a worker through [`ToWorker::Serve`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTest {
    pub listener: ListenerName,
    pub kind: SelfTestKind,
    /// The listener expects a PROXY header first.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Names to ask for: of certificates, and of the host of a request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The path to ask for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
}

/// What is spoken on the connection of a self-test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SelfTestKind {
    /// The admin listener: a healthy worker answers 200.
    Health,
    /// Bytes of some protocol: the connection must stay open, or be answered.
    Tcp,
    /// A request in clear.
    Http,
    /// A TLS handshake for each name, and a request.
    Https,
    /// From a newer worker: left out.
    #[serde(other)]
    Unknown,
}

/// How far a move of connections has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Moved {
    /// No more will move.
    pub over: bool,
    /// It is over before its time: the other process is gone, or did not answer.
    #[serde(skip_serializing_if = "is_zero")]
    pub broken: bool,
    /// Connections that the other process serves now.
    pub moved: u64,
    /// Those that stay, by reason; known when it is over.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub kept: BTreeMap<String, u64>,
    /// How long it has taken, in microseconds.
    pub took_us: u64,
    /// The longest time that a connection was without anybody who serves it, in microseconds.
    pub stall_max_us: u64,
}

/// Who a worker is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: ProtocolRange,
    /// "load-balancer", "edge-proxy", …: a successor of another service is refused.
    pub service: String,
    pub version: String,
    pub pid: u32,
    /// Answers `ShareState`; older workers do not.
    #[serde(default)]
    pub shares_state: bool,
    /// The highest [form](crate::passage::RECORD_FORM) of connection records that it reads; 0: it neither gives nor takes
    /// connections, as older workers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub moves: u16,
    /// Present when the worker comes back after its supervisor died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returning: Option<Returning>,
}

/// A living worker that looks for its next supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returning {
    pub generation: u64,
    /// The token of its `Welcome`: proof of identity beside the peer credentials.
    pub token: String,
    pub posture: Posture,
    /// The keys it works with; a supervisor that has none yet goes on with them.
    #[serde(default, skip_serializing_if = "TicketKeys::is_empty")]
    pub ticket_keys: TicketKeys,
}

/// What a worker does with its listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Posture {
    Standby,
    Accepting,
    Parked,
    Draining,
    /// From a newer worker; treated as parked.
    #[serde(other)]
    Unknown,
}

/// The supervisor's first answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    pub protocol: u16,
    pub generation: u64,
    /// To be shown when returning to a later supervisor.
    pub token: String,
    /// Where a later supervisor of this service listens; empty: nowhere.
    #[serde(default)]
    pub rendezvous: String,
    /// How many `Listeners` batches follow.
    pub batches: u32,
    /// The keys of TLS session tickets now; `TicketKeys` follows when they change.
    #[serde(default, skip_serializing_if = "TicketKeys::is_empty")]
    pub ticket_keys: TicketKeys,
}

/// A part of a set of listeners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// 1 ..= `of`.
    pub batch: u32,
    pub of: u32,
    /// One entry for each descriptor of this frame, in order.
    pub sockets: Vec<Member>,
}

/// One socket of a listener's group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: ListenerName,
    pub member: u16,
}

/// A worker's numbers, once a second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Connections held now.
    pub connections: u64,
    /// Connections accepted since the worker started.
    pub accepted_total: u64,
    pub errors_total: u64,
    pub bytes_total: u64,
    pub healthy_backends: u64,
    pub total_backends: u64,
    /// Requests (connections, where there are none) that were answered or lost since the worker started.
    pub requests_total: u64,
    /// Of them, those that the worker or what stands behind it failed: 5xx, or no answer.
    pub failed_total: u64,
    /// How long answers took since the worker started, by [`latency`](crate::latency) bucket; zeros at the end are
    /// left out. Empty: not measured.
    pub latency: Vec<u64>,
    /// One line for `supervisor status`.
    pub status: String,
    /// While it drains: what it still holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<crate::held::Held>,
}

/// What an older peer would not say either is left out.
fn is_zero<N: Default + PartialEq>(number: &N) -> bool {
    *number == N::default()
}
