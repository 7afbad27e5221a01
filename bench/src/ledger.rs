//! The ledger: what was started, what became of it, how long it took, and when.
//!
//! Room  pure: a plain value; every time is an argument, measured from the beginning of the run.
//! In    starts and ends of connections and exchanges, from the loads (`load::recorder`).
//! Out   counts, losses, percentiles, the longest stall, first examples of each loss.
//! Holds started == sum of classes at the end of a run, in both columns; a loss is in no class of its own making:
//!       `class::classify` has the whole table.
//!
//! A *connection* is one TCP connection, from the first SYN. An *exchange* is one question with its whole answer: an
//! HTTP request, an echo, one numbered block of a long-lived stream. Whatever ends a connection wrongly also ends the
//! exchanges under way on it, in the same class; so `losses` counts connections, and exchanges that never got one.

pub mod class;
pub mod latency;
pub mod slices;
pub mod tally;

use std::time::Duration;

use serde::Serialize;

pub use class::{Class, Phase};
pub use latency::Latency;
pub use slices::{Slice, Slices, Stall};
pub use tally::Tally;

/// How many examples of each class are kept: the first ones tell the cause, the rest repeat it.
pub const EXAMPLES_PER_CLASS: usize = 5;

/// One loss, as a person wants to read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Example {
    /// When it was lost, from the beginning of the run.
    #[serde(rename = "at_us", serialize_with = "as_micros")]
    pub at: Duration,
    /// Which loss.
    pub class: Class,
    /// What the client was doing.
    pub phase: Phase,
    /// The connection's number in its load.
    pub connection: u64,
    /// What was seen, in words.
    pub what: String,
    /// The operating system's error number, if there was one.
    pub errno: Option<i32>,
}

/// The account of a run, or of a part of it.
#[derive(Clone, Debug, Serialize)]
pub struct Ledger {
    /// TCP connections.
    pub connections: Tally,
    /// Questions with their whole answers.
    pub exchanges: Tally,
    /// Payload bytes sent in exchanges that went well.
    pub bytes_sent: u64,
    /// Payload bytes received in exchanges that went well.
    pub bytes_received: u64,
    /// Kept connections that the other side ended politely between two exchanges, where that is allowed
    /// (`load::IdleClose::Allowed`); they are `ok`.
    pub idle_closes: u64,
    /// Requests that a kept connection ended under without a byte of answer, and that were asked once more on a new
    /// connection, as HTTP clients do with idempotent ones (RFC 9110 section 9.2.2; with `load::IdleClose::Allowed`).
    pub retried: u64,
    /// Tunnels that an old process cut at or after the bound of its drain, as was announced (`load::Drains`); they
    /// are `ok`.
    pub ended_at_bound: u64,
    /// Messages under way on those tunnels at that moment: `ok`, without a latency.
    pub unanswered_at_bound: u64,
    /// TLS handshakes that succeeded.
    pub handshakes: u64,
    /// Those among `handshakes` that continued an earlier session.
    pub resumed: u64,
    /// From the intended start of an exchange to its end; those that went well.
    pub latency: Latency,
    /// From SYN to established.
    pub connect: Latency,
    /// The same latencies over time.
    pub slices: Slices,
    /// The first losses of each class.
    pub examples: Vec<Example>,
}

fn as_micros<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// Bytes of an exchange that went well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Payload bytes sent.
    pub sent: u64,
    /// Payload bytes received.
    pub received: u64,
}

impl Ledger {
    /// An empty ledger whose slices of time are `slice` wide.
    pub fn new(slice: Duration) -> Self {
        Self {
            connections: Tally::default(),
            exchanges: Tally::default(),
            bytes_sent: 0,
            bytes_received: 0,
            idle_closes: 0,
            retried: 0,
            ended_at_bound: 0,
            unanswered_at_bound: 0,
            handshakes: 0,
            resumed: 0,
            latency: Latency::default(),
            connect: Latency::default(),
            slices: Slices::new(slice),
            examples: Vec::new(),
        }
    }

    /// An exchange that was due at `due` went well after `took`.
    pub fn exchange_succeeded(&mut self, due: Duration, took: Duration, traffic: Traffic) {
        self.exchanges.settle(Class::Ok);
        self.latency.record(took);
        self.slices.record(due, took);
        self.bytes_sent += traffic.sent;
        self.bytes_received += traffic.received;
    }

    /// An exchange ended as `class`, which is a loss.
    pub fn exchange_lost(&mut self, class: Class) {
        self.exchanges.settle(class);
    }

    /// A connection ended as it should.
    pub fn connection_succeeded(&mut self) {
        self.connections.settle(Class::Ok);
    }

    /// A connection ended wrongly.
    pub fn connection_lost(&mut self, example: Example) {
        self.connections.settle(example.class);
        self.slices.lose(example.at);
        self.keep_example(example);
    }

    /// An exchange ended wrongly before it had a connection.
    pub fn exchange_without_connection(&mut self, example: Example) {
        self.exchanges.settle(example.class);
        self.slices.lose(example.at);
        self.keep_example(example);
    }

    fn keep_example(&mut self, example: Example) {
        if self
            .examples
            .iter()
            .filter(|known| known.class == example.class)
            .count()
            < EXAMPLES_PER_CLASS
        {
            self.examples.push(example);
        }
    }

