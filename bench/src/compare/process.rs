//! A proxy's process: started on its processor, looked at, ended by its number.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` on these processors (a list as in "0,1"); what it says goes to a file of `directory`.
    pub(super) fn start(
        program: &Path,
        args: &[&str],
        cpus: &str,
        (directory, name): (&Path, &str),
    ) -> io::Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let file = File::create(&log)?;
        let child = Command::new("taskset")
            .arg("--cpu-list")
            .arg(cpus)
            .arg(program)
            .args(args)
            // One worker also for those that Go schedules.
            .env("GOMAXPROCS", "1")
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Self { child, log })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Time on a processor so far, over all of its threads (Documentation/scheduler/sched-stats.rst, first field).
    pub(crate) fn cpu(&self) -> Option<Duration> {
        Some(self.threads()?.into_iter().map(|(_, time)| time).sum())
    }

    /// The same for each thread, with its name.
    pub(crate) fn threads(&self) -> Option<Vec<(String, Duration)>> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).ok()?;
        let each = threads.flatten().map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            let nanos = text.split_whitespace().next()?.parse().ok()?;
            let name = fs::read_to_string(thread.path().join("comm")).ok()?;
            Some((name.trim_end().to_owned(), Duration::from_nanos(nanos)))
        });
        each.collect()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        kib.checked_mul(1024)
    }

    /// The end of what it wrote.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(5);
        lines.get(from..).unwrap_or_default().join(" / ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which is as well.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}
