//! An upgrade as it is asked for, told and remembered.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::status::Role;

/// What `supervisor upgrade` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeRequest {
    /// The new binary, as an absolute path on the supervisor's host.
    pub binary: PathBuf,
    /// How long the incumbent stays parked before the commit; absent: the supervisor's default.
    #[serde(default)]
    pub bake_ms: Option<u64>,
    /// How long the successor may take to become ready; absent: the supervisor's default.
    #[serde(default)]
    pub ready_timeout_ms: Option<u64>,
    /// Steps of the canary, in percent of every listener's sockets, rising; absent: the supervisor's default.
    #[serde(default)]
    pub canary: Option<Vec<u8>>,
    /// How long each step of the canary lasts; absent: the supervisor's default.
    #[serde(default)]
    pub step_ms: Option<u64>,
    /// Only tell what would be done; nothing is started and nothing stays behind.
    #[serde(default)]
    pub dry_run: bool,
    /// When live connections move to the successor; absent: the supervisor's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrate: Option<Migrate>,
}

/// When live connections move to the successor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Migrate {
    /// At the commit, when the successor has proved itself.
    #[default]
    Commit,
    /// With each step of the canary and with the bake, as large a part as of the new connections.
    Canary,
    /// Never: they stay where they are until they end, or the drain does.
    Never,
}

impl Migrate {
    /// All of them, as they are typed.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("commit", Self::Commit),
        ("canary", Self::Canary),
        ("never", Self::Never),
    ];
}

impl FromStr for Migrate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word = Self::WORDS.iter().find(|(word, _)| *word == text);
        word.map(|(_, migrate)| *migrate)
            .ok_or_else(|| format!("\"{text}\" is none of commit, canary and never"))
    }
}

/// What `supervisor upgrade --self` asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfUpgradeRequest {
    /// The next supervisor's binary, as an absolute path on the supervisor's host.
    pub binary: PathBuf,
}

/// How an upgrade ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The successor serves and is what a crash or a reboot starts.
    Committed,
    /// A person is needed (`resume` or `abort`).
    Paused,
    /// The incumbent serves as if nothing had been asked.
    RolledBack,
    /// The upgrade failed and the incumbent could not be brought back in time.
    RollbackIncomplete,
    /// Another upgrade is running; nothing was done.
    Busy,
    /// The binary was refused before it was started; nothing was done.
    Refused,
    /// A dry run found nothing against it; nothing was done.
    Allowed,
}

impl Verdict {
    /// The exit code of `supervisor upgrade` (contract).
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Committed | Self::Allowed => 0,
            Self::Paused => 3,
            Self::RolledBack => 4,
            Self::RollbackIncomplete => 5,
            Self::Busy => 6,
            Self::Refused => 7,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Committed => "committed",
            Self::Paused => "paused",
            Self::RolledBack => "rolled back",
            Self::RollbackIncomplete => "rollback incomplete",
            Self::Busy => "another upgrade is running",
            Self::Refused => "refused",
            Self::Allowed => "would be allowed",
        })
    }
}

/// One generation in numbers, over the last seconds; absent: it does not tell, or not yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SideStatus {
    pub role: Role,
    pub generation: u64,
    pub version: String,
    /// Held now.
    pub connections: Option<u64>,
    pub requests_per_s: Option<f64>,
    /// Failed ones of all.
    pub error_rate: Option<f64>,
    /// Median time of an answer (of `lb`: of a connect to a backend).
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// Processor time for each second: 1.0 is one core.
    pub cores_used: Option<f64>,
    pub resident_bytes: Option<u64>,
    pub descriptors: Option<u64>,
}

/// Live connections that one generation gives to the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MovedStatus {
    /// Served by the other one now.
    pub connections: u64,
    /// How long it has taken.
    pub took_ms: f64,
    /// The longest time that a connection was without anybody who serves it.
    pub stall_max_ms: f64,
    /// Those that stay, by reason; known when it is over.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stayed: BTreeMap<String, u64>,
}

