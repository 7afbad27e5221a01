//! A load: clients that open connections, ask, check every byte of the answer, and write it all into a ledger.
//!
//! Room  starting and ending the clients; each shape of load has its file.
//! In    a target, a shape, how many connections, for how fast and how long.
//! Out   a `Running` load, at any time a snapshot of its `Ledger`, at the end the whole one.
//! Holds every wait of a client has a limit, so `Running::finish` ends; everything started is in the ledger.
//!
//! ```text
//! Load ──start──> Running ──snapshot──> Ledger (some things open)
//!                    └─────finish────> Ledger (everything settled, or unaccounted and therefore not clean)
//! ```

mod drains;
mod exchange;
mod http;
mod http2;
mod keep_alive;
mod long_lived;
mod pace;
mod recorder;
mod response;
mod running;
mod short;
mod stream;
mod websocket;
mod wire;
mod worker;

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::target::Target;
use crate::trust::Trust;
pub use drains::Drains;
use pace::Pace;
use recorder::Recorder;
pub use running::Running;
use wire::Tls;
use worker::Worker;

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One TCP connection per exchange: connect, one echo or request, expect exactly the answer and then the end.
    Short,
    /// Many exchanges on one connection, then a polite end and the next connection.
    KeepAlive,
    /// One connection for the whole run, with numbered, checksummed blocks both ways at a fixed interval (echo only).
    LongLived,
    /// Half short, a quarter keep-alive, a quarter long-lived; over HTTP half short, half keep-alive.
    Mix,
    /// HTTP/2: on each connection several requests at the same time, and a new connection where the server says
    /// GOAWAY (RFC 9113 section 6.8); requests that it did not look at are asked again there.
    Http2,
    /// One WebSocket for the whole run with numbered, checksummed messages both ways at a fixed interval (an echo).
    WebSocket,
    /// One exchange, then an idle connection until the end of the run; what happens to it meanwhile is a loss. `rate` says
    /// how many a second are opened.
    Idle,
}

/// What the far end does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Returns every byte.
    Echo,
    /// Swallows every byte, answers nothing, ends when we end (short connections only).
    Discard,
    /// Answers `GET /bytes/N` with the pattern of this crate: every byte is checked.
    Pattern,
    /// Answers with status 2xx and a complete body of any content.
    Complete,
}

/// What it means when a kept connection ends politely between two exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleClose {
    /// The connection was cut: right for an L4 proxy, which has no say in it.
    IsCut,
    /// The connection was fine (RFC 9112 section 9.5 allows it); it is counted in `Ledger::idle_closes`.
    Allowed,
}

/// How long a client waits for what.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From SYN to established; then `connect_timed_out`. Covers two SYN retransmissions (1 s + 2 s) and some more.
    pub connect: Duration,
    /// Without a byte moving; then `hung`. Longer than any stall that a client would still call slow.
    pub stall: Duration,
    /// For a whole exchange with its connecting, counted from its intended start; then `timed_out`.
    pub exchange: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            stall: Duration::from_secs(5),
            exchange: Duration::from_secs(15),
        }
    }
}

/// Everything that describes a load. Make one with [`Load::new`], change fields, then [`Load::start`].
#[derive(Clone, Debug)]
pub struct Load {
    /// Where it goes.
    pub target: Target,
    /// Whom the clients trust; https needs it.
    pub trust: Option<Trust>,
    /// What the clients do.
    pub shape: Shape,
    /// How many clients; each has at most one connection at a time.
    pub connections: usize,
    /// Open loop: exchanges per second over all short and keep-alive clients, with due times fixed in advance; an
    /// exchange that starts late has waited since it was due. `None`: closed loop, as fast as answers come.
    pub rate: Option<NonZeroU32>,
    /// Closed loop: the pause of a client between two exchanges.
    pub pause: Duration,
    /// Long-lived: the time between two blocks of a connection; also an open loop, of its own.
    pub trickle: Duration,
    /// Echo: how many bytes a payload has (chosen at random).
    pub payload_bytes: RangeInclusive<u64>,
    /// Keep-alive: exchanges on one connection before it is ended politely. Bounded, so that connections move to
    /// the successor of a swap by themselves.
    pub exchanges_per_connection: u64,
    /// HTTP/2: requests at the same time on a connection.
    pub streams_per_connection: u64,
    /// WebSocket: the drains that may end a tunnel; `None`: nothing may.
    pub drains: Option<Drains>,
    /// What the far end does; a WebSocket's end is always an echo.
    pub expect: Expect,
    /// Whether the far end may end idle connections.
    pub idle_close: IdleClose,
    /// How long a client waits for what.
    pub limits: Limits,
    /// Width of the ledger's slices of time.
    pub slice: Duration,
    /// When the run began: the zero of all times in the ledger. Loads whose ledgers are merged share it.
    pub epoch: Instant,
    /// Where the random numbers begin; the same seed makes the same payloads.
    pub seed: u64,
}

