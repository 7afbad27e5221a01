//! Faults at a step of a passage, for the crash matrix of the tests: only in debug builds.
//!
//! In    `ZEITWORK_PASSAGE_FAULT=STEP:BATCH:HOW`, with the steps of [`Step`] and `kill`, `stop` or `slow`.
//! Out   that, once, to this process itself.
//! Holds a release build has none of this.

use std::sync::Once;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

/// Where the tests say what is to happen.
const VARIABLE: &str = "ZEITWORK_PASSAGE_FAULT";

/// How long whoever is slow stands still. Sized: longer than the giver waits for an answer.
const SLOW: Duration = Duration::from_millis(1500);

/// Where a fault can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The giver has frozen a batch and sends it.
    Offering,
    /// The giver has sent it.
    Offered,
    /// The giver has its answer.
    Answered,
    /// The taker has a batch and has said nothing.
    Arrived,
    /// The taker has acknowledged it and serves nobody of it yet.
    Acknowledged,
}

/// The fault that a test wants here, if it does.
pub(super) fn strike(step: Step, batch: u64) {
    static STRUCK: Once = Once::new();
    let wanted = std::env::var(VARIABLE).unwrap_or_default();
    let here = format!("{step:?}:{batch}:").to_lowercase();
    if let Some(how) = wanted.strip_prefix(here.as_str()) {
        STRUCK.call_once(|| match how {
            "kill" => signal(Signal::KILL),
            "stop" => signal(Signal::STOP),
            _ => std::thread::sleep(SLOW),
        });
    }
}

fn signal(signal: Signal) {
    // Refused: the test sees that nothing happened.
    let _ = kill_process(getpid(), signal);
}
