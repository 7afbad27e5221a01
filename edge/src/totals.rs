//! What the data path counts: counters of each worker, and their sum for everybody else.
//!
//! Room  counting only; publishing under metric names is the control thread's work.
//! Holds one worker writes its counters, so no cache line goes back and forth between cores on a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use handoff::latency::{self, LATENCY_BUCKETS};

use crate::end::End;

/// Upper bounds of a request's time, from its first byte to its answer's last one. Sized: loopback takes
/// 0.1 ms, a person gives up after ten seconds.
pub const LATENCY_BOUNDS: [Duration; 14] = [
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(10),
];

/// Everything that is counted beside ends and statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Connections accepted.
    Accepted,
    /// Connections closed.
    Closed,
    /// Connections refused at once by a limit or because of an untrusted peer.
    Refused,
    /// TLS handshakes finished, those resumed among them.
    Handshakes,
    Resumed,
    HandshakesFailed,
    /// Requests whose head arrived whole, by version.
    Http1,
    Http2,
    /// Requests that ended.
    Ended,
    /// Tunnels begun and ended.
    TunnelsBegun,
    TunnelsEnded,
    /// Attempts beyond the first for a request.
    Retries,
    RetriesDenied,
    /// Connections made to backends, and requests that found a kept one.
    BackendConnects,
    BackendReuses,
    BackendConnectFailures,
    /// Bytes of bodies and tunnels.
    BytesFromClients,
    BytesToClients,
    /// Times a worker stopped accepting because the host had no descriptors left.
    AcceptPauses,
    /// HTTP/2 connections closed for abuse (resets, floods, unfinished blocks).
    Http2Abuse,
    /// Connections that came from another process, or came back from the way to one; and those that another serves now.
    Adopted,
    Moved,
}

/// Every [`Count`], in order.
const COUNTS: usize = Count::Moved as usize + 1;

/// Answers by the hundreds of their status: 1xx to 5xx.
const CLASSES: usize = 5;

/// The counters of one worker.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    counts: [AtomicU64; COUNTS],
    classes: [AtomicU64; CLASSES],
    ends: [AtomicU64; End::ALL.len()],
    latency: [AtomicU64; LATENCY_BUCKETS],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; COUNTS],
            classes: [const { AtomicU64::new(0) }; CLASSES],
            ends: [const { AtomicU64::new(0) }; End::ALL.len()],
            latency: [const { AtomicU64::new(0) }; LATENCY_BUCKETS],
        }
    }
}

impl Counters {
    pub(crate) fn count(&self, what: Count) {
        self.add(what, 1);
    }

