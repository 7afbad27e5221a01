//! The processes of one session (setsid(2)): a proxy and everything it has started.
//!
//! Holds  only processes of a session that this test began are ever signalled.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use harness::proc;
use rustix::process::Signal;

/// Starts a program in a session of its own; what it says goes to `log`.
pub(crate) fn start(program: &str, args: &[&str], log: &Path) -> Child {
    let file = fs::File::create(log).expect("a log");
    // A child is not the leader of our group, so setsid(1) becomes the program itself instead of starting it.
    let mut command = Command::new("setsid");
    command
        .arg(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("a descriptor"))
        .stderr(file);
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Field 6 of /proc/PID/stat.
pub(crate) fn session_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(3)?.parse().ok()
}

/// Living processes of a session.
pub(crate) fn of_session(session: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("proc");
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| session_of(*pid) == Some(session) && proc::is_alive(*pid))
        .collect()
}

/// Ends every one of them.
pub(crate) fn end_session(session: u32) {
    for pid in of_session(session) {
        proc::signal(pid, Signal::KILL);
    }
}

/// Living processes of this file.
pub(crate) fn of_binary(binary: &Path) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("proc");
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == binary)
    })
    .collect()
}
