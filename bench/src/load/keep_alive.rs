//! The keep-alive shape: many exchanges on one connection, a polite end, the next connection.
//!
//! Room  one loop; the conversation is in `exchange`.
//! In    due times from the pace.
//! Out   exchanges, and connections that each carried several.
//! Holds a kept connection is watched while it is idle: what happens to it then is seen when it happens.

use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::exchange::{self, Good};
use super::wire::{self, Failure};
use super::worker::{Connection, Worker};
use super::{IdleClose, Shape};
use crate::ledger::{Class, Phase};

/// A connection between two exchanges.
struct Kept {
    connection: Connection,
    exchanges: u64,
    /// Exchanges that went well on it; the head start is not among them.
    answered: u64,
}

/// Why an idle connection is not idle any more.
enum Idle {
    /// The next exchange is due.
    Due,
    /// The run is over.
    Over,
    /// Something happened on the connection: its end (`Ok`), or bytes or an error.
    Disturbed(Result<(), Failure>),
}

pub(super) async fn run(mut worker: Worker) {
    let mut buffer = Vec::new();
    let mut kept: Option<Kept> = None;
    'turns: loop {
        let due = worker.draw();
        loop {
            match wait(&mut worker, kept.as_mut(), due).await {
                Idle::Due => break,
                Idle::Over => break 'turns,
                Idle::Disturbed(how) => end_idle(&worker, kept.take(), how),
            }
        }
        let Some(start) = worker.begin_exchange(due) else {
            continue;
        };
        kept = turn(&mut worker, kept.take(), start, &mut buffer).await;
    }
    if let Some(kept) = kept {
        retire(&worker, kept, &mut buffer).await;
    }
}

/// Longer than any run.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// One exchange, then an idle connection until the end of the run.
pub(super) async fn run_once(mut worker: Worker) {
    let due = worker.draw();
    if !worker.wait_until(due).await {
        return;
    }
    let Some(start) = worker.begin_exchange(due) else {
        return;
    };
    // Thousands of them are held: none keeps a buffer while it is idle.
    let mut buffer = Vec::new();
    let kept = turn(&mut worker, None, start, &mut buffer).await;
    drop(buffer);
    let Some(mut kept) = kept else {
        return;
    };
    match wait(&mut worker, Some(&mut kept), Instant::now() + NEVER).await {
        Idle::Disturbed(how) => end_idle(&worker, Some(kept), how),
        Idle::Due | Idle::Over => retire(&worker, kept, &mut Vec::new()).await,
    }
}

/// Waits until `due`, watching the idle connection; looks at it once even when the exchange is overdue.
async fn wait(worker: &mut Worker, kept: Option<&mut Kept>, due: Instant) -> Idle {
    let Some(kept) = kept else {
        return if worker.wait_until(due).await {
            Idle::Due
        } else {
            Idle::Over
        };
    };
    tokio::select! {
        biased;
        how = disturbance(&mut kept.connection) => Idle::Disturbed(how),
        is_due = worker.wait_until(due) => if is_due { Idle::Due } else { Idle::Over },
    }
}

/// Ends when anything happens on an idle connection: nothing should.
async fn disturbance(connection: &mut Connection) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| Failure::from_io(Phase::Idle, error);
    match connection
        .stream
        .disturbance()
        .await
        .map_err(|error| failed(&error))?
    {
        0 => Ok(()),
        _ => Err(Failure::new(
            Class::WrongBytes,
            Phase::Idle,
            "bytes that nobody asked for",
        )),
    }
}

fn end_idle(worker: &Worker, kept: Option<Kept>, how: Result<(), Failure>) {
    let Some(Kept { connection, .. }) = kept else {
        return;
    };
    let outcome = match (how, worker.load.idle_close) {
        (Ok(()), IdleClose::Allowed) => return worker.end_idle_connection(connection),
        (Ok(()), IdleClose::IsCut) => Err(Failure::new(
            Class::Cut,
            Phase::Idle,
            "the other side ended the connection between two exchanges",
        )),
        (Err(failure), _) => Err(failure),
    };
    worker.end_connection::<()>(connection, &outcome);
}

/// One exchange, on the kept connection or a new one. Gives the connection back if it is kept further.
async fn turn(
    worker: &mut Worker,
    kept: Option<Kept>,
    start: Instant,
    buffer: &mut Vec<u8>,
) -> Option<Kept> {
    let load = worker.load.clone();
    let answered = kept.as_ref().map_or(0, |kept| kept.answered);
    let mut kept = match kept {
        Some(kept) => kept,
        None => match worker.connect().await {
            Ok(connection) => Kept {
                connection,
                exchanges: head_start(worker),
                answered: 0,
            },
            Err(failure) => {
                worker.end_exchange(start, &Err(failure));
                worker.recover().await;
                return None;
            }
        },
    };
    let limit = load.limits.exchange;
    let asked = exchange::keep(
        &mut kept.connection.stream,
        &load,
        &mut worker.random,
        buffer,
    );
    let outcome = match timeout_at((start + limit).into(), asked).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::timed_out(limit)),
    };
    // The server ended the connection at the boundary of an answer while this request was under way. All that these
    // clients ask is idempotent. `answered` is 0 on a new connection, so this happens once for a request.
    if let Err(failure) = &outcome
        && failure.is_unanswered
        && answered > 0
        && load.idle_close == IdleClose::Allowed
    {
        worker.retry_after(kept.connection);
        return Box::pin(turn(worker, None, start, buffer)).await;
    }
    kept.exchanges += 1;
    kept.answered += u64::from(outcome.is_ok());
    worker.end_exchange(start, &outcome.clone().map(|good| good.traffic));
    after(worker, kept, outcome, buffer).await
}

/// How many exchanges a connection counts from its beginning. The first one of each client gets some at random:
/// otherwise all clients of a load would renew their connections at the same moment, again and again.
fn head_start(worker: &mut Worker) -> u64 {
    let limit = worker.load.exchanges_per_connection;
    let renews = worker.load.shape != Shape::Idle;
    if renews && worker.is_first_connection() && limit > 1 {
        worker.random.u64(..limit)
    } else {
        0
    }
}

/// What becomes of the connection after an exchange.
async fn after(
    worker: &mut Worker,
    mut kept: Kept,
    outcome: Result<Good, Failure>,
    buffer: &mut Vec<u8>,
) -> Option<Kept> {
    match outcome {
        Ok(Good { closes: false, .. }) if kept.exchanges < worker.load.exchanges_per_connection => {
            Some(kept)
        }
        Ok(Good { closes: false, .. }) => {
            retire(worker, kept, buffer).await;
            None
        }
        Ok(Good { closes: true, .. }) => {
            buffer.resize(exchange::BUFFER_BYTES, 0);
            let ended = wire::expect_end(
                &mut kept.connection.stream,
                buffer,
                worker.load.limits.stall,
            )
            .await;
            worker.end_connection(kept.connection, &ended);
            None
        }
        Err(failure) => {
            worker.end_connection::<()>(kept.connection, &Err(failure));
            worker.recover().await;
            None
        }
    }
}

async fn retire(worker: &Worker, mut kept: Kept, buffer: &mut Vec<u8>) {
    let ended = exchange::retire(&mut kept.connection.stream, &worker.load, buffer).await;
    worker.end_connection(kept.connection, &ended);
}
