//! What reaches the loop from the control socket, with the way back.

use std::time::Duration;

use control::{Answer, Event, HistoryEntry, Migrate, Status};
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Snapshot;

/// How an upgrade is to be done; what is absent is the supervisor's default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) bake: Option<Duration>,
    pub(crate) ready_timeout: Option<Duration>,
    pub(crate) canary: Option<Vec<u8>>,
    pub(crate) step: Option<Duration>,
    pub(crate) migrate: Option<Migrate>,
}

/// A request and where its answer goes.
#[derive(Debug)]
pub(crate) enum Request {
    Status(oneshot::Sender<Status>),
    Metrics(oneshot::Sender<Snapshot>),
    History(oneshot::Sender<Vec<HistoryEntry>>),
    Upgrade {
        binary: std::path::PathBuf,
        terms: Terms,
        dry_run: bool,
        events: mpsc::UnboundedSender<Event>,
    },
    SelfUpgrade {
        binary: std::path::PathBuf,
        events: mpsc::UnboundedSender<Event>,
    },
    Resume(mpsc::UnboundedSender<Event>),
    Rollback(mpsc::UnboundedSender<Event>),
    Abort(oneshot::Sender<Answer>),
    Reload(oneshot::Sender<Answer>),
    Stop(oneshot::Sender<Answer>),
}