    pub(crate) fn add(&self, what: Count, amount: u64) {
        if let Some(counter) = self.counts.get(what as usize) {
            counter.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// A request was answered after this time.
    pub(crate) fn took(&self, took: Duration) {
        if let Some(counter) = self.latency.get(latency::bucket(took)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request is over; `status` is what the client was told, 0 for nothing.
    pub(crate) fn ended(&self, end: End, status: u16) {
        self.count(Count::Ended);
        if let Some(counter) = self.ends.get(end.index()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let class = usize::from(status / 100).wrapping_sub(1);
        if let Some(counter) = self.classes.get(class) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A sum over all workers at one moment.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    counts: [u64; COUNTS],
    classes: [u64; CLASSES],
    ends: Vec<u64>,
    latency: Vec<u64>,
}

impl Totals {
    /// The sum of these counters.
    #[must_use]
    pub fn of(workers: &[Arc<Counters>]) -> Self {
        let sum = |read: &dyn Fn(&Counters) -> u64| workers.iter().map(|worker| read(worker)).sum();
        let load = |counter: Option<&AtomicU64>| {
            counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
        };
        let mut totals = Self::default();
        for (index, slot) in totals.counts.iter_mut().enumerate() {
            *slot = sum(&|worker| load(worker.counts.get(index)));
        }
        for (index, slot) in totals.classes.iter_mut().enumerate() {
            *slot = sum(&|worker| load(worker.classes.get(index)));
        }
        totals.ends = (0..End::ALL.len())
            .map(|index| sum(&|worker| load(worker.ends.get(index))))
            .collect();
        totals.latency = (0..LATENCY_BUCKETS)
            .map(|index| sum(&|worker| load(worker.latency.get(index))))
            .collect();
        totals
    }

    /// How often.
    #[must_use]
    pub fn get(&self, what: Count) -> u64 {
        self.counts.get(what as usize).copied().unwrap_or(0)
    }

    /// Requests that ended like this.
    #[must_use]
    pub fn ended(&self, end: End) -> u64 {
        self.ends.get(end.index()).copied().unwrap_or(0)
    }

    /// Requests lost through the proxy or its backends.
    #[must_use]
    pub fn errors(&self) -> u64 {
        let errors = End::ALL.into_iter().filter(|end| end.is_error());
        errors.map(|end| self.ended(end)).sum()
    }

    /// Requests answered with 5xx by whomever, or lost through the proxy or its backends.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.errors().max(self.classes.last().copied().unwrap_or(0))
    }

    /// How long answers took, by the buckets of the handoff; zeros at the end are left out.
    #[must_use]
    pub fn latency(&self) -> Vec<u64> {
        let used = self.latency.iter().rposition(|count| *count > 0);
        self.latency
            .iter()
            .take(used.map_or(0, |last| last + 1))
            .copied()
            .collect()
    }

    /// Requests whose head arrived whole.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.get(Count::Http1) + self.get(Count::Http2)
    }

    /// Connections open now.
    #[must_use]
    pub fn active(&self) -> u64 {
        (self.get(Count::Accepted) + self.get(Count::Adopted))
            .saturating_sub(self.get(Count::Closed))
    }

    /// Answers by class: `("2xx", 17)`.
    pub fn classes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ["1xx", "2xx", "3xx", "4xx", "5xx"]
            .into_iter()
            .zip(self.classes)
    }
}

/// The times of one route's requests, counted by every worker for itself.
#[derive(Debug)]
pub struct RouteTotals {
    pub name: String,
    workers: Vec<Times>,
}

#[derive(Debug)]
#[repr(align(128))]
struct Times {
    counts: [AtomicU64; LATENCY_BOUNDS.len() + 1],
    sum_ns: AtomicU64,
}

impl RouteTotals {
    /// All zero.
    #[must_use]
    pub fn new(name: String, workers: usize) -> Arc<Self> {
        let times = || Times {
            counts: [const { AtomicU64::new(0) }; LATENCY_BOUNDS.len() + 1],
            sum_ns: AtomicU64::new(0),
        };
        Arc::new(Self {
            name,
            workers: (0..workers.max(1)).map(|_| times()).collect(),
        })
    }

    pub(crate) fn record(&self, worker: usize, took: Duration) {
        let Some(times) = self.workers.get(worker) else {
            return;
        };
        let bucket = LATENCY_BOUNDS.iter().position(|bound| took <= *bound);
        if let Some(counter) = times.counts.get(bucket.unwrap_or(LATENCY_BOUNDS.len())) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        times.sum_ns.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Counts by bucket, the last one of what is longer than every bound, and the sum of all times.
    #[must_use]
    pub fn sum(&self) -> (Vec<u64>, Duration) {
        let mut counts = vec![0_u64; LATENCY_BOUNDS.len() + 1];
        let mut sum = Duration::ZERO;
        for times in &self.workers {
            for (slot, counter) in counts.iter_mut().zip(&times.counts) {
                *slot += counter.load(Ordering::Relaxed);
            }
            sum += Duration::from_nanos(times.sum_ns.load(Ordering::Relaxed));
        }
        (counts, sum)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{Count, Counters, LATENCY_BOUNDS, RouteTotals, Totals};
    use crate::end::End;

    #[test]
    fn totals_are_the_sum_of_the_workers() {
        let workers = [Arc::new(Counters::default()), Arc::new(Counters::default())];
        for worker in &workers {
            worker.count(Count::Accepted);
            worker.count(Count::Http2);
            worker.ended(End::BackendClosed, 502);
        }
        workers[0].ended(End::ClientClosed, 0);
        let totals = Totals::of(&workers);
        assert_eq!(
            (totals.active(), totals.requests(), totals.errors()),
            (2, 2, 2)
        );
        assert_eq!(totals.get(Count::Ended), 3);
        assert_eq!(totals.classes().last(), Some(("5xx", 2)));
    }

    #[test]
    fn a_time_is_counted_in_the_first_bucket_that_holds_it() {
        let route = RouteTotals::new("r".to_owned(), 2);
        route.record(0, LATENCY_BOUNDS[2]);
        route.record(1, Duration::from_secs(60));
        let (counts, sum) = route.sum();
        assert_eq!((counts[2], counts[LATENCY_BOUNDS.len()]), (1, 1));
        assert_eq!(sum, Duration::from_secs(60) + LATENCY_BOUNDS[2]);
    }
}
