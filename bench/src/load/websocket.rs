//! The WebSocket shape: one tunnel for the whole run, with numbered messages both ways at a fixed interval.
//!
//! Room  one loop over socket, clock and stop signal; the frames are tungstenite's, the blocks are in `numbered`.
//! In    an HTTP target whose path is a WebSocket echo.
//! Out   one connection, and per message one exchange, in the ledger.
//! Holds a message comes back as one message, in its order, byte by byte; a tunnel ends when we end it, or at the
//!       bound of a drain (`drains`), and everything else is a loss.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::long_lived::spread;
use super::pace::intended_start;
use super::stream::Stream;
use super::wire::Failure;
use super::worker::{Connection, Worker, stopped};
use crate::ledger::{Class, Phase, Traffic};
use crate::numbered::{Checker, write_block};
use crate::target::Target;

/// Messages under way at most, as in `long_lived`.
const UNDER_WAY_MAX: usize = 64;

type Socket = WebSocketStream<Stream>;

pub(super) async fn run(mut worker: Worker) {
    spread(&mut worker).await;
    while !worker.is_over(Instant::now()) {
        let Ok(connection) = worker.connect().await else {
            worker.recover().await;
            continue;
        };
        let Connection {
            stream,
            established,
        } = connection;
        let connected = Instant::now();
        let mut stop = worker.stop_signal();
        let mut tunnel = Tunnel::new(&worker, worker.stream_id());
        let outcome = match open(&worker, stream).await {
            Ok(mut socket) => tunnel.carry(&mut socket, &mut stop).await,
            Err(failure) => Err(failure),
        };
        let under_way = tunnel.under_way;
        match &outcome {
            Err(Ending::Ended(_)) if is_at_bound(&worker, connected) => {
                worker.end_at_bound(established, under_way.len() as u64);
                continue;
            }
            _ => {}
        }
        let outcome = outcome.map_err(Ending::into_failure);
        for start in under_way {
            let fate = outcome.clone().map(|()| Traffic::default());
            worker.end_exchange(start, &fate);
        }
        worker.end_connection(established, &outcome);
        if outcome.is_err() {
            worker.recover().await;
        }
    }
}

fn is_at_bound(worker: &Worker, connected: Instant) -> bool {
    worker
        .load
        .drains
        .as_ref()
        .is_some_and(|drains| drains.explain(connected, Instant::now()))
}

/// Why a tunnel ended.
enum Ending {
    /// The other side ended it, in whatever way.
    Ended(Failure),
    /// It is wrong, whoever ends it.
    Wrong(Failure),
}

impl Ending {
    fn into_failure(self) -> Failure {
        match self {
            Self::Ended(failure) | Self::Wrong(failure) => failure,
        }
    }
}

/// The upgrade (RFC 6455 section 4.1).
async fn open(worker: &Worker, stream: Stream) -> Result<Socket, Ending> {
    let stall = worker.load.limits.stall;
    let wrong = |class, what: String| Ending::Wrong(Failure::new(class, Phase::Receiving, what));
    let Target::Http {
        authority,
        path,
        is_tls,
        ..
    } = &worker.load.target
    else {
        return Err(wrong(Class::Failed, "no HTTP target".to_owned()));
    };
    let scheme = if *is_tls { "wss" } else { "ws" };
    let asked = client_async(format!("{scheme}://{authority}{path}"), stream);
    match timeout(stall, asked).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(Error::Http(answer))) => {
            let what = format!("status {} instead of 101", answer.status());
            Err(wrong(Class::BadStatus, what))
        }
        Ok(Err(error)) => Err(Ending::Wrong(failure(Phase::Receiving, &error))),
        Err(_) => Err(Ending::Wrong(Failure::hung(Phase::Receiving, stall))),
    }
}

fn failure(phase: Phase, error: &Error) -> Failure {
    match error {
        Error::Io(error) => Failure::from_io(phase, error),
        other => Failure::new(Class::Cut, phase, other.to_string()),
    }
}

/// The numbered messages of one connection.
struct Tunnel<'a> {
    worker: &'a Worker,
    id: u64,
    checker: Checker,
    /// When the messages under way count from, in their order.
    under_way: VecDeque<Instant>,
    next: u64,
    due: Instant,
    moved: Instant,
    is_stopping: bool,
}

