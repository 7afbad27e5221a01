//! Control: what an operator or a driver says to a supervisor, and its answers.
//!
//! HTTP with JSON over the control socket `RUNTIME_DIR/NAME/control.sock`, so that
//! `curl --unix-socket` works:
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/history` | | one [`HistoryEntry`] per line |
//! | `GET /v1/metrics` | | Prometheus text |
//! | `POST /v1/upgrade` | [`UpgradeRequest`] | one [`Event`] per line, the last with a verdict |
//! | `POST /v1/rollback` | | the same |
//! | `POST /v1/self-upgrade` | [`SelfUpgradeRequest`] | the same; without a verdict after `handing-over`: the history tells |
//! | `POST /v1/resume` | | the same: a paused upgrade goes on |
//! | `POST /v1/abort`, `/v1/reload`, `/v1/stop` | | [`Answer`] |
//!
//! Room  values and one client; decides nothing, holds no descriptor of a listener.
//! Holds unknown fields are ignored on both sides; a field may be added, never given another meaning.

pub mod client;
mod event;
mod plan;
mod status;

pub use event::{
    Answer, CanaryStatus, Event, HistoryEntry, Migrate, MovedStatus, Outcomes, PhaseTime,
    SelfUpgradeRequest, SideStatus, UpgradeRequest, Verdict,
};
pub use plan::{
    ListenerChange, Plan, PlannedDescriptors, PlannedDrain, PlannedListener, PlannedMemory,
    PlannedProtocols, Refusal,
};
pub use status::{
    AgeStatus, ArtifactStatus, GenerationStatus, HealthStatus, HeldStatus, LeftBehindStatus,
    ListenerStatus, Role, Status, UpgradeStatus,
};
