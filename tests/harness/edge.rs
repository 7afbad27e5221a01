//! A running `edge` by itself, its certificates, and the configuration that the scenarios share.
//!
//! Holds  ports are the kernel's choice (`:0`), read from the log; the process ends with its value.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::authority::Authority;
use crate::clients::Origin;
use crate::{binaries, ports, proc};

/// How long a debug build on a busy machine may take to serve or to end.
const DEADLINE: Duration = Duration::from_secs(30);

/// An `edge` process.
#[derive(Debug)]
pub struct Edge {
    child: Child,
    log: Receiver<String>,
    seen: Vec<String>,
}

impl Edge {
    /// `edge run --config` with this file.
    ///
    /// # Panics
    /// When it is not built.
    pub fn configured(file: &Path) -> Self {
        Self::run(&["--config", &file.display().to_string()])
    }

    /// `edge run` with these arguments.
    ///
    /// # Panics
    /// When it is not built.
    pub fn run(arguments: &[&str]) -> Self {
        let mut child = Command::new(binaries::find("edge"))
            .arg("run")
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("edge starts");
        let stderr = child.stderr.take().expect("piped");
        let (sender, log) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            log,
            seen: Vec::new(),
        }
    }

    /// Where a listener accepts, once it does.
    ///
    /// # Panics
    /// With the log, when it does not.
    pub fn address(&mut self, listener: &str) -> SocketAddr {
        self.accepting(&format!("listener={listener} "))
    }

    /// Where the first listener accepts, whatever its name.
    ///
    /// # Panics
    /// With the log, when none does.
    pub fn any_address(&mut self) -> SocketAddr {
        self.accepting("listener=")
    }

    fn accepting(&mut self, name: &str) -> SocketAddr {
        let is = |line: &String| line.contains("accepting") && line.contains(name);
        let deadline = Instant::now() + DEADLINE;
        let line = loop {
            if let Some(line) = self.seen.iter().find(|line| is(line)) {
                break line;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(error) => panic!(
                    "no line with accepting and {name:?} ({error}); edge said:\n{}",
                    self.seen.join("\n")
                ),
            }
        };
        let address = line.rsplit("address=").next().expect("an address");
        address.trim().parse().expect("an address")
    }

    /// The port of [`Edge::address`].
    ///
    /// # Panics
    /// As [`Edge::address`].
    pub fn port(&mut self, listener: &str) -> u16 {
        self.address(listener).port()
    }

    /// GET of the admin server: status and body.
    ///
    /// # Panics
    /// When there is none.
    pub fn admin(&mut self, path: &str) -> (u16, String) {
        get(self.address("admin"), path)
    }

    /// SIGTERM.
    pub fn drain(&self) {
        proc::signal(self.child.id(), Signal::TERM);
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, once it did.
    ///
    /// # Panics
    /// When it does not within `within`.
    pub fn ended(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "edge does not end within {within:?}; it said:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it logged up to now.
    pub fn log(&mut self) -> String {
        self.seen.extend(self.log.try_iter());
        self.seen.join("\n")
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.seen.extend(self.log.iter());
        let log = self.seen.join("\n");
        if !std::thread::panicking() {
            // Input never panics edge: such a connection's thread is gone, and no client may notice.
            assert!(!log.contains("panicked at"), "edge panicked:\n{log}");
        } else {
            let from = log.len().saturating_sub(4000);
            let tail = log.get(from..).unwrap_or(&log);
            let _ = writeln!(std::io::stderr().lock(), "--- edge said ---\n{tail}");
        }
    }
}

/// GET in clear on a connection of its own: status and body.
///
/// # Panics
/// When nobody answers.
pub fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("is answered");
    let status = answer.get(9..12).and_then(|digits| digits.parse().ok());
    let (_, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    (status.expect("a status"), body.to_owned())
}

/// An origin, certificates and a configuration with the listeners `https` and `http`.
#[derive(Debug)]
pub struct Site {
    pub origin: Origin,
    pub authority: Authority,
    dir: TempDir,
}

impl Site {
    /// Starts the origin and issues `server.crt` with serial number 1.
    ///
    /// # Panics
    /// When a part is missing.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("scratch");
        let authority = Authority::new(dir.path());
        authority.issue("server", 1);
        Self {
            origin: Origin::start(),
            authority,
            dir,
        }
    }

    /// Its scratch directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The configuration on ports of the kernel's choice; `top` comes first, `more` last.
    pub fn config(&self, top: &str, more: &str) -> String {
        self.config_on(&[0, 0, 0], top, more)
    }

    /// The configuration on ports of this test's own range (https, http, admin), for hosts with a supervisor.
    pub fn config_on_own_ports(&self, top: &str, more: &str) -> (Vec<u16>, String) {
        let ports = ports::free_ports(3);
        let config = self.config_on(&ports, top, more);
        (ports, config)
    }

    fn config_on(&self, ports: &[u16], top: &str, more: &str) -> String {
        let Origin {
            http,
            websocket,
            grpc,
            ..
        } = self.origin;
        format!(
            "{top}\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n{listeners}\
             [[route]]\npath_prefix = \"/ws\"\nupstream = \"websocket\"\n\
             [[route]]\npath_prefix = \"/test.Service\"\nupstream = \"grpc\"\n\
             [[route]]\npath_prefix = \"/\"\nupstream = \"http\"\n\
             [upstream.http]\nbackends = [\"127.0.0.1:{http}\"]\n\
             [upstream.websocket]\nbackends = [\"127.0.0.1:{websocket}\"]\n\
             [upstream.grpc]\nprotocol = \"http2\"\nbackends = [\"127.0.0.1:{grpc}\"]\n{more}",
            admin = ports[2],
            listeners = listeners(self.path(), ports[0], ports[1]),
        )
    }

    /// Starts `edge` with [`Site::config`].
    ///
    /// # Panics
    /// When it is not built.
    pub fn edge(&self, top: &str, more: &str) -> Edge {
        let file = self.path().join("edge.toml");
        std::fs::write(&file, self.config(top, more)).expect("written");
        Edge::configured(&file)
    }
}

/// The listeners `https` (with `server.crt` of this directory) and `http`.
pub fn listeners(certificates: &Path, https: u16, http: u16) -> String {
    let dir = certificates.display();
    format!(
        "[[listener]]\nname = \"https\"\naddress = \"127.0.0.1:{https}\"\n\
         [[listener.certificate]]\ncertificate = \"{dir}/server.crt\"\nkey = \"{dir}/server.key\"\n\
         [[listener]]\nname = \"http\"\naddress = \"127.0.0.1:{http}\"\n"
    )
}
