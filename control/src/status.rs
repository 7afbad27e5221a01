//! What a supervisor holds and does right now.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Answer to `GET /v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub name: String,
    /// "starting", "idle", "staging", "baking", …
    pub phase: String,
    /// What a crash or a reboot starts.
    pub committed: Option<ArtifactStatus>,
    /// What `rollback` returns to.
    pub previous: Option<ArtifactStatus>,
    pub generations: Vec<GenerationStatus>,
    /// Whose main process has ended, and that are being ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_behind: Vec<LeftBehindStatus>,
    pub listeners: Vec<ListenerStatus>,
    /// The upgrade that is running.
    pub upgrade: Option<UpgradeStatus>,
    pub supervisor_version: String,
    pub supervisor_pid: u32,
    /// Of the running supervisor's binary; empty for a moment after its start.
    pub supervisor_sha256: String,
    /// Restarts of a crashed worker since this supervisor started.
    pub crashes_total: u64,
}

/// A staged binary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ArtifactStatus {
    pub version: String,
    pub sha256: String,
}

/// What a generation is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    #[default]
    Incumbent,
    Successor,
    Draining,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Incumbent => "incumbent",
            Self::Successor => "successor",
            Self::Draining => "draining",
        })
    }
}

/// One living worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationStatus {
    pub generation: u64,
    pub version: String,
    pub sha256: String,
    pub pid: u32,
    pub role: Role,
    pub ready: bool,
    pub accepting: bool,
    /// Connections held now; absent: the worker has not said.
    pub connections: Option<u64>,
    pub accepted_total: Option<u64>,
    pub errors_total: Option<u64>,
    pub bytes_total: Option<u64>,
    /// Seconds since it was started.
    pub age_s: u64,
    /// The worker's own line.
    pub status: String,
    /// While it drains: what it still holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldStatus>,
    /// Resident memory of its main process.
    pub resident_bytes: Option<u64>,
    pub descriptors: Option<u64>,
    /// While it drains: seconds until it is ended.
    pub drain_left_s: Option<u64>,
    /// It drains, and has less time than `drain_timeout`: there were too many old generations.
    pub retired: bool,
    /// Its own answers to the health URL; absent: none is set, or it speaks the native handoff.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthStatus>,
}

/// Connections of a draining generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeldStatus {
    pub ages: Vec<AgeStatus>,
    /// Age of the oldest, in seconds.
    pub oldest_s: u64,
    /// By what they wait for, in the worker's words.
    pub waits: BTreeMap<String, u64>,
}

/// Connections of one class of age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgeStatus {
    /// Younger than this, in seconds, and not in a class before; absent: older than all.
    pub below_s: Option<u64>,
    pub connections: u64,
}

/// What a generation itself answered at the health URL, never what another one did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthStatus {
    /// "healthy"; "unhealthy": it answered otherwise, or not in time; "absent": no connection was accepted by it;
    /// "unknown": nothing is known yet.
    pub outcome: String,
    /// Why it is not healthy.
    pub reason: String,
    /// Unhealthy ones since the last healthy one.
    pub failures_in_a_row: u64,
    /// Absent ones since it was last seen to accept.
    pub absences_in_a_row: u64,
    pub healthy_total: u64,
    pub unhealthy_total: u64,
    pub absent_total: u64,
    /// Median of its last healthy answers, from the end of the request to the status line.
    pub latency_ms: Option<f64>,
    /// Seconds since it was last looked at.
    pub age_s: u64,
}

/// Processes that outlived the main process of their generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeftBehindStatus {
    pub generation: u64,
    pub version: String,
    pub processes: usize,
    /// Seconds until they are killed.
    pub killed_in_s: u64,
}

/// A listener that the supervisor holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListenerStatus {
    pub name: String,
    pub address: String,
    pub sockets: usize,
}

/// The upgrade that is running.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpgradeStatus {
    pub binary: String,
    pub version: String,
    /// When it was asked for, RFC 3339.
    pub since: String,
    pub for_s: u64,
    /// How much the successor accepts on.
    pub canary: Option<crate::CanaryStatus>,
    /// Why it waits for `resume` or `abort`.
    pub paused: Option<String>,
}
