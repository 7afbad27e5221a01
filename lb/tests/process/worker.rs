//! A running `lb` and what a test sees of it: its log, its addresses, its admin answers, its end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take. Sized: everything here takes milliseconds; a busy machine, times a thousand.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The binary, with nothing of the test's own environment.
pub(crate) fn lb() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    command.env_clear();
    command
}

/// A configuration file that can be written again.
pub(crate) struct ConfigFile(tempfile::TempDir);

impl ConfigFile {
    pub(crate) fn new(text: &str) -> Self {
        let file = Self(tempfile::tempdir().expect("a directory"));
        file.write(text);
        file
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::write(self.path(), text).expect("is written");
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.0.path().join("lb.toml")
    }
}

#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    grown: Condvar,
}

pub(crate) struct Worker {
    child: Child,
    log: Arc<Log>,
}

impl Worker {
    /// `lb run` with these arguments.
    pub(crate) fn run(arguments: &[&str]) -> Self {
        Self::start(lb().arg("run").args(arguments))
    }

    /// `lb run --config`.
    pub(crate) fn configured(file: &Path) -> Self {
        Self::start(lb().args(["run", "--config"]).arg(file))
    }

    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("lb starts");
        let stderr = child.stderr.take().expect("is piped");
        let log = Arc::new(Log::default());
        let reader = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                reader.lines.lock().expect("no panic").0.push(line);
                reader.grown.notify_all();
            }
            reader.lines.lock().expect("no panic").1 = true;
            reader.grown.notify_all();
        });
        Self { child, log }
    }

    /// The first line that holds all of `needles`, now or soon.
    pub(crate) fn line(&self, needles: &[&str]) -> String {
        let deadline = Instant::now() + DEADLINE;
        let mut lines = self.log.lines.lock().expect("no panic");
        loop {
            let matching = |line: &&String| needles.iter().all(|needle| line.contains(needle));
            if let Some(line) = lines.0.iter().find(matching) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && !lines.1,
                "no line with {needles:?} in:\n{}",
                lines.0.join("\n")
            );
            lines = self
                .log
                .grown
                .wait_timeout(lines, left)
                .expect("no panic")
                .0;
        }
    }

    /// Where a listener accepts, once it does.
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        let line = self.line(&["accepting", &format!("listener={listener} ")]);
        let address = line.rsplit("address=").next().expect("an address");
        address.trim().parse().expect("an address")
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        request(self.address("admin"), "GET", path)
    }

    pub(crate) fn get_json(&self, path: &str) -> serde_json::Value {
        serde_json::from_str(&self.get(path).1).expect("is JSON")
    }

    pub(crate) fn post(&self, path: &str) -> (u16, String) {
        request(self.address("admin"), "POST", path)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process");
        kill_process(pid, signal).expect("is alive");
    }

    /// How the process ended, once it did.
    pub(crate) fn exit(mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        // The log ends with the process; then waiting for it does not block.
        let mut lines = self.log.lines.lock().expect("no panic");
        while !lines.1 {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "lb does not end:\n{}", lines.0.join("\n"));
            lines = self
                .log
                .grown
                .wait_timeout(lines, left)
                .expect("no panic")
                .0;
        }
        drop(lines);
        self.child.wait().expect("is a child")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request on a connection of its own: status and body.
pub(crate) fn request(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("the admin server accepts");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let head = format!("{method} {path} HTTP/1.1\r\nhost: lb\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("is answered");
    let status = answer
        .get(9..12)
        .and_then(|digits| digits.parse().ok())
        .expect("a status");
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    (status, body.to_owned())
}

/// Asks again and again until it is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
