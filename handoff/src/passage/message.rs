//! What is said on a passage, and its limits.
//!
//! Holds a field that a peer does not know is ignored, a kind that it does not know becomes `Unknown`, as everywhere in
//!       the handoff; a record that cannot be read is refused alone.

use serde::{Deserialize, Serialize};

/// What the giver says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum ToTaker {
    /// Whole connections; the frame's descriptors are theirs in order, then one of sealed memory if there are held bytes.
    Offer(Offer),
    /// Nothing more will come.
    Over,
    #[serde(other)]
    Unknown,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Offer {
    /// 1, 2, 3, …
    pub(super) batch: u64,
    pub(super) connections: Vec<Entry>,
    /// Held bytes of all connections together, one after the other.
    #[serde(default)]
    pub(super) bytes: u64,
}

/// One connection.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) fds: u32,
    #[serde(default)]
    pub(super) bytes: u64,
    pub(super) record: serde_json::Value,
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
