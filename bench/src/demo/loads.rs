//! The loads of the demo: for lb short connections, keep-alive requests and long-lived streams; for edge requests over
//! TLS and in clear, on kept and on new connections, HTTP/2 and WebSockets.
//!
//! Room  how many of which, how fast.
//! In    the entries, the number of clients.
//! Out   running loads and one ledger for each kind.
//! Holds all loads share one beginning of time; lb's long-lived streams are added after each swap, so that every
//!       generation accepts some that go on to the end. (Edge's WebSockets in clear do, too; those over TLS begin anew at
//!       the bound of a drain.)

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::entries::{Entries, HOST};
use crate::ledger::Ledger;
use crate::load::{Drains, IdleClose, Load, Running, Shape, StartLoadError};
use crate::target::Target;
use crate::trust::Trust;

/// Fewer clients would leave a load without any.
pub(super) const CONNECTIONS_MIN: usize = 12;

/// Short connections per second: enough that every millisecond of a swap meets some, little enough that two cores
/// shared with everything else are not the bottleneck.
const SHORT_RATE: u32 = 300;

/// The same over TLS, where each one is a handshake on both sides.
const HANDSHAKE_RATE: u32 = 80;

/// Requests per second on kept connections.
const REQUEST_RATE: u32 = 1_200;

/// The same for each of the three kinds of kept connections at edge.
const EDGE_REQUEST_RATE: u32 = 300;

/// Requests on one connection: with the rate above connections are renewed every few seconds.
const REQUESTS_PER_CONNECTION: u64 = 50;

/// Requests on one HTTP/2 connection.
const REQUESTS_PER_HTTP2_CONNECTION: u64 = 200;

/// What a request asks for.
const PATH: &str = "/bytes/4096";

/// Where the origins echo WebSockets.
const WEBSOCKET_PATH: &str = "/websocket";

/// Streams that are added after each swap.
const STREAMS_PER_SWAP: usize = 8;

/// How long all clients of a load may take to be connected.
const ESTABLISH_LIMIT: Duration = Duration::from_secs(15);

/// Between two looks at how many are.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The loads under way.
#[derive(Debug)]
pub(super) struct Loads {
    running: Vec<(&'static str, Running)>,
    echo: Option<Target>,
    kept: usize,
    seed: u64,
    pub(super) epoch: Instant,
}

impl Loads {
    pub(super) fn start(entries: &Entries, connections: usize) -> Result<Self, StartLoadError> {
        let epoch = Instant::now();
        let (plan, echo) = match entries {
            Entries::Lb { echo, web } => {
                let echo = Target::tcp(*echo);
                let plan = at_lb(&echo, Target::http(*web, PATH), connections);
                (plan, Some(echo))
            }
            Entries::Edge {
                https,
                http,
                trust,
                drains,
            } => {
                let secure = |path| Target::https(*https, HOST, path);
                let targets = [
                    secure(PATH),
                    Target::http(*http, PATH),
                    secure(WEBSOCKET_PATH),
                    Target::http(*http, WEBSOCKET_PATH),
                ];
                (at_edge(targets, trust, drains, connections), None)
            }
        };
        let is_kept = |load: &&(_, Load)| load.1.shape != Shape::Short;
        let kept = plan
            .iter()
            .filter(is_kept)
            .map(|(_, load)| load.connections);
        let kept = kept.sum();
        let start = |(name, load)| Ok((name, Load { epoch, ..load }.start()?));
        Ok(Self {
            running: plan.into_iter().map(start).collect::<Result<_, _>>()?,
            echo,
            kept,
            seed: 1,
            epoch,
        })
    }

    /// Waits until the kept connections and the streams are there. False: they are not in time.
    pub(super) async fn wait_until_established(&self) -> bool {
        let deadline = Instant::now() + ESTABLISH_LIMIT;
        while self.established() < self.kept {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(LOOK_INTERVAL).await;
        }
        true
    }

    /// Streams that begin now, on whatever generation accepts now.
    pub(super) fn add_streams(&mut self) -> Result<(), StartLoadError> {
        let Some(echo) = &self.echo else {
            return Ok(());
        };
        self.seed += 1;
        let load = Load::new(echo.clone(), Shape::LongLived, STREAMS_PER_SWAP);
        let load = Load {
            epoch: self.epoch,
            seed: self.seed,
            ..load
        };
        self.running.push((STREAMS, load.start()?));
        Ok(())
    }

