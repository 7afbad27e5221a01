//! Processes that outlive the main process of their generation: they may hold its listeners, and nobody answers for
//! them.
//!
//! Holds  a group is signalled only while a process is known, by its pidfd, that lives in it: as long as one does, the
//!        group's number is nobody else's (setpgid(2)).

use rustix::process::{Pid, Signal};

use crate::child::Process;
use crate::{census, family};

/// What is left of a process group.
#[derive(Debug)]
pub(crate) struct Orphans {
    group: u32,
    members: Vec<Process>,
}

impl Orphans {
    /// Those of the ended process `main`, whose number must still be its own: it is not reaped yet.
    pub(crate) fn of(main: u32) -> Self {
        let mut orphans = Self {
            group: main,
            members: Vec::new(),
        };
        orphans.members = orphans.found();
        orphans
    }

    /// Those in the group now that are not known yet.
    fn found(&self) -> Vec<Process> {
        let left = family::left_in_group(self.group, &census::take());
        let known = |pid: u32| self.members.iter().any(|member| member.pid() == pid);
        let new = left.iter().filter(|kin| !known(kin.pid));
        new.filter_map(|kin| Process::find(kin.pid, kin.started))
            .collect()
    }

    /// Forgets those that have ended, gets to know those they have started, and counts.
    pub(crate) fn count(&mut self) -> usize {
        self.members.retain(Process::is_alive);
        if self.members.is_empty() {
            return 0;
        }
        let new = self.found();
        // One of the known still lives, so what was found in between is of the same group.
        if self.members.iter().any(Process::is_alive) {
            self.members.extend(new);
        }
        self.members.len()
    }

    /// Signals the whole group at once: nothing that it starts meanwhile escapes.
    pub(crate) fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.group).ok().and_then(Pid::from_raw);
        if let Some(group) = group
            && self.members.iter().any(Process::is_alive)
        {
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use rustix::process::Signal;

    use super::Orphans;

    fn until(what: &str, mut is: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_a_process_leaves_behind_is_found_counted_and_ended() {
        // The shell starts two, says so, and ends; the second starts a third when it is told to end.
        let script = "sleep 600 & sh -c 'trap \"sleep 600 & exec sleep 600\" TERM; echo up; while :; do sleep 0.05; done' & wait $!";
        let mut shell = Command::new("/bin/sh")
            .args(["-c", script])
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut line = String::new();
        let output = shell.stdout.take().expect("piped");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("is told");
        assert_eq!(line, "up\n");
        shell.kill().expect("killed");
        until("the shell's end", || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", shell.id()));
            stat.is_ok_and(|stat| stat.contains(") Z "))
        });
        let mut orphans = Orphans::of(shell.id());
        shell.wait().expect("reaped");
        // The two, and at times one of the short sleeps.
        assert!((2..=3).contains(&orphans.count()), "{orphans:?}");
        orphans.signal(Signal::TERM);
        // The plain sleep ends, the other becomes one and starts one more.
        until("two sleeps", || {
            let sleeps = orphans.count() == 2;
            sleeps
                && orphans.members.iter().all(|member| {
                    let command = std::fs::read(format!("/proc/{}/cmdline", member.pid()));
                    command.is_ok_and(|command| command == b"sleep\x00600\x00")
                })
        });
        orphans.signal(Signal::KILL);
        until("their end", || orphans.count() == 0);
        // The number may be anybody's now: nobody is signalled.
        orphans.signal(Signal::KILL);
    }

    #[test]
    fn a_process_without_children_leaves_nobody() {
        let mut child = Command::new("/bin/true")
            .process_group(0)
            .spawn()
            .expect("starts");
        let mut orphans = Orphans::of(child.id());
        assert_eq!(orphans.count(), 0);
        child.wait().expect("reaped");
    }
}
