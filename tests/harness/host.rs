//! One host: a supervisor with its worker, in scratch directories.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use control::client::Client;
use control::{GenerationStatus, Role, Status};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{binaries, proc, wait};

/// How long a debug build on a busy machine may take to serve.
pub const SERVE_DEADLINE: Duration = Duration::from_secs(30);

/// The worker's configuration file.
const CONFIG: &str = "worker.toml";

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub events: Vec<control::Event>,
    pub output: String,
}

impl Outcome {
    /// The reason of the last event.
    pub fn reason(&self) -> String {
        self.events
            .last()
            .and_then(|event| event.reason.clone())
            .unwrap_or_default()
    }
}

/// A supervisor and its directories; everything ends with it.
#[derive(Debug)]
pub struct Host {
    dir: TempDir,
    name: String,
    binary: PathBuf,
    worker_args: Vec<String>,
    supervisor_args: Vec<String>,
    environment: Vec<(String, String)>,
    inherited: Vec<(String, OwnedFd)>,
    supervisor: Option<Child>,
    known: Vec<u32>,
}

impl Host {
    /// A host that will run `lb` with this configuration.
    pub fn with_lb(config: &str) -> Self {
        Self::configured("load-balancer", "lb", config)
    }

    /// A host that will run `edge` with this configuration.
    pub fn with_edge(config: &str) -> Self {
        Self::configured("edge-proxy", "edge", config)
    }

    fn configured(name: &str, program: &str, config: &str) -> Self {
        let dir = tempfile::tempdir().expect("scratch");
        let path = dir.path().join(CONFIG);
        std::fs::write(&path, config).expect("configuration written");
        let args = vec![
            "run".to_owned(),
            "--config".to_owned(),
            path.display().to_string(),
        ];
        Self::new(dir, name, binaries::find(program), args)
    }

    /// A host that will run any program.
    pub fn with_program(binary: PathBuf, args: &[&str], supervisor_args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("scratch");
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut host = Self::new(dir, "service", binary, args);
        host.supervisor_args = supervisor_args
            .iter()
            .map(|arg| (*arg).to_owned())
            .collect();
        host
    }

    fn new(dir: TempDir, name: &str, binary: PathBuf, worker_args: Vec<String>) -> Self {
        Self {
            dir,
            name: name.to_owned(),
            binary,
            worker_args,
            supervisor_args: Vec::new(),
            environment: Vec::new(),
            inherited: Vec::new(),
            supervisor: None,
            known: Vec::new(),
        }
    }

