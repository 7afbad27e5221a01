//! Which processor everybody runs on.
//!
//! Holds  one core: clients, origin and proxy share it, so that no wake-up crosses processors and the other one is left to
//!        whatever else the machine does; two cores: the proxy has one for itself.

use std::io;

use rustix::thread::{CpuSet, Pid, sched_setaffinity};

/// Who runs where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cores {
    /// Everybody on the last processor: what is least disturbed, and what a gate judges.
    One,
    /// Proxies on the last processor, clients and origin on the first.
    Two,
}

impl Cores {
    /// Puts this thread, and every thread and process that it starts from now on, where clients belong.
    ///
    /// # Errors
    /// There is no such processor, or it is not ours (sched_setaffinity(2)).
    pub fn take_place(self) -> io::Result<()> {
        let cpu = match self {
            Self::One => last(),
            Self::Two => 0,
        };
        let mut set = CpuSet::new();
        set.set(cpu);
        Ok(sched_setaffinity(None, &set)?)
    }

    /// The processor of proxies.
    pub(crate) fn of_proxies(self) -> usize {
        last()
    }
}

/// Every processor of the machine, as taskset(1) reads it.
pub(crate) fn everywhere() -> String {
    format!("0-{}", last())
}

/// Lets every thread of this process, and what it starts from now on, run on all processors: for what is measured with
/// several workers.
///
/// # Errors
/// What sched_setaffinity(2) says of a thread.
pub(crate) fn leave_place() -> io::Result<()> {
    let mut set = CpuSet::new();
    (0..=last()).for_each(|cpu| set.set(cpu));
    for thread in std::fs::read_dir("/proc/self/task")?.flatten() {
        let id = thread.file_name().to_string_lossy().parse().ok();
        // A thread that has ended meanwhile has no place to leave.
        if let Some(id) = id.and_then(Pid::from_raw) {
            sched_setaffinity(Some(id), &set)?;
        }
    }
    Ok(())
}

fn last() -> usize {
    // Of the machine, not of this process: it may be pinned already.
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let last = online.trim().rsplit([',', '-']).next().unwrap_or_default();
    last.parse().unwrap_or(0)
}
