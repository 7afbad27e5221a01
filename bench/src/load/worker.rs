//! One client of a load: its number, its turn, and the only way it writes into the ledger.
//!
//! Room  what all shapes share; no conversation.
//! In    the load's settings, pace and stop signal.
//! Out   starts and ends in the ledger: a connection or exchange that is begun here is ended here.
//! Holds a client has at most one connection; a lost one is followed by a pause, never by a spin.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};

use super::Load;
use super::pace::{Pace, intended_start};
use super::recorder::{Established, Recorder};
use super::stream::Stream;
use super::wire::{self, Failure, Tls};
use crate::ledger::{Class, Example, Phase, Traffic};

/// What a client waits after a loss before it tries again: a closed port must not fill a core.
const PAUSE_AFTER_LOSS: Duration = Duration::from_millis(20);

#[derive(Clone)]
pub(super) struct Worker {
    pub(super) id: u64,
    pub(super) load: Arc<Load>,
    pub(super) random: fastrand::Rng,
    tls: Option<Tls>,
    pace: Arc<Pace>,
    recorder: Arc<Recorder>,
    stop: watch::Receiver<Option<Instant>>,
    connections: u64,
}

/// An established connection.
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) established: Established,
}

/// The stream is closed here.
impl From<Connection> for Established {
    fn from(connection: Connection) -> Self {
        connection.established
    }
}

impl Worker {
    pub(super) fn new(
        id: u64,
        load: Arc<Load>,
        tls: Option<Tls>,
        pace: Arc<Pace>,
        recorder: Arc<Recorder>,
        stop: watch::Receiver<Option<Instant>>,
    ) -> Self {
        let random = fastrand::Rng::with_seed(crate::payload::mix(load.seed ^ id));
        Self {
            id,
            load,
            random,
            tls,
            pace,
            recorder,
            stop,
            connections: 0,
        }
    }

    /// The same client once more, for one of several conversations on its connection.
    pub(super) fn fork(&mut self) -> Self {
        let random = self.random.fork();
        Self {
            random,
            ..self.clone()
        }
    }

    /// Takes over the number of the connection that `owner` has now.
    pub(super) fn follow(&mut self, owner: &Self) {
        self.connections = owner.connections;
    }

    /// When this client's next exchange is due.
    pub(super) fn draw(&self) -> Instant {
        self.pace.draw(Instant::now())
    }

    /// True when an exchange due at `due` is no longer part of the run.
    pub(super) fn is_over(&self, due: Instant) -> bool {
        self.stop.borrow().is_some_and(|stop| due >= stop)
    }

    /// Waits until `due`; false: the run ended first. A due time that has passed already is kept, whatever
    /// the backlog, so that a stall at the end of a run is not forgotten.
    pub(super) async fn wait_until(&mut self, due: Instant) -> bool {
        if due > Instant::now() {
            tokio::select! {
                () = sleep_until(due.into()) => {}
                () = stopped(&mut self.stop) => {}
            }
        }
        !self.is_over(due)
    }

    /// A signal of its own for the end of the run, for use beside other borrows of this client.
    pub(super) fn stop_signal(&self) -> watch::Receiver<Option<Instant>> {
        self.stop.clone()
    }

    /// The pause after a loss; ends early with the run.
    pub(super) async fn recover(&mut self) {
        tokio::select! {
            () = sleep(PAUSE_AFTER_LOSS) => {}
            () = stopped(&mut self.stop) => {}
        }
    }

    /// Begins an exchange that was due at `due` and says from when its time counts. `None`: it was due so long ago
    /// that its limit has passed; it is recorded as timed out.
    pub(super) fn begin_exchange(&self, due: Instant) -> Option<Instant> {
        let now = Instant::now();
        let limit = self.load.limits.exchange;
        let is_late = now.saturating_duration_since(due) > limit;
        self.recorder.with(self.id, |ledger, at| {
            ledger.exchanges.start();
            if is_late {
                let what = format!(
                    "no connection was free for {limit:?}: the target is slower than the rate"
                );
                ledger.exchange_without_connection(Example {
                    at,
                    class: Class::TimedOut,
                    phase: Phase::Waiting,
                    connection: self.id,
                    what,
                    errno: None,
                });
            }
        });
        (!is_late).then(|| intended_start(due, now))
    }

    /// Begins a block of a long-lived stream.
    pub(super) fn begin_block(&self) {
        self.recorder
            .with(self.id, |ledger, _| ledger.exchanges.start());
    }

