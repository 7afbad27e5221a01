//! What the data path counts: single-writer counters of each shard, and their sum for everybody else.
//!
//! Room  counting only. No socket, no clock; publishing under metric names is the control thread's work.
//! In    events of one shard, from `shard/`, `relay` and `connect`.
//! Out   [`Totals`], summed over the shards by `ShardPool::totals`.
//! Holds every accepted connection is counted as ended at most once, so `active` is what was accepted or came from another
//!       process, minus what ended.

mod histogram;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use handoff::latency::{self, LATENCY_BUCKETS};

pub use histogram::Histogram;
use histogram::{Buckets, CONNECT_BOUNDS, DURATION_BOUNDS};

/// Why a connection ended. Each is counted. For all but [`End::Finished`] a side that still expected bytes
/// is reset, so that a cut never looks like a clean end.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum End {
    /// Both sides said their end of file, and everything was delivered.
    Finished,
    /// The client reset the connection, or its host stopped answering (keepalive, user timeout).
    ClientReset,
    /// The backend reset the connection, or its host stopped answering.
    BackendReset,
    /// No byte in either direction for the idle timeout.
    IdleTimeout,
    /// One side had ended and the other moved no byte for the half-close timeout.
    HalfCloseTimeout,
    /// The connection reached its maximum age.
    Lifetime,
    /// Every backend that was tried refused, failed or was too slow.
    ConnectFailed,
    /// No backend could be tried: none eligible, or all at their connection limit.
    NoBackend,
    /// The listener's connection limit was reached.
    Limit,
    /// The listener wants a PROXY header and what came was not one.
    BadProxyHeader,
    /// The listener wants a PROXY header and it was not complete in time.
    ProxyHeaderTimeout,
    /// The listener wants a PROXY header and the peer's address is not in a trusted network.
    UntrustedPeer,
    /// This host had no descriptor, memory or local port for a backend socket during the connect timeout.
    HostExhausted,
    /// A drain reached its deadline.
    CutByDrain,
    /// The shard was shut down under the connection.
    Shutdown,
    /// Another process serves it now (a swap); neither peer noticed.
    Moved,
    /// A bug in this program, kept to the one connection that met it.
    InternalError,
}

impl End {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 17] = [
        Self::Finished,
        Self::ClientReset,
        Self::BackendReset,
        Self::IdleTimeout,
        Self::HalfCloseTimeout,
        Self::Lifetime,
        Self::ConnectFailed,
        Self::NoBackend,
        Self::Limit,
        Self::BadProxyHeader,
        Self::ProxyHeaderTimeout,
        Self::UntrustedPeer,
        Self::HostExhausted,
        Self::CutByDrain,
        Self::Shutdown,
        Self::Moved,
        Self::InternalError,
    ];

    /// The reason as a metric label: lower case with underscores.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::ClientReset => "client_reset",
            Self::BackendReset => "backend_reset",
            Self::IdleTimeout => "idle_timeout",
            Self::HalfCloseTimeout => "half_close_timeout",
            Self::Lifetime => "lifetime",
            Self::ConnectFailed => "connect_failed",
            Self::NoBackend => "no_backend",
            Self::Limit => "limit",
            Self::BadProxyHeader => "bad_proxy_header",
            Self::ProxyHeaderTimeout => "proxy_header_timeout",
            Self::UntrustedPeer => "untrusted_peer",
            Self::HostExhausted => "host_exhausted",
            Self::CutByDrain => "cut_by_drain",
            Self::Shutdown => "shutdown",
            Self::Moved => "moved",
            Self::InternalError => "internal_error",
        }
    }

    /// Whether the load balancer or what stands behind it is to blame, not the client or a time limit.
    #[must_use]
    pub fn is_error(self) -> bool {
        matches!(
            self,
            Self::BackendReset
                | Self::ConnectFailed
                | Self::NoBackend
                | Self::Limit
                | Self::HostExhausted
                | Self::InternalError
        )
    }
}

