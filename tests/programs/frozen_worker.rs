//! A worker of another version: speaks handoff protocol 1 by hand, with nothing of the crate that today's
//! build speaks it with, and relays the connections of an `lb` configuration.
//!
//! Under a file name with `newer` in it, it is a later version instead: a wider range of protocols, unknown
//! fields in every message, unknown kinds between them.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use harness::places::{Place, places};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde_json::{Value, json};

const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};

fn is_newer() -> bool {
    let path = std::env::current_exe().unwrap_or_default();
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().contains("newer"))
}

fn range() -> Value {
    json!({"min": 1, "max": if is_newer() { 99 } else { 1 }})
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--version") => {
            let version = if is_newer() { "9.0.0" } else { "0.9.0" };
            let who = json!({"service": "load-balancer", "version": version, "handoff": range()});
            let _ = writeln!(std::io::stdout(), "{who}");
            ExitCode::SUCCESS
        }
        Some("check") => ExitCode::SUCCESS,
        Some("run") => {
            let path = args.last().expect("run --config PATH");
            let text = std::fs::read_to_string(path).expect("the configuration");
            Worker::new(&text).live();
            ExitCode::SUCCESS
        }
        _ => ExitCode::FAILURE,
    }
}

/// The channel: frames with numbers.
struct Voice {
    socket: OwnedFd,
    said: Mutex<u64>,
}

impl Voice {
    fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            said: Mutex::new(0),
        }
    }

    fn say(&self, mut message: Value, fds: &[BorrowedFd<'_>]) {
        let mut said = self.said.lock().expect("no panic");
        if is_newer() {
            if *said > 0 {
                *said += 1;
                self.send(&json!({"seq": *said, "message": {"type": "teleport"}}), &[]);
            }
            message["colour"] = json!({"of": ["the", 7, null]});
        }
        *said += 1;
        let frame = json!({"seq": *said, "fds": fds.len(), "message": message});
        self.send(&frame, fds);
    }

    /// A supervisor that is gone hears nothing; the reader finds out.
    fn send(&self, frame: &Value, fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        let text = frame.to_string();
        let bytes = [IoSlice::new(text.as_bytes())];
        let _ = rustix::net::sendmsg(&self.socket, &bytes, &mut control, SendFlags::NOSIGNAL);
    }

    /// The next message; `None`: the supervisor is gone.
    fn hear(&self) -> Option<(Value, Vec<OwnedFd>)> {
        let mut watched = [PollFd::new(&self.socket, PollFlags::IN)];
        rustix::event::poll(&mut watched, None).ok()?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = vec![0; 64 * 1024];
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = rustix::net::recvmsg(&self.socket, &mut slices, &mut control, flags).ok()?;
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        let frame: Value = serde_json::from_slice(bytes.get(..received.bytes)?).ok()?;
        Some((frame["message"].clone(), fds))
    }
}

/// What the threads share.
#[derive(Default)]
struct Shared {
    /// Held over each round of accepts: once it is false, nothing is accepted any more.
    accepting: Mutex<bool>,
    held: AtomicU64,
    accepted: AtomicU64,
    finished: AtomicU64,
}

type Sockets = Vec<(String, TcpListener)>;

struct Worker {
    places: Vec<Place>,
    shared: Arc<Shared>,
}

impl Worker {
    fn new(config: &str) -> Self {
        Self {
            places: places(config),
            shared: Arc::default(),
        }
    }

    fn live(self) {
        let channel = std::io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .expect("a channel");
        // The channel must have one owner, or the supervisor never sees it close.
        rustix::stdio::dup2_stdin(File::open("/dev/null").expect("opens")).expect("replaced");
        let mut voice = Arc::new(Voice::new(channel));
        voice.say(hello(None), &[]);
        let (mut welcome, _) = voice.hear().expect("a welcome");
        let mut sockets = adopt(&voice, &welcome);
        let own = self.bind_missing(&sockets);
        offer(&voice, &own);
        sockets.extend(own);
        voice.say(json!({"type": "ready", "unclaimed": []}), &[]);
        self.serve(&sockets);
        loop {
            let ticking = Arc::new(Mutex::new(true));
            self.tell_stats(Arc::clone(&voice), Arc::clone(&ticking));
            if self.obey(&voice) {
                return;
            }
            *ticking.lock().expect("no panic") = false;
            if self.shared.accepted.load(Ordering::SeqCst) == 0 {
                return;
            }
            (voice, welcome) = come_back(&welcome, &sockets);
        }
    }

