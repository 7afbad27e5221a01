//! Worker processes: spawn, signal, reap. A process is held by its pidfd, never by its number alone.
//!
//! Holds  a child gets its own process group (a Ctrl-C at the terminal is the supervisor's business) and
//!        none of the supervisor's own service-manager variables.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use handoff::link::Channel;
use handoff::worker::{HANDOFF_VARIABLE, PROBE_VARIABLE};
use handoff::{ListenerName, Listeners};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use crate::image::{self, ADOPT_VARIABLE};
use crate::orphans::Orphans;
use crate::record::Artifact;

/// What no child inherits: variables between a service manager and this process (no child may answer in our
/// name), and those by which the dynamic loader (ld.so(8)) would run other code than the staged bytes.
/// Everything else reaches the worker: it is configured by the unit's EnvironmentFile (contract).
pub(crate) const PRIVATE_VARIABLES: [&str; 18] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "FDSTORE",
    "MAINPID",
    ADOPT_VARIABLE,
    "MANAGERPID",
    "SYSTEMD_EXEC_PID",
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "LD_AUDIT",
    "GCONV_PATH",
    HANDOFF_VARIABLE,
    PROBE_VARIABLE,
];

/// First descriptor of a socket-activated program (sd_listen_fds(3), SD_LISTEN_FDS_START).
const LISTEN_FDS_START: i32 = 3;

/// A process that cannot be started or found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("{path}: {source}")]
    Exec { path: String, source: io::Error },
    #[error("the worker cannot be watched: {0}")]
    Watch(#[from] io::Error),
}

/// A living (or just ended) process.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    pidfd: OwnedFd,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) text: String,
    pub(crate) code: Option<i32>,
}

impl Process {
    fn open(pid: u32) -> io::Result<Self> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = rustix::process::pidfd_open(number, PidfdFlags::empty())?;
        Ok(Self { pid, pidfd })
    }

    /// Finds a worker that outlived its supervisor; `None` when it is gone or its number is another's.
    pub(crate) fn find(pid: u32, started: u64) -> Option<Self> {
        let process = Self::open(pid).ok()?;
        (start_time(pid) == Some(started)).then_some(process)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Duplicates what a level 1 program got at descriptor 3 and on (pidfd_getfd(2): needs the same user).
    pub(crate) fn take_back(&self, names: &[ListenerName]) -> io::Result<Listeners> {
        let mut listeners = Listeners::new();
        for (name, number) in names.iter().zip(LISTEN_FDS_START..) {
            let flags = rustix::process::PidfdGetfdFlags::empty();
            let socket = rustix::process::pidfd_getfd(&self.pidfd, number, flags)?;
            listeners.push(name.clone(), socket);
        }
        Ok(listeners)
    }

    /// Sends a signal; a process that is already gone is no error.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, signal);
    }

    /// False once it has ended, reaped or not.
    pub(crate) fn is_alive(&self) -> bool {
        let mut watched = [PollFd::new(&self.pidfd, PollFlags::IN)];
        // A look that fails is no proof of an end.
        !matches!(
            rustix::event::poll(&mut watched, Some(&Timespec::default())),
            Ok(1..)
        )
    }

    /// Calls `ended` once, from a thread of its own, when the process is gone, with what it left behind of its
    /// group; reaps our own children.
    pub(crate) fn watch(
        &self,
        ended: impl FnOnce(Ending, Orphans) + Send + 'static,
    ) -> io::Result<()> {
        let (pid, pidfd) = (self.pid, self.pidfd.try_clone()?);
        std::thread::Builder::new()
            .name(format!("watch-{}", self.pid))
            .stack_size(64 * 1024)
            .spawn(move || {
                // They are the main thread's business, which can hold them back across an exec.
                image::hold_signals();
                wait(&pidfd);
                // Before it is reaped: until then its number, which is its group's, cannot become another's.
                let orphans = Orphans::of(pid);
                ended(reap(&pidfd), orphans);
            })?;
        Ok(())
    }
}

