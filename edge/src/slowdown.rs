//! A deliberate slowdown, to prove that the gate of performance finds one; only with the feature `slowdown`.

use std::time::{Duration, Instant};

/// For each request: an eighth of what an HTTP/1.1 request costs.
const BURNT: Duration = Duration::from_micros(2);

/// Uses the processor for nothing.
pub(crate) fn burn() {
    let begun = Instant::now();
    while begun.elapsed() < BURNT {
        std::hint::spin_loop();
    }
}
