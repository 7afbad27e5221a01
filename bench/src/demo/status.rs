//! What a supervisor says about itself, as far as the demo needs it.
//!
//! Room  pure: JSON in, values out; unknown fields are ignored, absent ones have a default.
//! In    lines of `supervisor status --json` and `supervisor upgrade --json`.
//! Out   phase, generations, events.
//! Holds nothing here knows more than the documented interface.

use serde::Deserialize;

/// Answer of `supervisor status --json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) phase: String,
    pub(super) generations: Vec<Generation>,
}

/// One living worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Generation {
    pub(super) generation: u64,
    pub(super) pid: u32,
    pub(super) role: String,
}

impl Status {
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The worker that serves, when nothing is under way.
    pub(super) fn settled_incumbent(&self) -> Option<&Generation> {
        let is_idle = self.phase == "idle";
        self.generations
            .iter()
            .find(|generation| is_idle && generation.role == "incumbent" && generation.pid != 0)
    }
}

/// One line of `supervisor upgrade --json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    pub(super) event: String,
    pub(super) phase: String,
    pub(super) message: String,
    pub(super) verdict: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) moved: Option<Moved>,
}

/// Live connections that the successor has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Moved {
    pub(super) connections: u64,
}

impl Event {
    pub(super) fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{"name":"load-balancer","phase":"idle","committed":{"version":"1","sha256":"ab"},
        "generations":[{"generation":1,"pid":10,"role":"draining","connections":3},
                       {"generation":2,"pid":11,"role":"incumbent"}],"listeners":[],"later":{}}"#;

    #[test]
    fn the_incumbent_is_found_when_nothing_is_under_way() {
        let status = Status::parse(STATUS).unwrap();
        assert_eq!(
            status.settled_incumbent().map(|generation| generation.pid),
            Some(11)
        );
        let baking = Status {
            phase: "baking".to_owned(),
            ..status
        };
        assert_eq!(baking.settled_incumbent(), None);
    }

    #[test]
    fn anything_else_is_not_understood_and_harms_nobody() {
        assert_eq!(Status::parse("supervisor: nobody runs"), None);
        assert_eq!(Event::parse("{"), None);
        assert_eq!(Status::parse("{}").unwrap().settled_incumbent(), None);
    }

    #[test]
    fn the_last_event_has_the_verdict() {
        let line = r#"{"event":"rolled-back","phase":"idle","at":"x","verdict":"rolled-back","reason":"not ready"}"#;
        let event = Event::parse(line).unwrap();
        assert_eq!(event.verdict.as_deref(), Some("rolled-back"));
        assert_eq!(event.reason.as_deref(), Some("not ready"));
    }
}