/// One step of an upgrade.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// "requested", "staged", "started", "ready", "accepting", "baking", "committed", …
    pub event: String,
    /// The phase that the supervisor is in after this event.
    pub phase: String,
    /// When, as RFC 3339 in UTC.
    pub at: String,
    /// One line for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// What is left of the bake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_ms: Option<u64>,
    /// How much the successor accepts on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryStatus>,
    /// In `progress`: the incumbent and the successor in numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sides: Vec<SideStatus>,
    /// In "moving", "moved" and the last event: live connections on their way to the other generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<MovedStatus>,
    /// From the decision to roll back to the incumbent's word that it accepts again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_ms: Option<f64>,
    /// Only in the last event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// Why it did not commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it does or would do; in the event "planned".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Box<crate::plan::Plan>>,
}

/// The successor's part of every listener's group during an upgrade.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CanaryStatus {
    /// What was asked for, in percent.
    pub percent: u8,
    /// Sockets that the successor accepts on, and all, over all listeners that can be divided.
    pub sockets: usize,
    pub of: usize,
    /// Connections accepted since this step began, by the successor and by both.
    pub accepted: u64,
    pub accepted_by_both: u64,
}

/// One line of the append-only history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When it ended, RFC 3339.
    pub at: String,
    /// "start", "upgrade", "rollback", "self-upgrade", "crash", "re-adopted", …
    pub event: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// From the decision to roll back to the incumbent's word that it accepts again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_ms: Option<f64>,
    /// What the duration is made of, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseTime>,
    /// Of the event "drained": which generation left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Of the event "drained": connections that could not move, by reason, when the others did.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stayed: BTreeMap<String, u64>,
    /// Of the event "drained": what became of connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcomes: Option<Outcomes>,
}

/// A phase of a swap and how long it took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTime {
    pub phase: String,
    pub ms: u64,
}

/// What became of connections when a generation left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcomes {
    /// Held by the generations that go on.
    pub kept: u64,
    /// Given to a later generation while open.
    pub moved: u64,
    /// Ended by themselves while the generation drained.
    pub drained: u64,
    /// Ended by us, when the time was over.
    pub cut: u64,
}

/// The answer to a request that is no upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub ok: bool,
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::{Event, HistoryEntry, Outcomes, PhaseTime, Verdict};

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        let table = [
            (Verdict::Committed, 0),
            (Verdict::Paused, 3),
            (Verdict::RolledBack, 4),
            (Verdict::RollbackIncomplete, 5),
            (Verdict::Busy, 6),
            (Verdict::Refused, 7),
        ];
        for (verdict, code) in table {
            assert_eq!(verdict.exit_code(), code);
        }
    }

    #[test]
    fn a_line_of_an_older_history_is_understood_and_a_new_one_comes_back() {
        let line = r#"{"at":"2026-01-01T00:00:00.000Z","event":"upgrade","verdict":"committed","duration_ms":5}"#;
        let mut entry: HistoryEntry = serde_json::from_str(line).expect("parses");
        assert!(entry.phases.is_empty() && entry.outcomes.is_none());
        assert_eq!(serde_json::to_string(&entry).expect("prints"), line);
        entry.phases.push(PhaseTime {
            phase: "baking".to_owned(),
            ms: 3,
        });
        entry.outcomes = Some(Outcomes {
            cut: 2,
            ..Outcomes::default()
        });
        let text = serde_json::to_string(&entry).expect("prints");
        let back: HistoryEntry = serde_json::from_str(&text).expect("parses");
        assert_eq!(back, entry);
    }

    #[test]
    fn an_event_of_a_newer_supervisor_is_understood() {
        let line = r#"{"event":"x","phase":"idle","at":"","new":[1],"verdict":"rolled-back"}"#;
        let event: Event = serde_json::from_str(line).expect("parses");
        assert_eq!(event.verdict, Some(Verdict::RolledBack));
    }
}
