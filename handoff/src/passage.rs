//! The way of live connections from one worker to another: a socket pair of their own, which the supervisor makes and
//! never reads.
//!
//! ```text
//!   giver                                     taker
//!     │◀──────────────── Ready (room) ───────────│
//!     │  deregisters whole connections           │
//!     │──── Offer (records, descriptors) ───────▶│  builds them, serves none
//!     │◀─────────────── Taken (refused, room) ───│  serves them from now on
//!     │  closes its own copies                   │
//!     │──── Over ───────────────────────────────▶│
//! ```
//!
//! Room  the conversation; what a record means is the service's business.
//! In    connections as records with descriptors and held bytes.
//! Out   for each of them one [`Fate`], which both sides agree on.
//! Holds at no time do two processes read one socket. The kernel is the arbiter: an answer that was queued before the
//!       giver [ends](crate::link::Link::end) the conversation counts, and none can be queued after it, so a giver that
//!       waited too long knows which connections are still its own, and a taker whose answer failed serves none.

use std::os::fd::OwnedFd;

use serde_json::value::RawValue;

pub use giver::{Fate, Giver, Item};
pub use taker::{Batch, Delivery, Taker};

#[cfg(debug_assertions)]
mod faults;
mod giver;
mod message;
mod taker;

/// The form of records that this build writes, and the highest that it reads. A record says which form a reader must know.
pub const RECORD_FORM: u16 = 1;

/// A connection that has arrived and is served by nobody yet.
#[derive(Debug)]
pub struct Arrived {
    /// In a form of the service's own.
    pub record: Box<RawValue>,
    /// As many as its giver sent with it.
    pub descriptors: Vec<OwnedFd>,
    /// Bytes that were read and not written yet.
    pub held: Vec<u8>,
}

#[cfg(test)]
mod tests;