    /// The scratch directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The worker's configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.path().join(CONFIG)
    }

    /// supervisor.toml of this host; to be called before [`Host::start`].
    pub fn set_supervisor_config(&mut self, text: &str) {
        let path = self.path().join("supervisor.toml");
        std::fs::write(&path, text).expect("written");
        self.supervisor_args
            .extend(["--config".to_owned(), path.display().to_string()]);
    }

    /// The first binary, instead of the built one; to be called before [`Host::start`].
    pub fn set_binary(&mut self, binary: &Path) {
        self.binary = binary.to_owned();
    }

    /// A variable of the supervisor's environment, as a service manager sets it.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// The next start has this variable no more.
    pub fn clear_variable(&mut self, name: &str) {
        self.environment.retain(|(known, _)| known != name);
    }

    /// Sockets that the next start inherits as LISTEN_FDS, under these names.
    pub fn inherit(&mut self, sockets: Vec<(String, OwnedFd)>) {
        self.inherited = sockets;
    }

    /// Starts the supervisor and waits until the worker accepts.
    pub async fn start(&mut self) {
        self.launch();
        self.serving().await;
    }

    /// Starts the supervisor, without waiting.
    pub fn launch(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path().join("supervisor.log"))
            .expect("log");
        let mut command = self.program();
        command
            .args(["run", "--name", &self.name, "--binary"])
            .arg(&self.binary)
            .arg("--state-dir")
            .arg(self.path().join("state"))
            .arg("--runtime-dir")
            .arg(self.runtime_dir())
            .args(&self.supervisor_args)
            .arg("--")
            .args(&self.worker_args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .env_remove("NOTIFY_SOCKET")
            .env_remove("STATE_DIRECTORY")
            .env_remove("RUNTIME_DIRECTORY")
            .envs(self.environment.iter().cloned());
        self.supervisor = Some(command.spawn().expect("the supervisor starts"));
    }

    /// The supervisor, or the supervisor through its own trampoline when it inherits sockets: LISTEN_PID
    /// must be its own number.
    fn program(&mut self) -> Command {
        let supervisor = binaries::find("supervisor");
        let mut command = Command::new(&supervisor);
        if self.inherited.is_empty() {
            return command;
        }
        let inherited = std::mem::take(&mut self.inherited);
        let names: Vec<String> = inherited.iter().map(|(name, _)| name.clone()).collect();
        let mappings = inherited
            .into_iter()
            .zip(3..)
            .map(|((_, parent_fd), child_fd)| FdMapping {
                parent_fd,
                child_fd,
            })
            .collect();
        command
            .args(["activate", "--"])
            .arg(supervisor)
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .fd_mappings(mappings)
            .expect("descriptors are mapped");
        command
    }

    /// Waits until the incumbent accepts and no upgrade runs.
    pub async fn serving(&mut self) -> Status {
        let status = self
            .status_where("serving", |status| {
                status.phase == "idle" && incumbent(status).is_some_and(|one| one.accepting)
            })
            .await;
        self.known
            .extend(status.generations.iter().map(|generation| generation.pid));
        status
    }

    /// Waits for a status with a property.
    pub async fn status_where(&self, what: &str, is: impl Fn(&Status) -> bool) -> Status {
        let last = std::cell::RefCell::new(String::new());
        let client = self.client();
        let deadline = tokio::time::Instant::now() + SERVE_DEADLINE;
        loop {
            match client.status().await {
                Ok(status) if is(&status) => return status,
                Ok(status) => *last.borrow_mut() = format!("{status:?}"),
                Err(error) => *last.borrow_mut() = error.to_string(),
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{what}: not within {SERVE_DEADLINE:?}; last seen {}; the supervisor said:\n{}",
                last.borrow(),
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A client of the control socket.
    pub fn client(&self) -> Client {
        Client::new(self.runtime_dir().join(&self.name).join("control.sock"))
    }

    /// `status`, now.
    pub async fn status(&self) -> Status {
        self.client()
            .status()
            .await
            .expect("the supervisor answers")
    }

    /// The incumbent of `status`.
    pub async fn incumbent(&self) -> GenerationStatus {
        let status = self.status().await;
        incumbent(&status).cloned().expect("an incumbent")
    }

    /// `supervisor upgrade --binary … --json`.
    pub async fn upgrade(&mut self, binary: &Path, more: &[&str]) -> Outcome {
        let binary = binary.display().to_string();
        let mut args = vec!["upgrade", "--json", "--binary", &binary];
        args.extend(more);
        self.command(&args).await
    }

    /// `supervisor upgrade --self --binary … --json`.
    pub async fn self_upgrade(&self, binary: &Path) -> Outcome {
        let binary = binary.display().to_string();
        self.command(&["upgrade", "--self", "--json", "--binary", &binary])
            .await
    }

    /// Any verb, as a person would type it.
    pub async fn command(&self, args: &[&str]) -> Outcome {
        let output = tokio::process::Command::new(binaries::find("supervisor"))
            .args(args)
            .arg("--runtime-dir")
            .arg(self.runtime_dir())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(120), output)
            .await
            .expect("the command ends")
            .expect("the command starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Outcome {
            code: output.status.code().unwrap_or(-1),
            events: text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect(),
            output: format!("{text}{}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// The supervisor's number.
    pub fn supervisor_pid(&self) -> u32 {
        self.supervisor.as_ref().expect("started").id()
    }

    /// The supervisor's exit, if it ended by itself.
    pub fn supervisor_exit(&mut self) -> Option<std::process::ExitStatus> {
        let supervisor = self.supervisor.as_mut().expect("started");
        supervisor.try_wait().expect("waits")
    }

    /// Kills the supervisor and nothing else.
    pub fn kill_supervisor(&mut self) {
        if let Some(mut supervisor) = self.supervisor.take() {
            supervisor.kill().expect("killed");
            supervisor.wait().expect("reaped");
        }
    }

    /// `supervisor stop`, then the supervisor's own exit code.
    pub async fn stop(&mut self) -> Option<i32> {
        let outcome = self.command(&["stop"]).await;
        assert_eq!(outcome.code, 0, "{}", outcome.output);
        let mut supervisor = self.supervisor.take()?;
        let code = wait::until("the supervisor's exit", Duration::from_secs(10), || {
            let ended = supervisor.try_wait().expect("waits");
            async move { ended }
        })
        .await;
        code.code()
    }

    /// What supervisor and workers logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("supervisor.log")).unwrap_or_default()
    }

    fn runtime_dir(&self) -> PathBuf {
        self.path().join("run")
    }

    /// Workers that the runtime directory knows, also those of a dead supervisor.
    fn recorded_workers(&self) -> Vec<u32> {
        let path = self.runtime_dir().join(&self.name).join("workers.json");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let workers: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        workers
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|worker| u32::try_from(worker.get("pid")?.as_u64()?).ok())
            .collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(6000);
            let _ = writeln!(
                std::io::stderr().lock(),
                "--- supervisor.log ---
{}",
                log.get(from..).unwrap_or(&log)
            );
        }
        let mut workers = self.recorded_workers();
        workers.append(&mut self.known);
        self.kill_supervisor();
        let ours = self.path().display().to_string();
        // A master's workers are in its group, also when it is gone.
        workers.extend(workers.clone().into_iter().flat_map(proc::group));
        for pid in workers {
            // Only a process that still runs from this scratch directory is ours.
            let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if exe.starts_with(self.path()) || String::from_utf8_lossy(&command).contains(&ours) {
                proc::signal(pid, Signal::KILL);
            }
        }
    }
}

/// The generation that serves.
pub fn incumbent(status: &Status) -> Option<&GenerationStatus> {
    status
        .generations
        .iter()
        .find(|generation| generation.role == Role::Incumbent)
}
