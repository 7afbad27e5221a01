//! The long-lived shape: one connection for the whole run, with numbered blocks both ways at a fixed interval.
//!
//! Room  one loop over socket, clock and stop signal; the blocks are in `numbered`.
//! In    an echo listener.
//! Out   one connection, and per block one exchange (from when it was due to when it was back), in the ledger.
//! Holds blocks are due at fixed times, whatever the target does; at the end everything sent has come back, then
//!       both directions end. A lost connection is a loss, and is replaced, so that the load stays what it was.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::pace::intended_start;
use super::wire::Failure;
use super::worker::{Worker, stopped};
use crate::ledger::{Class, Phase, Traffic};
use crate::numbered::{Checker, write_block};

/// Blocks that are under way at most: beyond it due blocks wait (and are late), so that a stalled target costs the
/// client some 64 KB per connection and no more.
const UNDER_WAY_MAX: usize = 64;

/// Read at once: some ten blocks.
const BUFFER_BYTES: usize = 8 * 1024;

pub(super) async fn run(mut worker: Worker) {
    spread(&mut worker).await;
    while !worker.is_over(Instant::now()) {
        let Ok(mut connection) = worker.connect().await else {
            worker.recover().await;
            continue;
        };
        let mut stop = worker.stop_signal();
        let mut stream = Stream::new(&worker, worker.stream_id());
        let outcome = match connection.stream.bare() {
            Some(socket) => stream.carry(socket, &mut stop).await,
            None => Err(Failure::new(
                Class::Failed,
                Phase::Connecting,
                "a numbered stream is not carried inside TLS",
            )),
        };
        stream.settle(&outcome);
        worker.end_connection(connection, &outcome);
        if outcome.is_err() {
            worker.recover().await;
        }
    }
}

/// Clients begin spread over one interval: otherwise all blocks of a load would be due at the same moment.
pub(super) async fn spread(worker: &mut Worker) {
    let share = worker.id % worker.load.connections as u64;
    let delay = worker
        .load
        .trickle
        .mul_f64(share as f64 / worker.load.connections as f64);
    worker.wait_until(Instant::now() + delay).await;
}

/// The numbered stream of one connection.
struct Stream<'a> {
    worker: &'a Worker,
    id: u64,
    checker: Checker,
    /// When the blocks under way count from, in their order.
    under_way: VecDeque<Instant>,
    /// Number of the next block to send.
    next: u64,
    due: Instant,
    out: Vec<u8>,
    sent: usize,
    is_stopping: bool,
    has_ended: bool,
    moved: Instant,
}

/// What a step found.
enum Step {
    Continue,
    /// The other side ended its direction.
    End,
}

impl<'a> Stream<'a> {
    fn new(worker: &'a Worker, id: u64) -> Self {
        let now = Instant::now();
        Self {
            worker,
            id,
            checker: Checker::new(id),
            under_way: VecDeque::new(),
            next: 0,
            due: now,
            out: Vec::new(),
            sent: 0,
            is_stopping: false,
            has_ended: false,
            moved: now,
        }
    }

    /// Carries the stream until the run ends and everything has come back.
    async fn carry(
        &mut self,
        socket: &mut TcpStream,
        stop: &mut watch::Receiver<Option<Instant>>,
    ) -> Result<(), Failure> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            if self.is_stopping && !self.has_ended && self.out.is_empty() {
                self.has_ended = true;
                // From now on the other side owes us its end; between two blocks it owed nothing.
                self.moved = Instant::now();
                socket
                    .shutdown()
                    .await
                    .map_err(|error| Failure::from_io(Phase::Sending, &error))?;
            }
            let stall = self.moved + self.worker.load.limits.stall;
            tokio::select! {
                ready = socket.readable() => {
                    ready.map_err(|error| Failure::from_io(self.phase(), &error))?;
                    if let Step::End = self.read(socket, &mut buffer)? {
                        return self.check_end();
                    }
                }
                ready = socket.writable(), if !self.out.is_empty() => {
                    ready.map_err(|error| Failure::from_io(Phase::Sending, &error))?;
                    self.write(socket)?;
                }
                () = sleep_until(self.due.into()), if self.may_send() => self.queue_block(),
                () = stopped(stop), if !self.is_stopping => self.is_stopping = true,
                () = sleep_until(stall.into()), if self.is_waiting() => {
                    return Err(Failure::hung(self.phase(), self.worker.load.limits.stall));
                }
            }
        }
    }

    fn may_send(&self) -> bool {
        !self.is_stopping && self.under_way.len() < UNDER_WAY_MAX
    }

    /// True while the other side owes us something.
    fn is_waiting(&self) -> bool {
        self.has_ended || !self.under_way.is_empty()
    }

    fn phase(&self) -> Phase {
        match (self.under_way.is_empty(), self.has_ended) {
            (false, _) => Phase::Receiving,
            (true, true) => Phase::Ending,
            (true, false) => Phase::Idle,
        }
    }

    fn queue_block(&mut self) {
        let now = Instant::now();
        if !self.is_waiting() {
            // Nothing was owed until now: the stall limit counts from this block.
            self.moved = now;
        }
        self.worker.begin_block();
        self.under_way.push_back(intended_start(self.due, now));
        write_block(self.id, self.next, &mut self.out);
        self.next += 1;
        // A trickle of zero still yields to the socket between two blocks.
        self.due += self.worker.load.trickle.max(Duration::from_micros(1));
    }

    fn write(&mut self, socket: &TcpStream) -> Result<(), Failure> {
        match socket.try_write(self.out.get(self.sent..).unwrap_or_default()) {
            Ok(length) => {
                self.sent += length;
                self.moved = Instant::now();
                if self.sent >= self.out.len() {
                    self.out.clear();
                    self.sent = 0;
                }
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(Failure::from_io(Phase::Sending, &error)),
        }
    }

    fn read(&mut self, socket: &TcpStream, buffer: &mut [u8]) -> Result<Step, Failure> {
        let length = match socket.try_read(buffer) {
            Ok(0) => return Ok(Step::End),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Step::Continue),
            Err(error) => return Err(Failure::from_io(self.phase(), &error)),
        };
        self.moved = Instant::now();
        let received = buffer.get(..length).unwrap_or_default();
        let wrong = |what| Failure::new(Class::WrongBytes, Phase::Receiving, what);
        let completed = self.checker.take(received).map_err(wrong)?;
        let bytes = received.len() as u64;
        for number in 0..completed {
            // The bytes of a read count with the first block that it completed.
            let traffic = if number == 0 {
                Traffic {
                    sent: bytes,
                    received: bytes,
                }
            } else {
                Traffic::default()
            };
            match self.under_way.pop_front() {
                Some(start) => self.worker.end_exchange(start, &Ok(traffic)),
                None => return Err(wrong("a block came back that was not sent yet".to_owned())),
            }
        }
        Ok(Step::Continue)
    }

    fn check_end(&self) -> Result<(), Failure> {
        if self.has_ended && self.under_way.is_empty() && self.checker.is_between_blocks() {
            return Ok(());
        }
        let what = format!(
            "the stream ended after {} of {} blocks",
            self.checker.blocks(),
            self.next
        );
        Err(Failure::new(Class::Cut, self.phase(), what))
    }

    /// Blocks still under way share the fate of the connection.
    fn settle(&mut self, outcome: &Result<(), Failure>) {
        let failure = outcome
            .clone()
            .err()
            .unwrap_or_else(|| Failure::cut(0, "the last block's"));
        for start in self.under_way.drain(..) {
            self.worker.end_exchange(start, &Err(failure.clone()));
        }
    }
}