/// Why a load cannot be started.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartLoadError {
    /// Zero clients.
    #[error("a load needs at least one connection")]
    NoConnections,
    /// Long-lived streams need an echo.
    #[error(
        "long-lived connections carry an echoed stream: aim them at tcp://HOST:PORT of an echo listener"
    )]
    LongLivedNeedsEcho,
    /// Shapes that are made of HTTP.
    #[error("HTTP/2 and WebSocket clients need a target of http:// or https://")]
    NeedsHttp,
    /// A discarding listener answers nothing that a kept connection could check.
    #[error(
        "a listener that discards can be measured with short connections only: use --shape short"
    )]
    DiscardNeedsShort,
    /// TCP expectation for HTTP or the reverse.
    #[error(
        "{expect:?} cannot be expected of {target}: tcp:// has echo and discard, http:// pattern and complete"
    )]
    Expectation {
        /// What was to be expected.
        expect: Expect,
        /// Of whom.
        target: String,
    },
    /// Pattern without a length.
    #[error(
        "only /bytes/N promises bytes that can be checked: use that path, or expect `complete`"
    )]
    PatternNeedsLength,
    /// TLS without anybody to trust.
    #[error("https needs to know whom to trust: --ca FILE, or --insecure for anybody")]
    NoTrust,
    /// The target's host is no name that a certificate could have.
    #[error("`{0}` cannot be the name in a certificate")]
    ServerName(String),
    /// No bytes to send.
    #[error(
        "the payload of an exchange must have at least 1 byte, and its range must not be empty"
    )]
    EmptyPayload,
}

impl Load {
    /// A closed-loop load with the limits that suit loopback and one site.
    pub fn new(target: Target, shape: Shape, connections: usize) -> Self {
        let expect = match (&target, target.promised_length()) {
            (Target::Tcp { .. }, _) => Expect::Echo,
            (Target::Http { .. }, Some(_)) => Expect::Pattern,
            (Target::Http { .. }, None) => Expect::Complete,
        };
        Self {
            target,
            trust: None,
            shape,
            connections,
            rate: None,
            pause: Duration::ZERO,
            trickle: Duration::from_millis(50),
            payload_bytes: 1..=16 * 1024,
            exchanges_per_connection: 100,
            streams_per_connection: 8,
            drains: None,
            expect,
            idle_close: IdleClose::IsCut,
            limits: Limits::default(),
            slice: Duration::from_millis(250),
            epoch: Instant::now(),
            seed: 0x5EED,
        }
    }

    /// Starts the clients on the current tokio runtime.
    ///
    /// # Errors
    /// A combination that cannot be measured.
    pub fn start(self) -> Result<Running, StartLoadError> {
        self.check()?;
        let (stop, stopped) = watch::channel(None);
        let recorder = Arc::new(Recorder::new(self.slice, self.epoch));
        let pace = Arc::new(Pace::new(self.rate, self.pause, Instant::now()));
        let tls = self.tls()?;
        let load = Arc::new(self);
        let mut clients = JoinSet::new();
        let mut id = 0;
        for (shape, connections) in load.divide() {
            for _ in 0..connections {
                let worker = Worker::new(
                    id,
                    load.clone(),
                    tls.clone(),
                    pace.clone(),
                    recorder.clone(),
                    stopped.clone(),
                );
                spawn(&mut clients, shape, worker);
                id += 1;
            }
        }
        Ok(Running::new(load.limits, recorder, stop, clients))
    }

    /// What the clients' handshakes need; `None` without TLS.
    fn tls(&self) -> Result<Option<Tls>, StartLoadError> {
        let Some(name) = self.target.server_name() else {
            return Ok(None);
        };
        let trust = self.trust.as_ref().ok_or(StartLoadError::NoTrust)?;
        let server = rustls::pki_types::ServerName::try_from(name.to_owned())
            .map_err(|_| StartLoadError::ServerName(name.to_owned()))?;
        Ok(Some(Tls {
            connector: trust.offering(self.shape.protocol()).into(),
            server,
        }))
    }

