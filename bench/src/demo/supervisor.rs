//! The supervisor of the demo, used as a person uses it: by its command line.
//!
//! Room  starting processes and reading what they print.
//! In    the supervisor's binary and directories.
//! Out   status, upgrades with their events and verdict, an end.
//! Holds every command has a deadline; a command that outlives it is killed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{sleep, timeout};

use super::processes;
use super::status::{Event, Generation, Status};

/// For `status`: it asks a socket on this host.
const STATUS_LIMIT: Duration = Duration::from_secs(5);

/// For `stop`: every generation ends. The loads are off by then, so there is nothing to drain.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Between two looks at the status.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How much of the log is shown when something went wrong, in lines.
const LOG_LINES: usize = 40;

/// The running supervisor.
#[derive(Debug)]
pub(super) struct Supervisor {
    binary: PathBuf,
    runtime: PathBuf,
    log: PathBuf,
    child: Child,
}

/// What it is to run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service<'a> {
    pub(super) name: &'a str,
    pub(super) binary: &'a Path,
    pub(super) configuration: &'a Path,
}

/// An upgrade under way.
#[derive(Debug)]
pub(super) struct Upgrade {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    verdict: Option<Event>,
}

/// How an upgrade ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// `None`: a signal ended the command.
    pub(super) exit_code: Option<i32>,
    /// From the last event.
    pub(super) verdict: String,
    pub(super) reason: String,
    /// Live connections that moved to the successor.
    pub(super) moved: u64,
}

impl Supervisor {
    /// Starts `supervisor run` with its directories and log in `directory`.
    pub(super) fn start(
        binary: &Path,
        service: &Service<'_>,
        directory: &Path,
    ) -> io::Result<Self> {
        let (runtime, log) = (directory.join("run"), directory.join("supervisor.log"));
        let file = File::create(&log)?;
        let child = Command::new(binary)
            .args(["run", "--name", service.name, "--binary"])
            .arg(service.binary)
            .arg("--state-dir")
            .arg(directory.join("state"))
            .arg("--runtime-dir")
            .arg(&runtime)
            .arg("--config")
            .arg(directory.join("supervisor.toml"))
            .args(["--", "run", "--config"])
            .arg(service.configuration)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            // Ctrl-C is for the demo; it then stops the supervisor in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self {
            binary: binary.to_owned(),
            runtime,
            log,
            child,
        })
    }

    pub(super) fn binary(&self) -> &Path {
        &self.binary
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg(verb)
            .arg("--runtime-dir")
            .arg(&self.runtime)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// What it says now; `None`: it does not answer.
    pub(super) async fn status(&self) -> Option<Status> {
        let answer = self
            .command("status")
            .arg("--json")
            .stderr(Stdio::null())
            .output();
        let output = timeout(STATUS_LIMIT, answer).await.ok()?.ok()?;
        Status::parse(std::str::from_utf8(&output.stdout).ok()?)
    }

    /// Waits until the status has what `wanted` looks for. `None`: the limit passed, or the supervisor has ended.
    pub(super) async fn wait_for<T>(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&Status) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline && self.is_running() {
            if let Some(found) = self.status().await.as_ref().and_then(&wanted) {
                return Some(found);
            }
            sleep(LOOK_INTERVAL).await;
        }
        None
    }

    /// The worker that serves, once nothing is under way.
    pub(super) async fn wait_for_incumbent(&mut self, limit: Duration) -> Option<Generation> {
        self.wait_for(limit, |status| status.settled_incumbent().cloned())
            .await
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Begins `supervisor upgrade`.
    pub(super) fn upgrade(
        &self,
        binary: &Path,
        bake: Duration,
        ready_timeout: Option<Duration>,
    ) -> io::Result<Upgrade> {
        let mut command = self.command("upgrade");
        command
            .arg("--binary")
            .arg(binary)
            .arg("--bake")
            .arg(format!("{}ms", bake.as_millis()))
            .arg("--json");
        if let Some(limit) = ready_timeout {
            command
                .arg("--ready-timeout")
                .arg(format!("{}ms", limit.as_millis()));
        }
        let log = File::options().append(true).open(&self.log)?;
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn()?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("the command has no standard output"))?;
        Ok(Upgrade {
            child,
            lines: BufReader::new(stdout).lines(),
            verdict: None,
        })
    }

    /// The last lines of its log and of what its workers wrote.
    pub(super) fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        let skip = lines.len().saturating_sub(LOG_LINES);
        lines.get(skip..).unwrap_or_default().join("\n")
    }

    /// Asks it to stop; kills it when it does not.
    pub(super) async fn stop(&mut self) {
        if self.is_running() {
            let stop = self
                .command("stop")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            // What `stop` says is not relied on: the process is watched instead.
            timeout(STOP_LIMIT, stop)
                .await
                .map(drop)
                .unwrap_or_default();
        }
        if timeout(STOP_LIMIT, self.child.wait()).await.is_err()
            && let Some(pid) = self.child.id()
        {
            processes::kill(pid, None);
            self.child.wait().await.map(drop).unwrap_or_default();
        }
    }
}

impl Upgrade {
    /// The next event with its line; `None`: it has ended.
    pub(super) async fn next_event(&mut self) -> Option<(Event, String)> {
        while let Ok(Some(line)) = self.lines.next_line().await {
            if let Some(event) = Event::parse(&line) {
                if event.verdict.is_some() {
                    self.verdict = Some(event.clone());
                }
                return Some((event, line));
            }
        }
        None
    }

    /// After the last event: how it ended.
    pub(super) async fn finish(mut self) -> io::Result<Outcome> {
        let status: ExitStatus = self.child.wait().await?;
        let last = self.verdict.unwrap_or_default();
        let reason = last
            .reason
            .filter(|reason| !reason.is_empty())
            .unwrap_or(last.message);
        let verdict = last.verdict.unwrap_or_else(|| "no verdict".to_owned());
        Ok(Outcome {
            exit_code: status.code(),
            verdict,
            reason,
            moved: last.moved.unwrap_or_default().connections,
        })
    }
}
