//! What is said on a passage, and its limits.
//!
//! Holds a field that a peer does not know is ignored, and a message of a kind that it does not know says nothing, as
//!       everywhere in the handoff; a record that cannot be read is refused alone.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What the giver says: one of these, or something of a later version.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ToTaker {
    /// Whole connections; the frame's descriptors are theirs in order, then one of sealed memory if there are held bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offer: Option<Offer>,
    /// Nothing more will come.
    pub(super) over: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Offer {
    /// 1, 2, 3, …
    pub(super) batch: u64,
    pub(super) connections: Vec<Entry>,
    /// Held bytes of all connections together, one after the other.
    #[serde(default)]
    pub(super) bytes: u64,
}

/// One connection.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) fds: u32,
    #[serde(default)]
    pub(super) bytes: u64,
    /// Not looked at before its time: it may be of a form that only its service understands.
    pub(super) record: Box<RawValue>,
}

/// What the taker says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum ToGiver {
    /// First word: so many descriptors may come.
    Ready { room: u32 },
    /// All of the batch are taken but these; so many descriptors may come now.
    Taken {
        batch: u64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        refused: Vec<Refusal>,
        room: u32,
    },
    #[serde(other)]
    Unknown,
}

/// A connection that stays where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refusal {
    /// Its place in the batch, from 0.
    pub(super) place: u32,
    pub(super) reason: String,
}