    fn bind_missing(&self, handed: &Sockets) -> Sockets {
        let missing = self
            .places
            .iter()
            .filter(|place| handed.iter().all(|(name, _)| *name != place.name));
        missing
            .map(|place| {
                let listener = TcpListener::bind(&place.address).expect("binds");
                (place.name.clone(), listener)
            })
            .collect()
    }

    /// True: it is over. False: the supervisor is gone.
    fn obey(&self, voice: &Voice) -> bool {
        while let Some((message, _)) = voice.hear() {
            let accepting = |on: bool| {
                *self.shared.accepting.lock().expect("no panic") = on;
                voice.say(json!({"type": "accepting", "on": on}), &[]);
            };
            match message["type"].as_str().unwrap_or_default() {
                "resume" => accepting(true),
                "pause" => accepting(false),
                "share-state" => voice.say(json!({"type": "state", "bytes": 0}), &[]),
                "reload" => voice.say(json!({"type": "reloaded", "mistakes": []}), &[]),
                "shutdown" => return true,
                "drain" => {
                    let within = message["within_ms"].as_u64().unwrap_or_default();
                    self.drain(voice, Duration::from_millis(within));
                    return true;
                }
                _ => {}
            }
        }
        false
    }

    fn drain(&self, voice: &Voice, within: Duration) {
        *self.shared.accepting.lock().expect("no panic") = false;
        let until = Instant::now() + within;
        while self.shared.held.load(Ordering::SeqCst) > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
        let finished = self.shared.finished.load(Ordering::SeqCst);
        let cut = self.shared.held.load(Ordering::SeqCst);
        voice.say(
            json!({"type": "drained", "finished": finished, "cut": cut}),
            &[],
        );
    }

    fn tell_stats(&self, voice: Arc<Voice>, ticking: Arc<Mutex<bool>>) {
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            while *ticking.lock().expect("no panic") {
                let stats = json!({
                    "type": "stats",
                    "connections": shared.held.load(Ordering::SeqCst),
                    "accepted_total": shared.accepted.load(Ordering::SeqCst),
                    "errors_total": 0, "bytes_total": 0,
                    "healthy_backends": 1, "total_backends": 1,
                    "status": "by hand",
                });
                voice.say(stats, &[]);
                thread::sleep(Duration::from_secs(1));
            }
        });
    }

    /// One thread accepts on every socket.
    fn serve(&self, sockets: &Sockets) {
        let shared = Arc::clone(&self.shared);
        let sockets: Vec<(Vec<String>, TcpListener)> = sockets
            .iter()
            .map(|(name, socket)| {
                let place = self.places.iter().find(|place| place.name == *name);
                let backends = place
                    .map(|place| place.backends.clone())
                    .unwrap_or_default();
                socket.set_nonblocking(true).expect("a socket");
                (backends, socket.try_clone().expect("duplicates"))
            })
            .collect();
        thread::spawn(move || {
            loop {
                let accepting = shared.accepting.lock().expect("no panic");
                if *accepting {
                    accept_round(&shared, &sockets);
                }
                drop(accepting);
                thread::sleep(Duration::from_millis(1));
            }
        });
    }
}

