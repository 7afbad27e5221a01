//! The HTTP/2 shape: several requests at the same time on one connection, then the next connection.
//!
//! Room  a connection's life; a request's is in `lane`.
//! In    due times from the pace.
//! Out   exchanges, and connections that each carried many.
//! Holds a connection ends when it had its share, when the server says GOAWAY, or at the end of the run; requests
//!       that the server did not look at go to the next connection (RFC 9113 section 6.8), all others are settled.
//!
//! ```text
//! connect ──> lanes side by side ──all back──> connection's end ──> connect …
//!               └─ a request that was not looked at stays in its lane
//! ```

mod farewell;
mod lane;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::IdleClose;
use super::stream::Stream;
use super::wire::Failure;
use super::worker::{Connection, Worker};
use crate::ledger::{Class, Phase};
use farewell::Heard;
use lane::Lane;

pub(super) async fn run(mut worker: Worker) {
    let mut lanes: Vec<_> = (0..worker.load.streams_per_connection.max(1))
        .map(|_| Lane::new(worker.fork()))
        .collect();
    while !worker.is_over(Instant::now()) || lanes.iter().any(Lane::has_work) {
        let Connection {
            stream,
            established,
        } = match worker.connect().await {
            Ok(connection) => connection,
            Err(failure) => {
                lanes.iter_mut().for_each(|lane| lane.give_up(&failure));
                worker.recover().await;
                continue;
            }
        };
        let (ended, back) = carry(&mut worker, stream, lanes).await;
        lanes = back;
        match ended {
            Ended::ByUs => worker.end_connection::<()>(established, &Ok(())),
            Ended::ByServer => worker.end_idle_connection(established),
            Ended::Lost(failure) => {
                worker.end_connection::<()>(established, &Err(failure));
                worker.recover().await;
            }
        }
    }
}

/// How a connection ended.
enum Ended {
    ByUs,
    /// Politely, with every request settled or untouched.
    ByServer,
    Lost(Failure),
}

/// Carries the lanes over one connection and gives them back.
async fn carry(worker: &mut Worker, stream: Stream, lanes: Vec<Lane>) -> (Ended, Vec<Lane>) {
    let connecting =
        |what: String| Ended::Lost(Failure::new(Class::Failed, Phase::Connecting, what));
    if worker.load.target.server_name().is_some() && stream.protocol() != Some(b"h2") {
        return (connecting("the server did not choose h2".to_owned()), lanes);
    }
    let stall = worker.load.limits.stall;
    let stream = Heard::new(stream);
    let farewell = stream.farewell();
    let (mut sender, driver) = match h2::client::handshake(stream).await {
        Ok(connection) => connection,
        Err(error) => return (connecting(error.to_string()), lanes),
    };
    let mut driving = JoinSet::new();
    driving.spawn(driver);
    let share = Arc::new(Share::new(share(worker)));
    let mut running = JoinSet::new();
    for mut lane in lanes {
        lane.follow(worker);
        running.spawn(lane.run(sender.clone(), share.clone()));
    }
    let lanes = running.join_all().await;
    let is_ended = poll_fn(|cx| Poll::Ready(matches!(sender.poll_ready(cx), Poll::Ready(Err(_)))));
    let is_ended = is_ended.await;
    // The last handle: the driver says GOAWAY and ends.
    drop(sender);
    let driven = match timeout(stall, driving.join_next()).await {
        Ok(Some(Ok(driven))) => driven.map_err(|error| {
            let failure = lane::failure(Phase::Ending, &error);
            // A violation of the protocol stays one.
            if error.is_io() {
                failure.unanswered()
            } else {
                failure
            }
        }),
        Ok(_) => Err(Failure::new(
            Class::Failed,
            Phase::Ending,
            "the driver panicked",
        )),
        Err(_) => Err(Failure::hung(Phase::Ending, stall)),
    };
    let is_allowed = worker.load.idle_close == IdleClose::Allowed;
    let ended = match driven {
        // The server left after its GOAWAY while we still said something: everything that it owed was settled by the
        // lanes.
        Err(failure) if failure.is_unanswered && farewell.load(Ordering::Relaxed) && is_allowed => {
            Ended::ByServer
        }
        Err(failure) => Ended::Lost(failure),
        Ok(()) if !is_ended => Ended::ByUs,
        Ok(()) if is_allowed => Ended::ByServer,
        Ok(()) => Ended::Lost(Failure::new(
            Class::Cut,
            Phase::Idle,
            "the other side ended the connection",
        )),
    };
    (ended, lanes)
}

/// Requests for this connection; the first one of a client has fewer at random, so that the clients of a load do not
/// renew their connections at the same moment.
fn share(worker: &mut Worker) -> u64 {
    let limit = worker.load.exchanges_per_connection;
    if worker.is_first_connection() && limit > 1 {
        worker.random.u64(1..=limit)
    } else {
        limit
    }
}

/// What the lanes of a connection share.
struct Share {
    /// Requests that it may still carry.
    left: AtomicU64,
    /// True once a lane found that it takes no more.
    is_over: watch::Sender<bool>,
}

impl Share {
    fn new(left: u64) -> Self {
        let (is_over, _) = watch::channel(false);
        Self {
            left: AtomicU64::new(left),
            is_over,
        }
    }

    /// Takes one request; false: none is left.
    fn take(&self) -> bool {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
    }

    /// The lanes that wait for their next request need not wait on this connection.
    fn end(&self) {
        self.is_over.send_replace(true);
    }

    /// Until [`Self::end`].
    async fn over(&self) {
        // The sender is here: it cannot be gone.
        let mut is_over = self.is_over.subscribe();
        is_over
            .wait_for(|is_over| *is_over)
            .await
            .map(drop)
            .unwrap_or_default();
    }
}

type Sender = SendRequest<Bytes>;
