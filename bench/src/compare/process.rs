//! A proxy's process: started on its processor, looked at, ended by its number.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running proxy.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` on a processor; what it says goes to a file of `directory`.
    pub(super) fn start(
        program: &Path,
        args: &[&str],
        cpu: usize,
        (directory, name): (&Path, &str),
    ) -> io::Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let file = File::create(&log)?;
        let child = Command::new("taskset")
            .arg("--cpu-list")
            .arg(cpu.to_string())
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

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Time on a processor so far, over all of its threads (Documentation/scheduler/sched-stats.rst, first field).
    pub(super) fn cpu(&self) -> Option<Duration> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).ok()?;
        let mut sum = Duration::ZERO;
        for thread in threads.flatten() {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            sum += Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?);
        }
        Some(sum)
    }

    /// Resident memory in bytes.
    pub(super) fn resident(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        kib.checked_mul(1024)
    }

    /// The end of what it wrote.
    pub(super) fn log(&self) -> String {
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