    fn check(&self) -> Result<(), StartLoadError> {
        let is_tcp = matches!(self.target, Target::Tcp { .. });
        let fits = is_tcp == matches!(self.expect, Expect::Echo | Expect::Discard);
        let is_long_lived = self.shape == Shape::LongLived;
        if self.connections == 0 {
            Err(StartLoadError::NoConnections)
        } else if is_tcp && matches!(self.shape, Shape::Http2 | Shape::WebSocket) {
            Err(StartLoadError::NeedsHttp)
        } else if !fits {
            Err(StartLoadError::Expectation {
                expect: self.expect,
                target: self.target.to_string(),
            })
        } else if is_long_lived && self.expect != Expect::Echo {
            Err(StartLoadError::LongLivedNeedsEcho)
        } else if self.expect == Expect::Discard && self.shape != Shape::Short {
            Err(StartLoadError::DiscardNeedsShort)
        } else if self.expect == Expect::Pattern && self.target.promised_length().is_none() {
            Err(StartLoadError::PatternNeedsLength)
        } else if self.payload_bytes.is_empty() || *self.payload_bytes.start() == 0 {
            Err(StartLoadError::EmptyPayload)
        } else {
            Ok(())
        }
    }

    /// How many clients have which shape; a mix gives the rest of a division to the short ones.
    fn divide(&self) -> Vec<(Shape, usize)> {
        let all = self.connections;
        match (self.shape, &self.target) {
            (Shape::Mix, Target::Http { .. }) => {
                vec![(Shape::Short, all - all / 2), (Shape::KeepAlive, all / 2)]
            }
            (Shape::Mix, Target::Tcp { .. }) => {
                let quarter = all / 4;
                vec![
                    (Shape::Short, all - 2 * quarter),
                    (Shape::KeepAlive, quarter),
                    (Shape::LongLived, quarter),
                ]
            }
            (shape, _) => vec![(shape, all)],
        }
    }
}

impl Shape {
    /// What is offered in the TLS handshake (RFC 7301).
    fn protocol(self) -> &'static [u8] {
        match self {
            Self::Http2 => b"h2",
            _ => b"http/1.1",
        }
    }
}

fn spawn(clients: &mut JoinSet<()>, shape: Shape, worker: Worker) {
    match shape {
        Shape::Http2 => clients.spawn(http2::run(worker)),
        Shape::WebSocket => clients.spawn(websocket::run(worker)),
        Shape::KeepAlive => clients.spawn(keep_alive::run(worker)),
        Shape::Idle => clients.spawn(keep_alive::run_once(worker)),
        Shape::LongLived => clients.spawn(long_lived::run(worker)),
        Shape::Short | Shape::Mix => clients.spawn(short::run(worker)),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(target: &str, shape: Shape, connections: usize) -> Load {
        Load::new(Target::parse(target).unwrap(), shape, connections)
    }

    #[test]
    fn combinations_that_cannot_be_measured_are_refused() {
        let http = "http://127.0.0.1:1/bytes/5";
        let tcp = "tcp://127.0.0.1:1";
        assert_eq!(
            load(tcp, Shape::Short, 0).check(),
            Err(StartLoadError::NoConnections)
        );
        assert_eq!(
            load(http, Shape::LongLived, 1).check(),
            Err(StartLoadError::LongLivedNeedsEcho)
        );
        let discard = Load {
            expect: Expect::Discard,
            ..load(tcp, Shape::KeepAlive, 1)
        };
        assert_eq!(discard.check(), Err(StartLoadError::DiscardNeedsShort));
        let pattern = Load {
            expect: Expect::Pattern,
            ..load("http://127.0.0.1:1/x", Shape::Short, 1)
        };
        assert_eq!(pattern.check(), Err(StartLoadError::PatternNeedsLength));
        let echo = Load {
            expect: Expect::Echo,
            ..load(http, Shape::Short, 1)
        };
        assert!(matches!(
            echo.check(),
            Err(StartLoadError::Expectation { .. })
        ));
        let empty = Load {
            payload_bytes: 0..=1,
            ..load(tcp, Shape::Short, 1)
        };
        assert_eq!(empty.check(), Err(StartLoadError::EmptyPayload));
        assert_eq!(load(tcp, Shape::Mix, 1).check(), Ok(()));
        for shape in [Shape::Http2, Shape::WebSocket] {
            assert_eq!(load(tcp, shape, 1).check(), Err(StartLoadError::NeedsHttp));
            assert_eq!(load(http, shape, 1).check(), Ok(()));
        }
    }

    #[test]
    fn a_mix_has_as_many_clients_as_asked_for() {
        for target in ["tcp://127.0.0.1:1", "http://127.0.0.1:1/"] {
            for connections in 1..20 {
                let parts = load(target, Shape::Mix, connections).divide();
                assert_eq!(
                    parts.iter().map(|(_, count)| count).sum::<usize>(),
                    connections
                );
            }
        }
    }
}
