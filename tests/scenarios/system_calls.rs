//! System calls of one request, counted exactly: a number without noise, which no build may raise unseen.
//!
//! One client asks, and asks again when it has its answer; strace(1) writes every call down. Two loads of different
//! length tell what a request costs and what the beginning and end of a connection do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bench::certificates::Certificates;
use bench::ledger::Class;
use bench::load::{Load, Shape};
use bench::origin::{Kind, Origin};
use bench::target::Target;
use bench::trust::Trust;
use harness::edge::Edge;
use harness::{binaries, wait};
use rustix::process::{Pid, Signal};

/// Calls by name.
type Calls = BTreeMap<String, f64>;

/// A tracer of every thread of a process.
struct Strace {
    child: Child,
    file: tempfile::NamedTempFile,
}

impl Strace {
    async fn attach(pid: u32) -> Self {
        let file = tempfile::NamedTempFile::new().expect("scratch");
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o"])
            .arg(file.path())
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace: scripts/setup installs it");
        let threads = Path::new("/proc").join(pid.to_string()).join("task");
        wait::until(
            "every thread is traced",
            Duration::from_secs(20),
            || async {
                let mut all = std::fs::read_dir(&threads).expect("it lives").flatten();
                let traced = all.all(|thread| {
                    let status = std::fs::read_to_string(thread.path().join("status"));
                    status.is_ok_and(|status| !status.contains("TracerPid:\t0\n"))
                });
                traced.then_some(())
            },
        )
        .await;
        Self { child, file }
    }

    /// What was called since. What returned nothing (a tick of the clock) is no request's.
    fn calls(mut self) -> Calls {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        rustix::process::kill_process(pid.expect("a child"), Signal::INT).expect("it is there");
        self.child.wait().expect("it ends");
        let mut calls = Calls::new();
        for line in std::fs::read_to_string(self.file.path())
            .expect("its account")
            .lines()
        {
            let call = line
                .split_once(' ')
                .map_or("", |(_pid, call)| call)
                .trim_start();
            let name = match call.strip_prefix("<... ") {
                // The second half of a call that another thread interrupted.
                Some(resumed) => resumed.split(' ').next().unwrap_or_default(),
                None if call.ends_with("<unfinished ...>") => continue,
                None => call.split('(').next().unwrap_or_default(),
            };
            let is_tick = name == "epoll_wait" && call.ends_with("= 0");
            let is_word = name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if is_word && !name.is_empty() && !is_tick {
                *calls.entry(name.to_owned()).or_default() += 1.0;
            }
        }
        calls
    }
}

/// One client until it has had so many answers: its requests, and the calls of the proxy.
async fn traced(pid: u32, load: &Load, answers: u64) -> (f64, Calls) {
    let strace = Strace::attach(pid).await;
    let running = load.clone().start().expect("the load starts");
    wait::until("answers", Duration::from_secs(60), || async {
        (running.snapshot().exchanges.count(Class::Ok) >= answers).then_some(())
    })
    .await;
    running.stop();
    let ledger = running.finish().await;
    assert!(ledger.is_clean(), "{:?}", ledger.examples);
    let requests = u32::try_from(ledger.exchanges.started()).expect("few");
    (f64::from(requests), strace.calls())
}

/// Calls of one request, in whole numbers: what other threads and the clock do besides is far below one.
async fn of_a_request(pid: u32, mut load: Load) -> String {
    load.exchanges_per_connection = u64::MAX;
    // Nothing of the first requests counts: connections to the origin, memory, tickets.
    let _ = traced(pid, &load, 100).await;
    let (few, before) = traced(pid, &load, 200).await;
    let (many, after) = traced(pid, &load, 2000).await;
    assert!(many > few + 500.0, "{few} and {many} requests");
    let each = after.iter().map(|(name, count)| {
        let more = count - before.get(name).copied().unwrap_or_default();
        (name, more / (many - few))
    });
    let worth = each.filter(|(_, each)| *each >= 0.3);
    let words: Vec<String> = worth
        .map(|(name, each)| format!("{name} {each:.0}"))
        .collect();
    words.join(", ")
}