/// A sum over all shards at one moment. Counters only grow; gauges say so.
#[derive(Clone, Debug)]
pub struct Totals {
    /// Connections open now (gauge), those that still look for a backend included.
    pub active: u64,
    /// Connections taken from the accept queue, those refused at once included.
    pub accepted: u64,
    /// Connections that came from another process, where they had been accepted.
    pub adopted: u64,
    ended: [u64; End::ALL.len()],
    /// Bytes written to backends, PROXY headers of ours included.
    pub bytes_to_backends: u64,
    /// Bytes written to clients.
    pub bytes_to_clients: u64,
    /// Of both, bytes that went through a pipe without being copied.
    pub bytes_spliced: u64,
    /// Bytes read and not yet written (gauge): what slow readers cost in memory, pipes included.
    pub bytes_pending: u64,
    /// Pipes lent to directions now (gauge).
    pub pipes_lent: u64,
    /// Attempts to connect a backend that were refused, failed or timed out.
    pub connect_failures: u64,
    /// Further backends tried for a connection whose earlier ones failed.
    pub retries: u64,
    /// Times a shard stopped accepting for a moment because the host had no descriptors or memory left.
    pub accept_pauses: u64,
    /// Connections that vanished between the queue and the accept, and other harmless accept errors.
    pub accept_errors: u64,
    /// Times a shard woke up, for whatever reason. A process that has nothing to do does not.
    pub wakeups: u64,
    /// Age at the end of each connection that had reached a backend.
    pub duration: Histogram,
    /// Time from the first byte of the handshake to a connected backend, successful attempts only.
    pub connect_time: Histogram,
    /// The same, by the buckets of the handoff.
    pub latency: Vec<u64>,
}

impl Totals {
    /// Nothing counted yet; the sum of no shards.
    pub(crate) fn zero() -> Self {
        Self {
            active: 0,
            accepted: 0,
            adopted: 0,
            ended: [0; End::ALL.len()],
            bytes_to_backends: 0,
            bytes_to_clients: 0,
            bytes_spliced: 0,
            bytes_pending: 0,
            pipes_lent: 0,
            connect_failures: 0,
            retries: 0,
            accept_pauses: 0,
            accept_errors: 0,
            wakeups: 0,
            duration: Histogram::empty(&DURATION_BOUNDS),
            connect_time: Histogram::empty(&CONNECT_BOUNDS),
            latency: vec![0; LATENCY_BUCKETS],
        }
    }

    /// How many connections ended for this reason.
    #[must_use]
    pub fn ended(&self, end: End) -> u64 {
        self.ended.get(end as usize).copied().unwrap_or(0)
    }

    /// How many connections ended, for any reason.
    #[must_use]
    pub fn ended_all(&self) -> u64 {
        self.ended.iter().sum()
    }

    /// Connections lost through the load balancer or what stands behind it; see [`End::is_error`].
    #[must_use]
    pub fn errors(&self) -> u64 {
        End::ALL
            .iter()
            .filter(|end| end.is_error())
            .map(|end| self.ended(*end))
            .sum()
    }

    /// Bytes carried in both directions.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes_to_backends + self.bytes_to_clients
    }
}

/// One number written by one thread and read by any: no lock, no locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicU64);

impl Tally {
    /// Only the shard's own thread may call this: two writers would lose counts.
    pub(crate) fn add(&self, amount: u64) {
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(amount);
        self.0.store(sum, Ordering::Release);
    }

    /// As [`Tally::add`], for gauges.
    pub(crate) fn subtract(&self, amount: u64) {
        let rest = self.0.load(Ordering::Relaxed).saturating_sub(amount);
        self.0.store(rest, Ordering::Release);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The counters of one shard; the fields mean what those of [`Totals`] mean.
#[derive(Debug)]
#[repr(align(128))] // a cache line pair of its own: shards never share one
pub(crate) struct Counters {
    pub(crate) accepted: Tally,
    pub(crate) adopted: Tally,
    ended: [Tally; End::ALL.len()],
    pub(crate) bytes_to_backends: Tally,
    pub(crate) bytes_to_clients: Tally,
    pub(crate) bytes_spliced: Tally,
    pub(crate) bytes_pending: Tally,
    pub(crate) pipes_lent: Tally,
    pub(crate) connect_failures: Tally,
    pub(crate) retries: Tally,
    pub(crate) accept_pauses: Tally,
    pub(crate) accept_errors: Tally,
    pub(crate) wakeups: Tally,
    pub(crate) duration: Buckets,
    pub(crate) connect_time: Buckets,
    latency: Box<[Tally]>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            accepted: Tally::default(),
            adopted: Tally::default(),
            ended: std::array::from_fn(|_| Tally::default()),
            bytes_to_backends: Tally::default(),
            bytes_to_clients: Tally::default(),
            bytes_spliced: Tally::default(),
            bytes_pending: Tally::default(),
            pipes_lent: Tally::default(),
            connect_failures: Tally::default(),
            retries: Tally::default(),
            accept_pauses: Tally::default(),
            accept_errors: Tally::default(),
            wakeups: Tally::default(),
            duration: Buckets::new(&DURATION_BOUNDS),
            connect_time: Buckets::new(&CONNECT_BOUNDS),
            latency: (0..LATENCY_BUCKETS).map(|_| Tally::default()).collect(),
        }
    }
}

