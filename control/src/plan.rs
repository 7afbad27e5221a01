//! What an upgrade would do, before it does anything.

use serde::{Deserialize, Serialize};

use crate::status::{ArtifactStatus, Role};

/// Answer to an upgrade with `dry_run`, and part of every upgrade's event "planned".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    pub from: ArtifactStatus,
    pub to: ArtifactStatus,
    pub protocols: PlannedProtocols,
    pub listeners: Vec<PlannedListener>,
    pub descriptors: PlannedDescriptors,
    pub memory: PlannedMemory,
    pub drains: Vec<PlannedDrain>,
    /// What a person should know; nothing of it keeps the upgrade from starting.
    pub remarks: Vec<String>,
    /// Why it is refused; empty: it is allowed.
    pub refusals: Vec<Refusal>,
}

impl Plan {
    /// True when nothing speaks against it.
    pub fn is_allowed(&self) -> bool {
        self.refusals.is_empty()
    }
}

/// One reason against an upgrade.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refusal {
    pub why: String,
    /// What a person can do about it.
    pub next: String,
}

/// Handoff protocols, as "MIN-MAX"; empty: not native, or not told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlannedProtocols {
    pub supervisor: String,
    pub incumbent: String,
    pub successor: String,
}

/// What becomes of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListenerChange {
    Added,
    Kept,
    Removed,
    /// The new version does not say what it wants.
    #[default]
    Unknown,
}

impl std::fmt::Display for ListenerChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::Kept => "kept",
            Self::Removed => "removed",
            Self::Unknown => "unknown",
        })
    }
}

/// One listener of an upgrade.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlannedListener {
    pub name: String,
    pub address: String,
    pub change: ListenerChange,
    /// Sockets of the group after the upgrade; of a removed one, before it.
    pub sockets: u64,
    /// Options whose value changes, as "backlog 4096 → 1024".
    pub options: Vec<String>,
}

/// Descriptors, in number; absent: the kernel does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlannedDescriptors {
    pub incumbent: Option<u64>,
    /// What the successor holds once it has the incumbent's load.
    pub successor: Option<u64>,
    /// The successor's limit (RLIMIT_NOFILE).
    pub limit: Option<u64>,
    pub supervisor: Option<u64>,
    pub supervisor_limit: Option<u64>,
    /// Open files of the whole host, and their limit (fs.file-max).
    pub host: Option<u64>,
    pub host_limit: Option<u64>,
}

/// Memory, in bytes; absent: the kernel does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlannedMemory {
    /// Resident, now.
    pub incumbent: Option<u64>,
    /// MemAvailable of the host.
    pub available: Option<u64>,
    /// What is left of the service's cgroup; absent: it has no limit.
    pub cgroup_left: Option<u64>,
}

/// A generation that will finish what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlannedDrain {
    pub generation: u64,
    pub version: String,
    pub role: Role,
    /// Absent: it has not said.
    pub connections: Option<u64>,
    /// Seconds since it was started.
    pub age_s: u64,
    /// Its connections move to the new version, as far as they can; what cannot drains.
    pub moves: bool,
}