fn wait(pidfd: &OwnedFd) {
    // A pidfd is readable once its process has ended, whether or not it is our child (pidfd_open(2)).
    loop {
        let mut watched = [PollFd::new(pidfd, PollFlags::IN)];
        match rustix::event::poll(&mut watched, None) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
}

fn reap(pidfd: &OwnedFd) -> Ending {
    match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
        Ok(Some(status)) => {
            let code = status.exit_status();
            let text = match (code, status.terminating_signal()) {
                (Some(code), _) => format!("it exited with code {code}"),
                (None, Some(signal)) => format!("it was killed by signal {signal}"),
                (None, None) => "it ended".to_owned(),
            };
            Ending { text, code }
        }
        // Not our child (adopted from an earlier supervisor): somebody else reaps it.
        _ => Ending {
            text: "it ended".to_owned(),
            code: None,
        },
    }
}

/// Field 22 of /proc/PID/stat (proc(5)): clock ticks since boot.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold anything; the fields begin after its last parenthesis.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// Starts a native worker; the channel is its standard input.
pub(crate) fn spawn_native(
    artifact: &Artifact,
    args: &[String],
) -> Result<(Process, Channel), SpawnError> {
    let (ours, theirs) = Channel::pair()?;
    let mut command = scrubbed(&artifact.path);
    command
        .args(args)
        .env(HANDOFF_VARIABLE, "stdin")
        .stdin(Stdio::from(theirs.into_fd()));
    Ok((start(command, &artifact.path)?, ours))
}

/// Starts a program that knows only LISTEN_FDS and NOTIFY_SOCKET.
pub(crate) fn spawn_activated(
    artifact: &Artifact,
    args: &[String],
    listeners: Listeners,
    notify_socket: &Path,
) -> Result<Process, SpawnError> {
    let mut names: Vec<ListenerName> = Vec::new();
    let mut mappings = Vec::new();
    for ((name, socket), child_fd) in members(listeners).zip(LISTEN_FDS_START..) {
        names.push(name);
        mappings.push(FdMapping {
            parent_fd: socket,
            child_fd,
        });
    }
    let names: Vec<&str> = names.iter().map(ListenerName::as_str).collect();
    // LISTEN_PID must be the program's own number, which only the program's process knows: our own
    // binary runs first in that process, sets it, and becomes the program.
    let mut command = scrubbed(Path::new("/proc/self/exe"));
    command
        .arg("activate")
        .arg("--")
        .arg(&artifact.path)
        .args(args)
        .env("LISTEN_FDS", mappings.len().to_string())
        .env("LISTEN_FDNAMES", names.join(":"))
        .env("NOTIFY_SOCKET", notify_socket)
        .stdin(Stdio::null());
    command.fd_mappings(mappings).map_err(io::Error::other)?;
    start(command, &artifact.path)
}

fn members(listeners: Listeners) -> impl Iterator<Item = (ListenerName, OwnedFd)> {
    listeners.into_iter().flat_map(|(name, sockets)| {
        sockets
            .into_iter()
            .map(move |socket| (name.clone(), socket))
    })
}

fn scrubbed(program: &Path) -> Command {
    let mut command = Command::new(program);
    for variable in PRIVATE_VARIABLES {
        command.env_remove(variable);
    }
    command.process_group(0);
    command
}

fn start(mut command: Command, path: &Path) -> Result<Process, SpawnError> {
    let failed = |source| SpawnError::Exec {
        path: path.display().to_string(),
        source,
    };
    let child = command.spawn().map_err(failed)?;
    Ok(Process::open(child.id())?)
}

/// The rest of `spawn_activated`, in the new process: never returns on success.
pub(crate) fn become_program(program: &[String]) -> io::Error {
    let Some((path, args)) = program.split_first() else {
        return io::ErrorKind::InvalidInput.into();
    };
    Command::new(path)
        .args(args)
        .env("LISTEN_PID", std::process::id().to_string())
        .exec()
}

/// How long a process that was told to end may take before it is killed.
pub(crate) const KILL_AFTER: Duration = Duration::from_secs(3);