fn origin() -> Origin {
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    Origin::start(Kind::Http, local).expect("an origin")
}

#[tokio::test]
async fn lb_reads_and_writes_each_direction_once() {
    let origin = origin();
    let scratch = tempfile::tempdir().expect("scratch");
    let port = harness::ports::free_ports(1)[0];
    let config = format!(
        "workers = 1\n[[listener]]\nname = \"l4\"\naddress = \"127.0.0.1:{port}\"\nupstream = \"app\"\n\
         [upstream.app]\nbackends = [\"{}\"]\n",
        origin.address()
    );
    let file = scratch.path().join("lb.toml");
    std::fs::write(&file, config).expect("written");
    let mut lb = Command::new(binaries::find("lb"))
        .args(["run", "--config"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("lb starts");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait::until("lb accepts", Duration::from_secs(20), || async {
        std::net::TcpStream::connect(address).ok()
    })
    .await;
    let load = Load::new(Target::http(address, "/bytes/1024"), Shape::KeepAlive, 1);
    let calls = of_a_request(lb.id(), load).await;
    lb.kill().expect("it is there");
    lb.wait().expect("it ends");
    assert_eq!(calls, "epoll_pwait 2, recvfrom 2, sendto 2");
}

/// An `edge` with one worker in front of an origin: in clear, and over TLS.
struct Front {
    edge: Edge,
    clear: SocketAddr,
    tls: SocketAddr,
    certificates: Certificates,
    _origin: Origin,
    _scratch: tempfile::TempDir,
}

fn front() -> Front {
    let origin = origin();
    let scratch = tempfile::tempdir().expect("scratch");
    let certificates = Certificates::write(scratch.path(), &["localhost"]).expect("certificates");
    let config = format!(
        "workers = 1\n[[listener]]\nname = \"clear\"\naddress = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n\
         [[listener.certificate]]\ncertificate = \"{}\"\nkey = \"{}\"\n\
         [[route]]\nupstream = \"app\"\n[upstream.app]\nbackends = [\"{}\"]\n",
        certificates.certificate.display(),
        certificates.key.display(),
        origin.address()
    );
    let file = scratch.path().join("edge.toml");
    std::fs::write(&file, config).expect("written");
    let mut edge = Edge::configured(&file);
    Front {
        clear: edge.address("clear"),
        tls: edge.address("tls"),
        edge,
        certificates,
        _origin: origin,
        _scratch: scratch,
    }
}

impl Front {
    fn over_tls(&self, shape: Shape) -> Load {
        let target = Target::https(self.tls, "localhost", "/bytes/1024");
        let mut load = Load::new(target, shape, 1);
        load.streams_per_connection = 1;
        load.trust = Some(Trust::authority(&self.certificates.authority).expect("an authority"));
        load
    }
}

#[tokio::test]
async fn edge_reads_and_writes_each_message_once() {
    let front = front();
    let pid = front.edge.pid();
    let clear = Load::new(
        Target::http(front.clear, "/bytes/1024"),
        Shape::KeepAlive,
        1,
    );
    for (what, load, calls) in [
        ("HTTP/1.1", clear, "epoll_wait 2, recvfrom 2, sendto 2"),
        (
            "HTTP/1.1 over TLS",
            front.over_tls(Shape::KeepAlive),
            "epoll_wait 2, recvfrom 2, sendto 1, writev 1",
        ),
        (
            "HTTP/2 over TLS",
            front.over_tls(Shape::Http2),
            "epoll_wait 2, recvfrom 2, sendto 1, writev 1",
        ),
    ] {
        assert_eq!(of_a_request(pid, load).await, calls, "{what}");
    }
}
