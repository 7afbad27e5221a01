//! A load under way: look at it, end it, get the account.
//!
//! Room  the clients' tasks and their end.
//! In    tasks that end by themselves within their limits once the stop signal is set.
//! Out   snapshots, and at the end the whole ledger.
//! Holds a client that panics or does not end makes the ledger unclean.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Limits;
use super::recorder::Recorder;
use crate::ledger::{Class, Example, Ledger, Phase};

/// A load under way. Dropping it aborts its clients, which resets their connections: end it with
/// [`Running::finish`].
#[derive(Debug)]
pub struct Running {
    limits: Limits,
    recorder: Arc<Recorder>,
    stop: watch::Sender<Option<Instant>>,
    clients: JoinSet<()>,
}

impl Running {
    pub(super) fn new(
        limits: Limits,
        recorder: Arc<Recorder>,
        stop: watch::Sender<Option<Instant>>,
        clients: JoinSet<()>,
    ) -> Self {
        Self {
            limits,
            recorder,
            stop,
            clients,
        }
    }

    /// The account so far; what is under way is `unaccounted` in it.
    pub fn snapshot(&self) -> Ledger {
        self.recorder.ledger()
    }

    /// Connections established and not yet ended.
    pub fn established(&self) -> usize {
        self.recorder.established()
    }

    /// Begins the end: no exchange that is due after now is started. [`Self::finish`] does this, too; several loads
    /// end together when all are stopped first.
    pub fn stop(&self) {
        self.stop.send_if_modified(|stop| {
            let is_first = stop.is_none();
            *stop = stop.or_else(|| Some(Instant::now()));
            is_first
        });
    }

    /// Stops, lets every client finish what is under way, end its connection politely, and gives the whole account.
    /// Takes at most the limits of one exchange and one polite end.
    pub async fn finish(mut self) -> Ledger {
        self.stop();
        let limits = self.limits;
        // The last exchange begins at most now; what follows it is a polite end within the stall limit.
        let longest = limits.connect + limits.exchange + 2 * limits.stall;
        let ends = async {
            while let Some(ended) = self.clients.join_next().await {
                if ended.is_err() {
                    self.recorder.with(0, record_panic);
                }
            }
        };
        // Clients that are still there after that stay unaccounted: the ledger shows it.
        timeout(longest, ends).await.unwrap_or_default();
        self.recorder.ledger()
    }
}

/// A client that panicked is a fault of the load generator, and must not look like a clean run.
fn record_panic(ledger: &mut Ledger, at: Duration) {
    ledger.exchanges.start();
    let what = "a client of the load generator panicked: see standard error".to_owned();
    let (class, phase) = (Class::Failed, Phase::Waiting);
    ledger.exchange_without_connection(Example {
        at,
        class,
        phase,
        connection: 0,
        what,
        errno: None,
    });
}