impl Counters {
    /// Counts the end of one accepted connection.
    pub(crate) fn end(&self, end: End) {
        if let Some(tally) = self.ended.get(end as usize) {
            tally.add(1);
        }
    }

    /// A backend was connected after this time.
    pub(crate) fn connected(&self, took: Duration) {
        self.connect_time.record(took);
        if let Some(tally) = self.latency.get(latency::bucket(took)) {
            tally.add(1);
        }
    }

    /// Adds what this shard has counted so far.
    pub(crate) fn add_to(&self, totals: &mut Totals) {
        // Ends first: an end seen here had its accept before it, so `active` is never too small.
        let mut ended = 0;
        for (sum, tally) in totals.ended.iter_mut().zip(&self.ended) {
            let count = tally.read();
            *sum += count;
            ended += count;
        }
        let accepted = self.accepted.read();
        totals.accepted += accepted;
        let adopted = self.adopted.read();
        totals.adopted += adopted;
        totals.active += (accepted + adopted).saturating_sub(ended);
        totals.bytes_to_backends += self.bytes_to_backends.read();
        totals.bytes_to_clients += self.bytes_to_clients.read();
        totals.bytes_spliced += self.bytes_spliced.read();
        totals.bytes_pending += self.bytes_pending.read();
        totals.pipes_lent += self.pipes_lent.read();
        totals.connect_failures += self.connect_failures.read();
        totals.retries += self.retries.read();
        totals.accept_pauses += self.accept_pauses.read();
        totals.accept_errors += self.accept_errors.read();
        totals.wakeups += self.wakeups.read();
        self.duration.add_to(&mut totals.duration);
        self.connect_time.add_to(&mut totals.connect_time);
        for (sum, tally) in totals.latency.iter_mut().zip(&self.latency) {
            *sum += tally.read();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Counters, End, Totals};
    use std::time::Duration;

    #[test]
    fn every_reason_has_its_own_counter_and_label() {
        let counters = Counters::default();
        for (index, end) in End::ALL.into_iter().enumerate() {
            assert_eq!(end as usize, index, "{end:?} is out of order in End::ALL");
            for _ in 0..=index {
                counters.accepted.add(1);
                counters.end(end);
            }
        }
        let mut totals = Totals::zero();
        counters.add_to(&mut totals);
        for (index, end) in End::ALL.into_iter().enumerate() {
            assert_eq!(totals.ended(end), index as u64 + 1);
        }
        assert_eq!(totals.active, 0);
        let labels: std::collections::BTreeSet<_> =
            End::ALL.iter().map(|end| end.as_str()).collect();
        assert_eq!(labels.len(), End::ALL.len());
    }

    #[test]
    fn shards_add_up() {
        let (one, two) = (Counters::default(), Counters::default());
        one.accepted.add(3);
        two.accepted.add(4);
        two.end(End::Finished);
        one.duration.record(Duration::from_millis(3));
        two.duration.record(Duration::from_secs(3));
        let mut totals = Totals::zero();
        one.add_to(&mut totals);
        two.add_to(&mut totals);
        assert_eq!(
            (totals.accepted, totals.active, totals.ended_all()),
            (7, 6, 1)
        );
        assert_eq!(totals.duration.count(), 2);
        assert_eq!(totals.duration.sum(), Duration::from_millis(3003));
    }
}
