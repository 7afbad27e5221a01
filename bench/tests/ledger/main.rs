//! The promises of the load generator: what a client would complain about is in the ledger, in the right class.
//!
//! Room  loads against listeners in this process that misbehave on purpose, and against the origins that do not.
//! Out   one test per promise.

#![expect(
    clippy::unwrap_used,
    reason = "the functions here are parts of tests and end at what was not expected"
)]

mod clean;
mod command;
mod faulty;
mod http2;
mod kept;
mod overtime;
mod short;
mod streams;
mod tls;
mod websockets;

use std::net::SocketAddr;
use std::time::Duration;

use bench::ledger::{Class, Ledger};
use bench::load::{Limits, Load, Shape};
use bench::target::Target;
use tokio::time::{sleep, timeout};

/// Limits that make a fault show soon, for loads that are to lose something. Loads that must be clean keep the
/// default ones: a busy machine is no loss.
const LIMITS: Limits = Limits {
    connect: Duration::from_millis(700),
    stall: Duration::from_millis(700),
    exchange: Duration::from_millis(1_500),
};

/// However slow the machine, a condition of these tests is there by then.
const DEADLINE: Duration = Duration::from_secs(20);

/// A small load at `address`.
fn echo_load(shape: Shape, address: SocketAddr, connections: usize) -> Load {
    Load {
        trickle: Duration::from_millis(5),
        ..Load::new(Target::tcp(address), shape, connections)
    }
}

/// Runs `load` until its ledger has what `wanted` looks for, then ends it.
async fn run_until(load: Load, wanted: impl Fn(&Ledger) -> bool) -> Ledger {
    let running = load.start().unwrap();
    let seen = async {
        while !wanted(&running.snapshot()) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(DEADLINE, seen).await.is_err() {
        panic!("not seen in time: {:#?}", running.snapshot());
    }
    running.finish().await
}

/// Runs `load` until something is lost, and checks that it is of `class` and nothing else, and all is accounted for.
async fn expect_loss(load: Load, class: Class) -> Ledger {
    let load = Load {
        limits: LIMITS,
        ..load
    };
    let ledger = run_until(load, |ledger| {
        ledger.connections.lost() + ledger.exchanges.lost() > 0
    })
    .await;
    assert!(ledger.count(class) > 0, "{class} expected: {ledger:#?}");
    let lost: Vec<_> = Class::ALL
        .into_iter()
        .filter(|other| other.is_loss() && ledger.count(*other) > 0)
        .collect();
    assert_eq!(lost, [class], "{:#?}", ledger.examples);
    assert_eq!(ledger.unaccounted(), 0, "{ledger:#?}");
    assert!(!ledger.is_clean());
    assert_eq!(
        ledger.examples.first().map(|example| example.class),
        Some(class)
    );
    ledger
}