    /// Adds everything that `other` has: another part of the same run, with times from the same beginning.
    pub fn merge(&mut self, other: &Self) {
        self.connections.merge(&other.connections);
        self.exchanges.merge(&other.exchanges);
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.idle_closes += other.idle_closes;
        self.retried += other.retried;
        self.ended_at_bound += other.ended_at_bound;
        self.unanswered_at_bound += other.unanswered_at_bound;
        self.handshakes += other.handshakes;
        self.resumed += other.resumed;
        self.latency.merge(&other.latency);
        self.connect.merge(&other.connect);
        self.slices.merge(&other.slices);
        let mut examples = std::mem::take(&mut self.examples);
        examples.extend(other.examples.iter().cloned());
        examples.sort_by_key(|example| example.at);
        examples
            .into_iter()
            .for_each(|example| self.keep_example(example));
    }

    /// How many ended as `class`: connections, or exchanges where those are more.
    pub fn count(&self, class: Class) -> u64 {
        self.connections
            .count(class)
            .max(self.exchanges.count(class))
    }

    /// What a client would complain about: connections or exchanges lost (the larger of the two, for the one is
    /// usually the cause of the other), and everything that is unaccounted for. Zero does not mean that anything
    /// was measured: ask [`Self::is_clean`].
    pub fn losses(&self) -> u64 {
        self.connections.lost().max(self.exchanges.lost()) + self.unaccounted()
    }

    /// Started and never settled, in both columns. During a run these are simply open.
    pub fn unaccounted(&self) -> u64 {
        self.connections.unaccounted() + self.exchanges.unaccounted()
    }

    /// The verdict on a finished run: something went well, nothing was lost, everything is accounted for.
    /// A run without a single good exchange proves nothing and is not clean.
    pub fn is_clean(&self) -> bool {
        self.exchanges.count(Class::Ok) > 0 && self.losses() == 0
    }

    /// The exchange that took longest, with the slice of time in which it was due.
    pub fn longest_stall(&self) -> Option<Stall> {
        self.slices.longest_between(Duration::ZERO, Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE: Duration = Duration::from_millis(250);

    const fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    fn example(class: Class, at: Duration) -> Example {
        Example {
            at,
            class,
            phase: Phase::Receiving,
            connection: 7,
            what: "seen".to_owned(),
            errno: Some(104),
        }
    }

    fn good(exchanges: u64) -> Ledger {
        let mut ledger = Ledger::new(SLICE);
        for n in 0..exchanges {
            ledger.connections.start();
            ledger.exchanges.start();
            ledger.exchange_succeeded(
                ms(n * 10),
                ms(2),
                Traffic {
                    sent: 3,
                    received: 5,
                },
            );
            ledger.connection_succeeded();
        }
        ledger
    }

    fn lose(ledger: &mut Ledger, class: Class, at: Duration) {
        ledger.connections.start();
        ledger.exchanges.start();
        ledger.exchange_lost(class);
        ledger.connection_lost(example(class, at));
    }

    #[test]
    fn a_run_in_which_everything_went_well_is_clean() {
        let ledger = good(10);
        assert!(ledger.is_clean());
        assert_eq!(
            (ledger.losses(), ledger.bytes_sent, ledger.bytes_received),
            (0, 30, 50)
        );
    }

    #[test]
    fn a_run_in_which_nothing_happened_is_not_clean() {
        let ledger = Ledger::new(SLICE);
        assert_eq!(ledger.losses(), 0);
        assert!(!ledger.is_clean());
    }

    #[test]
    fn every_class_but_ok_makes_the_ledger_unclean() {
        for class in Class::ALL.into_iter().filter(|class| class.is_loss()) {
            let mut ledger = good(10);
            lose(&mut ledger, class, ms(30));
            assert!(!ledger.is_clean(), "{class}");
            assert_eq!((ledger.losses(), ledger.count(class)), (1, 1), "{class}");
        }
    }

    #[test]
    fn a_connection_or_exchange_without_an_end_makes_the_ledger_unclean() {
        let mut ledger = good(1);
        ledger.connections.start();
        assert_eq!((ledger.losses(), ledger.is_clean()), (1, false));
        let mut ledger = good(1);
        ledger.exchanges.start();
        assert_eq!((ledger.losses(), ledger.is_clean()), (1, false));
    }

    #[test]
    fn merged_parts_are_the_whole() {
        let mut merged = good(3);
        let mut part = good(4);
        lose(&mut part, Class::Cut, ms(20));
        merged.merge(&part);
        assert_eq!(merged.connections.started(), 8);
        assert_eq!(merged.exchanges.count(Class::Ok), 7);
        assert_eq!(merged.losses(), 1);
        assert_eq!(merged.latency.count(), 7);
        assert_eq!(merged.examples, vec![example(Class::Cut, ms(20))]);
    }

    #[test]
    fn only_the_first_examples_of_each_class_are_kept() {
        let mut late = good(0);
        (50..80).for_each(|n| lose(&mut late, Class::Reset, ms(n)));
        let mut early = good(0);
        (0..3).for_each(|n| lose(&mut early, Class::Reset, ms(n)));
        lose(&mut early, Class::Refused, ms(900));
        late.merge(&early);
        let times: Vec<_> = late
            .examples
            .iter()
            .map(|example| example.at.as_millis())
            .collect();
        assert_eq!(times, [0, 1, 2, 50, 51, 900]);
        assert_eq!(late.count(Class::Reset), 33);
    }

    #[test]
    fn json_names_every_class_and_the_verdict_can_be_recomputed_from_it() {
        let json = serde_json::to_value(good(2)).unwrap();
        for class in Class::ALL {
            assert!(json["connections"][class.as_str()].is_u64(), "{class}");
        }
        assert_eq!(json["exchanges"]["unaccounted"], 0);
        assert_eq!(json["slices"][0]["latency"]["count"], 2);
    }
}
