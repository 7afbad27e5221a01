//! What reaches the loop from the control socket, with the way back.

use std::time::Duration;

use control::{Answer, Event, HistoryEntry, Status};
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Snapshot;

/// A request and where its answer goes.
#[derive(Debug)]
pub(crate) enum Request {
    Status(oneshot::Sender<Status>),
    Metrics(oneshot::Sender<Snapshot>),
    History(oneshot::Sender<Vec<HistoryEntry>>),
    Upgrade {
        binary: std::path::PathBuf,
        bake: Option<Duration>,
        ready_timeout: Option<Duration>,
        dry_run: bool,
        events: mpsc::UnboundedSender<Event>,
    },
    SelfUpgrade {
        binary: std::path::PathBuf,
        events: mpsc::UnboundedSender<Event>,
    },
    Rollback(mpsc::UnboundedSender<Event>),
    Abort(oneshot::Sender<Answer>),
    Reload(oneshot::Sender<Answer>),
    Stop(oneshot::Sender<Answer>),
}
