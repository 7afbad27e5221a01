//! Processes of the demo: found by the demo's directory in their command line, ended by their number.
//!
//! Room  /proc and signals (pidfd_open(2), so that a reused number is never hit).
//! In    the demo's directory, which no other process has in its command line.
//! Out   what is left over; an end to it.
//! Holds only a process whose command line names the demo's own directory is ever signalled.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::sleep;

/// How long processes may take to go after their supervisor has gone.
const GONE_LIMIT: Duration = Duration::from_secs(5);

/// How often that is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A process that should not be there any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leftover {
    pub(super) pid: u32,
    pub(super) command: String,
}

/// Living processes with `directory` in their command line; zombies and this process have none of interest.
pub(super) fn with_directory(directory: &Path) -> Vec<Leftover> {
    let needle = directory.display().to_string();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id())
        .filter_map(|pid| {
            command_line(pid)
                .filter(|command| command.contains(&needle))
                .map(|command| (pid, command))
        })
        .map(|(pid, command)| Leftover { pid, command })
        .collect()
}

fn command_line(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(
        String::from_utf8_lossy(&bytes)
            .replace('\0', " ")
            .trim_end()
            .to_owned(),
    )
}

/// Waits until no process of `directory` is left, or the limit passes; those left are killed, and named.
///
/// A process in the middle of execve(2) has an empty command line for a moment (its parent goes on before the new
/// image has its arguments), so that one look may miss it: nobody is left when two looks in a row find nobody.
pub(super) async fn end_all(directory: &Path) -> Vec<Leftover> {
    let deadline = Instant::now() + GONE_LIMIT;
    let mut nobody_before = false;
    loop {
        let left = with_directory(directory);
        let nobody = left.is_empty();
        if (nobody && nobody_before) || Instant::now() >= deadline {
            left.iter()
                .for_each(|leftover| kill(leftover.pid, Some(directory)));
            return left;
        }
        nobody_before = nobody;
        sleep(LOOK_INTERVAL).await;
    }
}

/// Kills `pid`; with a directory only if its command line names that: asked after the process is held by a pidfd,
/// so that its number cannot have gone to somebody else.
pub(super) fn kill(pid: u32, directory: Option<&Path>) {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return;
    };
    let Ok(process) = pidfd_open(number, PidfdFlags::empty()) else {
        return;
    };
    let is_ours = directory.is_none_or(|directory| {
        command_line(pid).is_some_and(|command| command.contains(&directory.display().to_string()))
    });
    if is_ours {
        // It may have ended by itself meanwhile, which is as well.
        pidfd_send_signal(&process, Signal::KILL).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[tokio::test]
    async fn a_process_left_over_is_named_and_killed_and_others_live() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("sleeper");
        fs::write(&script, "while :; do sleep 1; done\n").unwrap();
        let mut ours = Command::new("/bin/sh")
            .arg(&script)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut other = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let left = end_all(directory.path()).await;
        assert_eq!(
            left.iter().map(|leftover| leftover.pid).collect::<Vec<_>>(),
            [ours.id()]
        );
        assert!(!ours.wait().unwrap().success());
        assert!(
            other.try_wait().unwrap().is_none(),
            "a process that is not ours was killed"
        );
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(with_directory(directory.path()).is_empty());
    }
}
