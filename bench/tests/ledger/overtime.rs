//! Latency over time: a stall shows, in the open loop for everyone who was due during it.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use bench::ledger::Class;
use bench::load::{Load, Shape};

use crate::faulty::{Behaviour, Faulty};
use crate::{LIMITS, echo_load, run_until};

/// How long the listener says nothing.
const STALL: Duration = Duration::from_millis(500);

#[tokio::test]
async fn in_the_open_loop_everything_that_was_due_during_a_stall_is_late() {
    let moment = Instant::now() + STALL;
    let faulty = Faulty::always(Behaviour::StallUntil(moment)).await;
    let load = Load {
        rate: NonZeroU32::new(200),
        ..echo_load(Shape::Short, faulty.address, 4)
    };
    let epoch = load.epoch;
    let ledger = run_until(load, |ledger| ledger.exchanges.count(Class::Ok) > 250).await;
    assert!(ledger.is_clean(), "{ledger:#?}");
    // 4 clients were stuck, yet the other 90 or so that were due meanwhile count as late, too.
    let late = ledger.exchanges.count(Class::Ok) as f64
        * (1.0 - share_below(&ledger.latency, Duration::from_millis(100)));
    assert!(late > 40.0, "{late} late: {ledger:#?}");
    let stall = ledger.longest_stall().unwrap();
    assert!(
        stall.at <= moment - epoch && stall.lasted >= STALL / 2,
        "{stall:?}"
    );
}

/// The share of values that are shorter than `limit`, to 1 %.
fn share_below(latency: &bench::ledger::Latency, limit: Duration) -> f64 {
    let percent = (0..=100)
        .rev()
        .find(|percent| latency.quantile(f64::from(*percent) / 100.0) < limit);
    f64::from(percent.unwrap_or(0)) / 100.0
}

#[tokio::test]
async fn blocks_of_a_stream_that_were_due_during_a_stall_are_late() {
    let moment = Instant::now() + STALL;
    let faulty = Faulty::always(Behaviour::StallUntil(moment)).await;
    let load = Load {
        trickle: Duration::from_millis(20),
        ..echo_load(Shape::LongLived, faulty.address, 1)
    };
    let ledger = run_until(load, |ledger| ledger.exchanges.count(Class::Ok) > 50).await;
    assert!(ledger.is_clean(), "{ledger:#?}");
    assert!(
        ledger.latency.quantile(0.8) > Duration::from_millis(100),
        "{:?}",
        ledger.latency.quantile(0.8)
    );
    assert!(
        ledger.latency.max() >= STALL * 3 / 4,
        "{:?}",
        ledger.latency.max()
    );
}

#[tokio::test]
async fn a_backlog_that_is_never_worked_off_is_timed_out_not_forgotten() {
    let faulty = Faulty::always(Behaviour::Slow(Duration::from_millis(10))).await;
    let load = Load {
        rate: NonZeroU32::new(200),
        payload_bytes: 40..=40,
        limits: LIMITS,
        ..echo_load(Shape::KeepAlive, faulty.address, 2)
    };
    let ledger = run_until(load, |ledger| ledger.exchanges.lost() > 30).await;
    assert_eq!(ledger.unaccounted(), 0);
    let (waiting, lost) = (
        ledger.exchanges.lost() - ledger.connections.lost(),
        ledger.exchanges.lost(),
    );
    assert!(
        waiting > 10,
        "{waiting} of {lost} never got a connection: {ledger:#?}"
    );
    assert_eq!(ledger.exchanges.count(Class::TimedOut), lost, "{ledger:#?}");
    assert!(!ledger.is_clean());
}

#[tokio::test]
async fn a_load_that_keeps_its_rate_starts_as_many_exchanges_as_were_due() {
    let faulty = Faulty::always(Behaviour::Good).await;
    let load = Load {
        rate: NonZeroU32::new(500),
        ..echo_load(Shape::KeepAlive, faulty.address, 8)
    };
    let begin = Instant::now();
    let ledger = run_until(load, |_| begin.elapsed() > Duration::from_secs(1)).await;
    assert!(ledger.is_clean(), "{ledger:#?}");
    let started = ledger.exchanges.started();
    assert!(
        (480..=600).contains(&started),
        "{started} started in a second at 500 per second"
    );
}