impl<'a> Tunnel<'a> {
    fn new(worker: &'a Worker, id: u64) -> Self {
        let now = Instant::now();
        Self {
            worker,
            id,
            checker: Checker::new(id),
            under_way: VecDeque::new(),
            next: 0,
            due: now,
            moved: now,
            is_stopping: false,
        }
    }

    /// Carries messages until the run ends and everything has come back.
    async fn carry(
        &mut self,
        socket: &mut Socket,
        stop: &mut watch::Receiver<Option<Instant>>,
    ) -> Result<(), Ending> {
        let limit = self.worker.load.limits.stall;
        loop {
            if self.is_stopping && self.under_way.is_empty() {
                return close(socket, limit).await;
            }
            let stall = self.moved + limit;
            tokio::select! {
                message = socket.next() => self.take(message)?,
                () = sleep_until(self.due.into()), if self.may_send() => self.send(socket, limit).await?,
                () = stopped(stop), if !self.is_stopping => self.is_stopping = true,
                () = sleep_until(stall.into()), if !self.under_way.is_empty() => {
                    return Err(Ending::Wrong(Failure::hung(Phase::Receiving, limit)));
                }
            }
        }
    }

    fn may_send(&self) -> bool {
        !self.is_stopping && self.under_way.len() < UNDER_WAY_MAX
    }

    fn phase(&self) -> Phase {
        if self.under_way.is_empty() {
            Phase::Idle
        } else {
            Phase::Receiving
        }
    }

    async fn send(&mut self, socket: &mut Socket, limit: Duration) -> Result<(), Ending> {
        let now = Instant::now();
        if self.under_way.is_empty() {
            // Nothing was owed until now: the stall limit counts from this message.
            self.moved = now;
        }
        self.worker.begin_block();
        self.under_way.push_back(intended_start(self.due, now));
        let mut block = Vec::new();
        write_block(self.id, self.next, &mut block);
        self.next += 1;
        self.due += self.worker.load.trickle.max(Duration::from_micros(1));
        match timeout(limit, socket.send(Message::Binary(block.into()))).await {
            Ok(sent) => sent.map_err(|error| Ending::Ended(failure(Phase::Sending, &error))),
            Err(_) => Err(Ending::Wrong(Failure::hung(Phase::Sending, limit))),
        }
    }

    fn take(&mut self, message: Option<Result<Message, Error>>) -> Result<(), Ending> {
        let ended = |what| Ending::Ended(Failure::new(Class::Cut, self.phase(), what));
        match message {
            Some(Ok(Message::Binary(bytes))) => self.take_block(&bytes).map_err(|what| {
                Ending::Wrong(Failure::new(Class::WrongBytes, Phase::Receiving, what))
            }),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Close(_))) => Err(ended("the other side closed the tunnel")),
            Some(Ok(Message::Text(_) | Message::Frame(_))) => Err(Ending::Wrong(Failure::new(
                Class::WrongBytes,
                Phase::Receiving,
                "a message that nobody sent",
            ))),
            Some(Err(error)) => Err(Ending::Ended(failure(self.phase(), &error))),
            None => Err(ended("the tunnel ended")),
        }
    }

    /// One message is one block.
    fn take_block(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.moved = Instant::now();
        let completed = self.checker.take(bytes)?;
        if completed != 1 || !self.checker.is_between_blocks() {
            return Err("a message came back in other pieces than it was sent".to_owned());
        }
        let start = self
            .under_way
            .pop_front()
            .ok_or("a message came back that was not sent yet")?;
        let length = bytes.len() as u64;
        let traffic = Traffic {
            sent: length,
            received: length,
        };
        self.worker.end_exchange(start, &Ok(traffic));
        Ok(())
    }
}

/// Our close, then the other side's, then the end (RFC 6455 section 7.1.1).
async fn close(socket: &mut Socket, limit: Duration) -> Result<(), Ending> {
    let closing = async {
        socket.close(None).await?;
        while let Some(message) = socket.next().await {
            match message? {
                Message::Close(_) | Message::Ping(_) | Message::Pong(_) => {}
                _ => {
                    return Err(Error::Io(std::io::Error::other(
                        "a message after the last one",
                    )));
                }
            }
        }
        Ok(())
    };
    match timeout(limit, closing).await {
        Ok(closed) => closed.map_err(|error| Ending::Ended(failure(Phase::Ending, &error))),
        Err(_) => Err(Ending::Wrong(Failure::hung(Phase::Ending, limit))),
    }
}