    pub(super) fn established(&self) -> usize {
        self.running
            .iter()
            .map(|(_, running)| running.established())
            .sum()
    }

    pub(super) fn snapshot(&self) -> Ledger {
        merge(self.running.iter().map(|(_, running)| running.snapshot()))
    }

    /// Ends all loads together, politely, and gives the whole account by kind.
    pub(super) async fn finish(self) -> Vec<(&'static str, Ledger)> {
        self.running.iter().for_each(|(_, running)| running.stop());
        let mut parts: Vec<(_, Ledger)> = Vec::new();
        for (name, running) in self.running {
            let ledger = running.finish().await;
            match parts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, part)) => part.merge(&ledger),
                None => parts.push((name, ledger)),
            }
        }
        parts
    }
}

/// A kind of traffic that is added to.
const STREAMS: &str = "long-lived streams";

/// Of six clients one makes short connections, two carry streams, three keep connections for requests.
fn at_lb(echo: &Target, web: Target, connections: usize) -> Vec<(&'static str, Load)> {
    let (short, streams) = (connections / 6, connections / 3);
    let kept = connections - short - streams;
    vec![
        (
            "short connections",
            Load {
                rate: NonZeroU32::new(SHORT_RATE),
                ..Load::new(echo.clone(), Shape::Short, short)
            },
        ),
        (
            "HTTP/1.1 kept",
            Load {
                rate: NonZeroU32::new(REQUEST_RATE),
                exchanges_per_connection: REQUESTS_PER_CONNECTION,
                ..Load::new(web, Shape::KeepAlive, kept)
            },
        ),
        (STREAMS, Load::new(echo.clone(), Shape::LongLived, streams)),
    ]
}

/// Of twelve clients three make new TLS connections, three keep some, one keeps some in clear, one speaks HTTP/2, four
/// carry WebSockets, half of them in clear.
fn at_edge(
    [secure, clear, websocket, websocket_in_clear]: [Target; 4],
    trust: &Trust,
    drains: &Drains,
    connections: usize,
) -> Vec<(&'static str, Load)> {
    let (one, three) = (connections / 12, connections / 4);
    let tunnels = connections - 2 * one - 2 * three;
    // What a draining edge may do with HTTP connections: close them between two answers (RFC 9112 section 9.5).
    let load = |target: &Target, shape, connections, rate| Load {
        trust: Some(trust.clone()),
        rate: NonZeroU32::new(rate),
        exchanges_per_connection: REQUESTS_PER_CONNECTION,
        idle_close: IdleClose::Allowed,
        ..Load::new(target.clone(), shape, connections)
    };
    vec![
        (
            "HTTP/1.1 over TLS, new",
            load(&secure, Shape::Short, three, HANDSHAKE_RATE),
        ),
        (
            "HTTP/1.1 over TLS, kept",
            load(&secure, Shape::KeepAlive, three, EDGE_REQUEST_RATE),
        ),
        (
            "HTTP/1.1 in clear, kept",
            load(&clear, Shape::KeepAlive, one, EDGE_REQUEST_RATE),
        ),
        (
            "HTTP/2 over TLS",
            Load {
                exchanges_per_connection: REQUESTS_PER_HTTP2_CONNECTION,
                ..load(&secure, Shape::Http2, one, EDGE_REQUEST_RATE)
            },
        ),
        (
            "WebSockets over TLS",
            Load {
                drains: Some(drains.clone()),
                ..load(&websocket, Shape::WebSocket, tunnels - tunnels / 2, 0)
            },
        ),
        // Nothing may end these: they move.
        (
            "WebSockets in clear",
            load(&websocket_in_clear, Shape::WebSocket, tunnels / 2, 0),
        ),
    ]
}

pub(super) fn merge(ledgers: impl Iterator<Item = Ledger>) -> Ledger {
    ledgers
        .reduce(|mut whole, part| {
            whole.merge(&part);
            whole
        })
        .unwrap_or_else(|| Ledger::new(Duration::from_millis(250)))
}
