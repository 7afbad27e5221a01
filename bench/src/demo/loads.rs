//! The three loads of the demo: short connections, keep-alive requests, long-lived streams.
//!
//! Room  how many of which, how fast.
//! In    the two listeners, the number of clients.
//! Out   running loads and one merged ledger.
//! Holds all loads share one beginning of time; long-lived streams are added after each swap, so that every
//!       generation has some to carry to its end.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::scene::Scene;
use crate::ledger::Ledger;
use crate::load::{Load, Running, Shape, StartLoadError};
use crate::target::Target;

/// Fewer clients would leave a load without any.
pub(super) const CONNECTIONS_MIN: usize = 6;

/// Short connections per second: enough that every millisecond of a swap meets some, little enough that two cores
/// shared with everything else are not the bottleneck.
const SHORT_RATE: u32 = 300;

/// Requests per second on kept connections.
const REQUEST_RATE: u32 = 1_200;

/// Requests on one connection: with the rate above connections are renewed every few seconds.
const REQUESTS_PER_CONNECTION: u64 = 50;

/// What a request asks for.
const PATH: &str = "/bytes/4096";

/// Streams that are added after each swap.
const STREAMS_PER_SWAP: usize = 8;

/// How long all clients of a load may take to be connected.
const ESTABLISH_LIMIT: Duration = Duration::from_secs(15);

/// Between two looks at how many are.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The loads under way.
#[derive(Debug)]
pub(super) struct Loads {
    running: Vec<Running>,
    echo: Target,
    kept: usize,
    seed: u64,
    pub(super) epoch: Instant,
}

impl Loads {
    /// Of six clients one makes short connections, two carry streams, three keep connections for requests.
    pub(super) fn start(scene: &Scene, connections: usize) -> Result<Self, StartLoadError> {
        let (short, streams) = (connections / 6, connections / 3);
        let kept = connections - short - streams;
        let echo = Target::tcp(scene.echo);
        let epoch = Instant::now();
        let running = vec![
            Load {
                epoch,
                rate: NonZeroU32::new(SHORT_RATE),
                ..Load::new(echo.clone(), Shape::Short, short)
            }
            .start()?,
            Load {
                epoch,
                rate: NonZeroU32::new(REQUEST_RATE),
                exchanges_per_connection: REQUESTS_PER_CONNECTION,
                ..Load::new(Target::http(scene.web, PATH), Shape::KeepAlive, kept)
            }
            .start()?,
            Load {
                epoch,
                ..Load::new(echo.clone(), Shape::LongLived, streams)
            }
            .start()?,
        ];
        Ok(Self {
            running,
            echo,
            kept: kept + streams,
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
        self.seed += 1;
        let load = Load::new(self.echo.clone(), Shape::LongLived, STREAMS_PER_SWAP);
        self.running.push(
            Load {
                epoch: self.epoch,
                seed: self.seed,
                ..load
            }
            .start()?,
        );
        Ok(())
    }

    pub(super) fn established(&self) -> usize {
        self.running.iter().map(Running::established).sum()
    }

    pub(super) fn snapshot(&self) -> Ledger {
        merge(self.running.iter().map(Running::snapshot))
    }

    /// Ends all loads together, politely, and gives the whole account.
    pub(super) async fn finish(self) -> Ledger {
        self.running.iter().for_each(Running::stop);
        let mut ledgers = Vec::new();
        for running in self.running {
            ledgers.push(running.finish().await);
        }
        merge(ledgers.into_iter())
    }
}

fn merge(ledgers: impl Iterator<Item = Ledger>) -> Ledger {
    ledgers
        .reduce(|mut whole, part| {
            whole.merge(&part);
            whole
        })
        .unwrap_or_else(|| Ledger::new(Duration::from_millis(250)))
}
