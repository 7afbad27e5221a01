//! Faults at a step of the swap, for the crash matrix of the tests: only in debug builds.
//!
//! Room  one variable, read once; a signal at the moment in which the swap enters a step.
//! In    `ZEITWORK_FAULTS=STEP:WHO:HOW,…` with the steps that `supervisor steps` prints, `supervisor`, `incumbent` or
//!       `successor`, and `kill`, `stop`, `slow` or `close`. Out  that signal, or the end of their private channel
//!       (of both channels for the supervisor), once each.
//! Holds a release build has none of this.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::net::{Shutdown, SocketType, sockopt};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open,
};

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
    Close,
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
        let pid_of = |who| {
            let pid = pid_of(who).and_then(|pid| i32::try_from(pid).ok());
            pid.and_then(Pid::from_raw)
        };
        let Some(pid) = who.and_then(pid_of) else {
            return;
        };
        let fault = self.0.remove(place);
        tracing::warn!(step = fault.step, who = ?fault.who, how = ?fault.how, "a fault of the tests strikes");
        match fault.how {
            How::Kill => signal(pid, Signal::KILL),
            How::Stop => signal(pid, Signal::STOP),
            How::Close if fault.who == Who::Supervisor => {
                let workers = [Who::Incumbent, Who::Successor].into_iter();
                workers.filter_map(pid_of).for_each(close_channel);
            }
            How::Close => close_channel(pid),
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

/// Ends the private channel of a worker for both of its ends; neither process is touched.
fn close_channel(pid: Pid) {
    let closed = channel_of(pid).and_then(|channel| {
        rustix::net::shutdown(&channel, Shutdown::Both).map_err(std::io::Error::from)
    });
    if let Err(error) = closed {
        tracing::warn!(%error, "the fault met no channel");
    }
}

/// A worker has one socket of this kind (handoff's link).
fn channel_of(pid: Pid) -> std::io::Result<OwnedFd> {
    let worker = pidfd_open(pid, PidfdFlags::empty())?;
    let folder = format!("/proc/{}/fd", pid.as_raw_nonzero());
    for entry in std::fs::read_dir(folder)?.flatten() {
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(found) = pidfd_getfd(worker.as_fd(), number, PidfdGetfdFlags::empty()) else {
            continue;
        };
        if sockopt::socket_type(&found) == Ok(SocketType::SEQPACKET) {
            return Ok(found);
        }
    }
    Err(std::io::ErrorKind::NotFound.into())
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
        "close" => How::Close,
        _ => return None,
    };
    Some(Fault { step, who, how })
}
