//! The handoff: what a supervisor and a worker say to each other on one host, and the descriptors that
//! travel with it.
//!
//! ```text
//!   supervisor                                   worker
//!      │  spawn, one end of a socket pair as stdin │
//!      │◀──────────────────────────── Hello ───────│  who I am, protocols I speak
//!      │──── Welcome (protocol, generation) ──────▶│  … or Refuse
//!      │──── Listeners 1/n + descriptors ─────────▶│
//!      │◀──────────────────── ListenersAck 1 ──────│  counted; a short batch is refused
//!      │◀────────── Bound 1/m + descriptors ───────│  what this worker had to bind itself
//!      │──── BoundAck 1 ──────────────────────────▶│
//!      │◀──────────────────── Ready (unclaimed) ───│  nothing is accepted yet
//!      │──── State + descriptor ──────────────────▶│  what the incumbent answered to ShareState, if anything
//!      │──── Serve + connection ──────────────────▶│  a self-test: as if it had been accepted there
//!      │──── Accept (share) ──────────────────────▶│  or Resume: everything
//!      │◀──────────────────── Accepting (share) ───│
//!      │◀──────────────────── Stats, each second ──│
//!      │──── TicketKeys ──────────────────────────▶│  at each rotation
//!      │──── ShareState ──────────────────────────▶│  a successor is ready
//!      │◀───────────────────── State + descriptor ─│  or without one: there is none
//!      │──── Pause ───────────────────────────────▶│  parked: holds duplicates, accepts nothing
//!      │◀──────────────────── Accepting (none) ────│
//!      │──── Give + passage ──────────────────────▶│  its live connections go to the successor, which was told to Take
//!      │◀────────────────────────────── Moved ─────│
//!      │──── Drain (within) ──────────────────────▶│
//!      │◀──────────────────── Drained ─────────────│  and exits
//! ```
//!
//! Level 1, for programs that know nothing of this: [`activation`] (LISTEN_FDS) and [`notify`]
//! (NOTIFY_SOCKET), as systemd defines them.
//!
//! Holds: no clock is asked here except to bound a read or a write; a peer's bytes never panic; a
//! descriptor always has exactly one owner (`OwnedFd`).

pub mod activation;
mod batches;
pub mod codec;
pub mod held;
pub mod latency;
pub mod link;
mod listeners;
pub mod message;
pub mod notify;
pub mod passage;
mod sealed;
mod share;
pub mod supervisor;
pub mod supervisor_state;
mod ticket_keys;
pub mod version;
pub mod wants;
pub mod worker;
pub mod worker_state;

pub use batches::{BATCH_SOCKETS_MAX, BatchError, Collector, batches};
pub use listeners::{ListenerName, ListenerNameError, Listeners};
pub use sealed::{STATE_BYTES_MAX, Sealed, SealedError};
pub use share::{Share, ShareError};
pub use ticket_keys::{TICKET_KEY_BYTES, TicketKeys};
