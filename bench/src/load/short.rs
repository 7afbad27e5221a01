//! The short shape: one TCP connection per exchange.
//!
//! Room  one loop; the conversation is in `exchange`.
//! In    due times from the pace.
//! Out   per turn one exchange and one connection in the ledger, both of the same class.
//! Holds the client ends its direction first and waits for the other end: nobody has a reason to reset.

use std::time::Instant;

use tokio::time::timeout_at;

use super::exchange;
use super::wire::Failure;
use super::worker::Worker;
use crate::ledger::Traffic;

pub(super) async fn run(mut worker: Worker) {
    let mut buffer = Vec::new();
    loop {
        let due = worker.draw();
        if !worker.wait_until(due).await {
            return;
        }
        let Some(start) = worker.begin_exchange(due) else {
            continue;
        };
        let outcome = one(&mut worker, start, &mut buffer).await;
        worker.end_exchange(start, &outcome);
        if outcome.is_err() {
            worker.recover().await;
        }
    }
}

/// Connects, asks, checks, ends. The connection is settled here, the exchange by the caller.
async fn one(
    worker: &mut Worker,
    start: Instant,
    buffer: &mut Vec<u8>,
) -> Result<Traffic, Failure> {
    let load = worker.load.clone();
    let mut connection = worker.connect().await?;
    let asked = exchange::finish(&mut connection.stream, &load, &mut worker.random, buffer);
    let limit = load.limits.exchange;
    let outcome = match timeout_at((start + limit).into(), asked).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::timed_out(limit)),
    };
    worker.end_connection(connection, &outcome);
    outcome
}
