//! Ports for configurations.
//!
//! Holds  no two tests that run at the same time get the same port: each has a range of its own, below the
//!        kernel's ephemeral ports (32768 and up), where a client's own port could be in the way.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// First port of the first range.
const FIRST: u16 = 10_000;

/// Ports of one test process.
const RANGE: u16 = 1_400;

/// Ranges; the test runner has fewer processes at once.
const RANGES: u16 = 16;

/// The next candidate within this process's range.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// Ports of this process's range at which nobody listens, all different.
///
/// # Panics
/// When the range is used up.
pub fn free_ports(count: usize) -> Vec<u16> {
    let first = FIRST + slot() * RANGE;
    let mut found = Vec::new();
    while found.len() < count {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(offset < RANGE, "this test uses more than {RANGE} ports");
        let port = first + offset;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            found.push(port);
        }
    }
    found
}

/// nextest runs each test in a process of its own and numbers those that run at the same time; cargo's own
/// runner has one process for all.
fn slot() -> u16 {
    std::env::var("NEXTEST_TEST_GLOBAL_SLOT")
        .ok()
        .and_then(|slot| slot.parse::<u16>().ok())
        .map_or(0, |slot| slot % RANGES)
}
