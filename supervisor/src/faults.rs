//! Faults at a step of the swap, for the crash matrix of the tests: only in debug builds.
//!
//! Room  one variable, read once; a signal at the moment in which the swap enters a step.
//! In    `ZEITWORK_FAULTS=STEP:WHO:HOW,…` with the steps that `supervisor steps` prints, `supervisor`, `incumbent` or
//!       `successor`, and `kill`, `stop` or `slow`. Out  that signal, once each.
//! Holds a release build has none of this.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::swap::Phase;

/// Where the tests say what is to happen.
const VARIABLE: &str = "ZEITWORK_FAULTS";

/// How long whoever is slow stands still. Sized: longer than a step takes, shorter than its deadline.
const SLOW: Duration = Duration::from_millis(1500);

/// Faults that have not happened yet.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

#[derive(Debug)]
struct Fault {
    step: String,
    who: Who,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Supervisor,
    Incumbent,
    Successor,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Kill,
    Stop,
    Slow,
}

impl Faults {
    pub(crate) fn from_environment() -> Self {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        Self(text.split(',').filter_map(parse).collect())
    }

    /// The swap enters this phase; `pid_of` names the processes that there are.
    pub(crate) fn strike(&mut self, phase: Phase, pid_of: impl Fn(Who) -> Option<u32>) {
        let Some(place) = self.0.iter().position(|fault| fault.step == phase.step()) else {
            return;
        };
        let who = self.0.get(place).map(|fault| fault.who);
        let pid = who.and_then(pid_of).and_then(|pid| i32::try_from(pid).ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            return;
        };
        let fault = self.0.remove(place);
        tracing::warn!(step = fault.step, who = ?fault.who, how = ?fault.how, "a fault of the tests strikes");
        match fault.how {
            How::Kill => signal(pid, Signal::KILL),
            How::Stop => signal(pid, Signal::STOP),
            How::Slow if fault.who == Who::Supervisor => std::thread::sleep(SLOW),
            How::Slow => {
                signal(pid, Signal::STOP);
                tokio::spawn(async move {
                    tokio::time::sleep(SLOW).await;
                    signal(pid, Signal::CONT);
                });
            }
        }
    }
}

fn signal(pid: Pid, signal: Signal) {
    if let Err(error) = kill_process(pid, signal) {
        tracing::warn!(%error, "the fault met nobody");
    }
}

fn parse(text: &str) -> Option<Fault> {
    let mut words = text.split(':');
    let step = words.next()?.to_owned();
    let who = match words.next()? {
        "supervisor" => Who::Supervisor,
        "incumbent" => Who::Incumbent,
        "successor" => Who::Successor,
        _ => return None,
    };
    let how = match words.next()? {
        "kill" => How::Kill,
        "stop" => How::Stop,
        "slow" => How::Slow,
        _ => return None,
    };
    Some(Fault { step, who, how })
}
