//! Clients and origins that are not ours: Python's from `tests/clients`, Debian's from `scripts/setup`.
//!
//! Holds  every child ends with its value; every wait has a deadline.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// How long a client may take. Sized: the longest takes seconds; a busy machine, times twenty.
pub const DEADLINE: Duration = Duration::from_secs(100);

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("the workspace").to_owned()
}

/// A program of `tests/clients`, to be run by the environment that `scripts/setup` makes.
///
/// # Panics
/// When the environment is missing: says what to run.
pub fn python(program: &str) -> Command {
    let interpreter = root().join("target/clients-venv/bin/python");
    assert!(
        interpreter.is_file(),
        "{} is missing: run scripts/setup (make test does)",
        interpreter.display()
    );
    let mut command = Command::new(interpreter);
    command
        .arg("-u")
        .arg(root().join("tests/clients").join(program));
    command
}

/// A program of the host, by the first of its names that is there.
///
/// # Panics
/// When none is there: says what to run.
pub fn program(names: &[&str]) -> Command {
    let found = names
        .iter()
        .map(|name| Path::new("/usr/bin").join(name))
        .find(|path| path.is_file());
    let path =
        found.unwrap_or_else(|| panic!("{names:?} is missing: run scripts/setup (make test does)"));
    Command::new(path)
}

/// Runs a client to its end: whether it succeeded, and all that it said.
///
/// # Panics
/// When it does not start or does not end within [`DEADLINE`].
pub fn run(command: &mut Command) -> (bool, String) {
    let mut talk = Talk::start(command);
    drop(talk.input.take());
    let mut said = String::new();
    while let Some(line) = talk.line() {
        said.push_str(&line);
        said.push('\n');
    }
    (talk.child.wait().expect("a child").success(), said)
}

/// Runs a client that must succeed; what it said.
///
/// # Panics
/// With what it said, when it fails.
pub fn succeed(command: &mut Command) -> String {
    let (succeeded, said) = run(command);
    assert!(succeeded, "{command:?} failed:\n{said}");
    said
}

/// A client that is talked with, line by line; its errors come among its output.
#[derive(Debug)]
pub struct Talk {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Talk {
    /// Starts it.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(command: &mut Command) -> Self {
        let (sender, lines) = channel();
        let mut child = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let errors = child.stderr.take().expect("piped");
        let output = child.stdout.take().expect("piped");
        let also = sender.clone();
        let forward = |reader: Box<dyn std::io::Read + Send>,
                       to: std::sync::mpsc::Sender<String>| {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(reader);
                let mut line = Vec::new();
                while matches!(reader.read_until(b'\n', &mut line), Ok(length) if length > 0) {
                    let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                    if to.send(text).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        };
        forward(Box::new(output), sender);
        forward(Box::new(errors), also);
        let input = child.stdin.take();
        Self {
            child,
            input,
            lines,
        }
    }

    /// The next line; `None` at the end.
    ///
    /// # Panics
    /// When neither comes within [`DEADLINE`].
    pub fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("silent for {DEADLINE:?}"),
        }
    }

    /// Reads to a line that contains this; that line.
    ///
    /// # Panics
    /// With all that was said, when there is none.
    pub fn line_with(&mut self, needle: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        let mut said = Vec::new();
        while let Some(line) = self.line() {
            if line.contains(needle) {
                return line;
            }
            said.push(line);
            assert!(Instant::now() < deadline, "no {needle:?} in {said:#?}");
        }
        panic!("ended without {needle:?}: {said:#?}");
    }

    /// The last of the lines that are there now, if any.
    pub fn latest(&mut self) -> Option<String> {
        self.lines.try_iter().last()
    }

    /// Writes to its input.
    ///
    /// # Panics
    /// When it no longer reads.
    pub fn say(&mut self, text: &str) {
        let input = self.input.as_mut().expect("open");
        input.write_all(text.as_bytes()).expect("it reads");
        input.flush().expect("it reads");
    }

    /// Ends its input.
    pub fn end_input(&mut self) {
        drop(self.input.take());
    }

    /// The last line of the whole talk, once it ended.
    ///
    /// # Panics
    /// With what was said, when it fails.
    pub fn finish(mut self) -> String {
        self.end_input();
        let mut said = Vec::new();
        while let Some(line) = self.line() {
            said.push(line);
        }
        assert!(
            self.child.wait().expect("a child").success(),
            "failed: {said:#?}"
        );
        said.pop().unwrap_or_default()
    }
}

impl Drop for Talk {
    /// Ends it, and what it started: browsers have children that outlive them.
    fn drop(&mut self) {
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `tests/clients/origin.py`: HTTP/1.1, WebSocket and gRPC servers.
#[derive(Debug)]
pub struct Origin {
    pub http: u16,
    pub websocket: u16,
    pub grpc: u16,
    talk: Talk,
}

impl Origin {
    /// Starts it and waits for its ports.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Self {
        let mut talk = Talk::start(&mut python("origin.py"));
        let line = talk.line_with("\"grpc\"");
        let ports: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let port = |name: &str| {
            let number = ports[name].as_u64().expect("a port");
            u16::try_from(number).expect("a port")
        };
        Self {
            http: port("http"),
            websocket: port("websocket"),
            grpc: port("grpc"),
            talk,
        }
    }

    /// The next report of a page.
    ///
    /// # Panics
    /// When none comes within [`DEADLINE`].
    pub fn report(&mut self) -> serde_json::Value {
        let line = self.talk.line_with("{");
        serde_json::from_str(&line).expect("JSON")
    }
}