fn accept_round(shared: &Arc<Shared>, sockets: &[(Vec<String>, TcpListener)]) {
    let mut watched: Vec<PollFd<'_>> = sockets
        .iter()
        .map(|(_, socket)| PollFd::new(socket, PollFlags::IN))
        .collect();
    let _ = rustix::event::poll(&mut watched, Some(&TICK));
    for (backends, socket) in sockets {
        while let Ok((client, _)) = socket.accept() {
            let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
            shared.held.fetch_add(1, Ordering::SeqCst);
            let (shared, backends) = (Arc::clone(shared), backends.clone());
            thread::spawn(move || {
                relay(client, &backends, number);
                shared.finished.fetch_add(1, Ordering::SeqCst);
                shared.held.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }
}

fn relay(mut client: TcpStream, backends: &[String], number: u64) {
    let _ = client.set_nonblocking(false);
    if backends.is_empty() {
        let _ =
            client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return;
    }
    let count = u64::try_from(backends.len()).expect("few");
    let index = usize::try_from(number % count).expect("few");
    let Some(backend) = backends
        .get(index)
        .and_then(|one| TcpStream::connect(one).ok())
    else {
        return;
    };
    let (Ok(client_again), Ok(backend_again)) = (client.try_clone(), backend.try_clone()) else {
        return;
    };
    let back = thread::spawn(move || pass(backend_again, client_again));
    pass(client, backend);
    let _ = back.join();
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    if std::io::copy(&mut from, &mut to).is_ok() {
        let _ = to.shutdown(Shutdown::Write);
    } else {
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}

fn hello(returning: Option<Value>) -> Value {
    let mut hello = json!({
        "type": "hello",
        "protocol": range(),
        "service": "load-balancer",
        "version": "by hand",
        "pid": std::process::id(),
        "shares_state": true,
    });
    if let Some(returning) = returning {
        hello["returning"] = returning;
    }
    hello
}

/// Every batch, acknowledged.
fn adopt(voice: &Voice, welcome: &Value) -> Sockets {
    assert_eq!(welcome["type"], "welcome", "{welcome}");
    let mut sockets = Vec::new();
    for _ in 0..welcome["batches"].as_u64().expect("a count") {
        let (batch, fds) = voice.hear().expect("listeners");
        let received = fds.len();
        let names = batch["sockets"].as_array().expect("sockets").iter();
        let names = names.map(|one| one["name"].as_str().expect("a name").to_owned());
        sockets.extend(names.zip(fds.into_iter().map(TcpListener::from)));
        let ack = json!({"type": "listeners-ack", "batch": batch["batch"], "received": received});
        voice.say(ack, &[]);
    }
    sockets
}

/// All in one batch: the scenarios have some dozen sockets.
fn offer(voice: &Voice, sockets: &Sockets) {
    if sockets.is_empty() {
        return;
    }
    let mut members: Vec<Value> = Vec::new();
    for (name, _) in sockets {
        let member = members.iter().filter(|one| one["name"] == *name).count();
        members.push(json!({"name": name, "member": member}));
    }
    let fds: Vec<_> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
    let bound = json!({"type": "bound", "batch": 1, "of": 1, "sockets": members});
    voice.say(bound, &fds);
    while let Some((message, _)) = voice.hear() {
        if message["type"] == "bound-ack" {
            return;
        }
    }
}

/// Knocks until the next supervisor opens.
fn come_back(welcome: &Value, sockets: &Sockets) -> (Arc<Voice>, Value) {
    let address = SocketAddrUnix::new(welcome["rendezvous"].as_str().expect("a path"));
    let address = address.expect("a path");
    let returning = json!({
        "generation": welcome["generation"],
        "token": welcome["token"],
        "posture": "accepting",
        "ticket_keys": welcome["ticket_keys"],
    });
    loop {
        thread::sleep(Duration::from_millis(100));
        let flags = SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let socket = socket.expect("a socket");
        if rustix::net::connect(&socket, &address).is_err() {
            continue;
        }
        let voice = Voice::new(socket);
        voice.say(hello(Some(returning.clone())), &[]);
        let Some((welcome, _)) = voice.hear() else {
            continue;
        };
        if welcome["type"] == "welcome" {
            offer(&voice, sockets);
            voice.say(json!({"type": "ready", "unclaimed": []}), &[]);
            return (Arc::new(voice), welcome);
        }
    }
}