    /// Ends an exchange that counts from `start`.
    pub(super) fn end_exchange(&self, start: Instant, outcome: &Result<Traffic, Failure>) {
        let took = start.elapsed();
        let due = self.recorder.since_epoch(start);
        self.recorder.with(self.id, |ledger, _| match outcome {
            Ok(traffic) => ledger.exchange_succeeded(due, took, *traffic),
            Err(failure) => ledger.exchange_lost(failure.class),
        });
    }

    /// Begins a connection. One that fails here has also ended here.
    pub(super) async fn connect(&mut self) -> Result<Connection, Failure> {
        self.connections += 1;
        self.recorder
            .with(self.id, |ledger, _| ledger.connections.start());
        let start = Instant::now();
        let (address, limit) = (self.load.target.address(), self.load.limits.connect);
        match wire::connect(address, self.tls.as_ref(), limit).await {
            Ok(stream) => {
                let is_resumed = stream.is_resumed();
                self.recorder.with(self.id, |ledger, _| {
                    ledger.connect.record(start.elapsed());
                    ledger.handshakes += u64::from(is_resumed.is_some());
                    ledger.resumed += u64::from(is_resumed == Some(true));
                });
                Ok(Connection {
                    stream,
                    established: self.recorder.establish(),
                })
            }
            Err(failure) => {
                self.lose_connection(&failure);
                Err(failure)
            }
        }
    }

    /// Ends an established connection.
    pub(super) fn end_connection<T>(
        &self,
        connection: impl Into<Established>,
        outcome: &Result<T, Failure>,
    ) {
        drop(connection.into());
        match outcome {
            Ok(_) => {
                self.recorder
                    .with(self.id, |ledger, _| ledger.connection_succeeded());
            }
            Err(failure) => self.lose_connection(failure),
        }
    }

    /// Ends a connection that the other side ended politely while it was idle, where that is allowed.
    pub(super) fn end_idle_connection(&self, connection: impl Into<Established>) {
        drop(connection.into());
        self.recorder.with(self.id, |ledger, _| {
            ledger.idle_closes += 1;
            ledger.connection_succeeded();
        });
    }

    /// Ends a connection that the other side ended between two answers although a request was under way already;
    /// the caller asks once more.
    pub(super) fn retry_after(&self, connection: Connection) {
        self.recorder.with(self.id, |ledger, _| ledger.retried += 1);
        self.end_idle_connection(connection);
    }

    /// An exchange goes to another connection, because this one did not look at it.
    pub(super) fn count_retry(&self) {
        self.recorder.with(self.id, |ledger, _| ledger.retried += 1);
    }

    /// Ends a tunnel that lived to the bound of its process's drain, with messages that were under way.
    pub(super) fn end_at_bound(&self, connection: Established, under_way: u64) {
        drop(connection);
        self.recorder.with(self.id, |ledger, _| {
            (0..under_way).for_each(|_| ledger.exchanges.settle(Class::Ok));
            ledger.unanswered_at_bound += under_way;
            ledger.ended_at_bound += 1;
            ledger.connection_succeeded();
        });
    }

    /// Ends an exchange that was lost although its connection was not, or never had one.
    pub(super) fn lose_exchange(&self, failure: &Failure) {
        self.recorder.with(self.id, |ledger, at| {
            ledger.exchange_without_connection(self.example(at, failure));
        });
    }

    fn lose_connection(&self, failure: &Failure) {
        self.recorder.with(self.id, |ledger, at| {
            ledger.connection_lost(self.example(at, failure))
        });
    }

    fn example(&self, at: Duration, failure: &Failure) -> Example {
        Example {
            at,
            class: failure.class,
            phase: failure.phase,
            connection: self.stream_id(),
            what: failure.what.clone(),
            errno: failure.errno,
        }
    }

    /// True while this client has its first connection.
    pub(super) fn is_first_connection(&self) -> bool {
        self.connections == 1
    }

    /// The number of this client's current connection, different from every other in the load.
    pub(super) fn stream_id(&self) -> u64 {
        self.id + self.connections.saturating_sub(1) * self.load.connections as u64
    }
}

/// Waits for the end of the run; a sender that is gone means the same.
pub(super) async fn stopped(stop: &mut watch::Receiver<Option<Instant>>) {
    stop.wait_for(Option::is_some)
        .await
        .map(drop)
        .unwrap_or_default();
}
