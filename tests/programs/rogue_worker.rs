//! A worker that is good in everything but one thing, which its file's name says: one of the bad successors.
//!
//! It speaks today's handoff, relays the connections of an `lb` configuration, and tells the truth about itself.

use std::cell::{Cell, RefCell};
use std::io::{self, Write as _};
use std::net::TcpListener as StdListener;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitCode};
use std::rc::Rc;
use std::time::{Duration, Instant};

use handoff::latency::{LATENCY_BUCKETS, bucket};
use handoff::worker::{Command, Conversation, Identity, Provision, Report, Session, Stats};
use handoff::{Listeners, Share};
use harness::places::{Place, places};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vice {
    None,
    /// Each connection costs it much longer than it costs `lb`.
    Slow,
    LeaksMemory,
    LeaksDescriptors,
    /// It says that it accepts.
    NeverAccepts,
    /// Neither an order nor a signal ends it; leaks memory, so that somebody wants to.
    Stubborn,
    /// It starts children, and ends without them.
    LeavesChildren,
}

const VICES: [(&str, Vice); 6] = [
    ("slow", Vice::Slow),
    ("leaks-memory", Vice::LeaksMemory),
    ("leaks-descriptors", Vice::LeaksDescriptors),
    ("never-accepts", Vice::NeverAccepts),
    ("stubborn", Vice::Stubborn),
    ("leaves-children", Vice::LeavesChildren),
];

/// Far more than a connection to a backend on the loopback takes, and than the noise that a verdict allows.
const DELAY: Duration = Duration::from_millis(40);

/// What leaks at each tick, and where it stops: the machine is everybody's.
const LEAK_BYTES: usize = 12 << 20;
const LEAKED_BYTES_MAX: usize = 600 << 20;
const LEAK_DESCRIPTORS: usize = 60;
const LEAKED_DESCRIPTORS_MAX: usize = 5000;

const TICK: Duration = Duration::from_millis(250);

/// Ticks between statistics.
const TICKS_PER_STATS: u32 = 4;

/// Ticks after which one that leaves its children behind ends.
const LIFE: u32 = 4;

fn vice() -> Vice {
    let path = std::env::current_exe().unwrap_or_default();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut known = VICES.iter();
    let found = known.find(|(word, _)| name.ends_with(word));
    found.map_or(Vice::None, |(_, vice)| *vice)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let identity = Identity {
        service: "load-balancer".to_owned(),
        version: "6.6.6".to_owned(),
        moves: false,
    };
    match args.first().map(String::as_str) {
        Some("--version") => {
            let who = handoff::worker::describe(&identity).unwrap_or_default();
            let _ = writeln!(io::stdout(), "{who}");
            ExitCode::SUCCESS
        }
        Some("check") => ExitCode::SUCCESS,
        Some("run") => {
            let path = args.last().map(String::as_str).unwrap_or_default();
            let text = std::fs::read_to_string(path).expect("the configuration");
            run(&identity, places(&text))
        }
        _ => ExitCode::FAILURE,
    }
}

fn run(identity: &Identity, places: Vec<Place>) -> ExitCode {
    let Ok(Provision::Supervised(channel)) = handoff::worker::provision() else {
        return ExitCode::FAILURE;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        let (session, listeners) = Session::open(channel, identity).await.expect("welcome");
        let held = listeners.try_clone().expect("descriptors");
        let held = Box::new(move || held.try_clone());
        let conversation = session.ready(Vec::new(), Vec::new(), held);
        Worker::new(listeners, &places).live(conversation).await
    })
}

/// What the tasks share.
#[derive(Debug)]
struct Counts {
    held: Cell<u64>,
    accepted: Cell<u64>,
    failed: Cell<u64>,
    connect_time: RefCell<Vec<u64>>,
}

struct Worker {
    vice: Vice,
    counts: Rc<Counts>,
    share: watch::Sender<Share>,
    memory: Vec<Vec<u8>>,
    descriptors: Vec<OwnedFd>,
    children: Vec<Child>,
    is_leaving: bool,
    ticks: u32,
}

impl Worker {
    fn new(listeners: Listeners, places: &[Place]) -> Self {
        let (share, shared) = watch::channel(Share::NONE);
        let counts = Rc::new(Counts {
            held: Cell::new(0),
            accepted: Cell::new(0),
            failed: Cell::new(0),
            connect_time: RefCell::new(vec![0; LATENCY_BUCKETS]),
        });
        let vice = vice();
        for (name, members) in listeners {
            let place = places.iter().find(|place| place.name == name.to_string());
            let backends = place
                .map(|place| place.backends.clone())
                .unwrap_or_default();
            let sockets = members.len();
            for (member, socket) in members.into_iter().enumerate() {
                let socket = StdListener::from(socket);
                socket.set_nonblocking(true).expect("a socket");
                let gate = Gate {
                    listener: TcpListener::from_std(socket).expect("a listener"),
                    member,
                    sockets,
                    backends: backends.clone(),
                };
                if vice != Vice::NeverAccepts {
                    tokio::task::spawn_local(gate.accept(shared.clone(), Rc::clone(&counts), vice));
                }
            }
        }
        Self {
            vice,
            counts,
            share,
            memory: Vec::new(),
            descriptors: Vec::new(),
            children: Vec::new(),
            is_leaving: false,
            ticks: 0,
        }
    }

    async fn live(mut self, mut conversation: Conversation) -> ExitCode {
        let mut told = signal(SignalKind::terminate()).expect("a handler");
        let mut ticks = tokio::time::interval(TICK);
        loop {
            let is_over = tokio::select! {
                Some(command) = conversation.commands.recv() => self.obey(command, &conversation),
                _ = told.recv() => self.leave(),
                _ = ticks.tick() => self.tick(&conversation),
            };
            if is_over {
                break;
            }
        }
        let finished = self.counts.accepted.get();
        let _ = conversation.reports.send(Report::Drained {
            finished,
            cut: 0,
            moved: 0,
        });
        conversation.close(Duration::from_secs(1)).await;
        ExitCode::FAILURE
    }

    /// True: it is over.
    fn obey(&mut self, command: Command, conversation: &Conversation) -> bool {
        let say = |report| {
            let _ = conversation.reports.send(report);
        };
        match command {
            Command::Accept(share) => {
                self.share.send_replace(share);
                say(Report::Stats(self.stats()));
                say(Report::Accepting(share));
            }
            Command::ShareState => say(Report::State(Vec::new())),
            Command::Reload => say(Report::Reloaded(Ok(()))),
            Command::Drain { .. } => return self.leave(),
            Command::Shutdown => return self.vice != Vice::Stubborn,
            Command::Serve { .. }
            | Command::Give { .. }
            | Command::Take(_)
            | Command::TicketKeys(_)
            | Command::State(_)
            | Command::StateRefused(_) => {}
        }
        false
    }

    /// What is held may end by itself. True: it is over.
    fn leave(&mut self) -> bool {
        if self.vice != Vice::Stubborn {
            self.share.send_replace(Share::NONE);
            self.is_leaving = true;
        }
        self.is_leaving && self.counts.held.get() == 0
    }

    /// True: it is over.
    fn tick(&mut self, conversation: &Conversation) -> bool {
        if self.is_leaving || self.share.borrow().is_none() {
            return self.is_leaving && self.counts.held.get() == 0;
        }
        self.ticks += 1;
        if self.ticks.is_multiple_of(TICKS_PER_STATS) {
            let _ = conversation.reports.send(Report::Stats(self.stats()));
        }
        match self.vice {
            Vice::LeaksMemory | Vice::Stubborn => {
                if self.memory.len() * LEAK_BYTES < LEAKED_BYTES_MAX {
                    self.memory.push(vec![1; LEAK_BYTES]);
                }
            }
            Vice::LeaksDescriptors => {
                let null = || std::fs::File::open("/dev/null").ok().map(OwnedFd::from);
                if self.descriptors.len() < LEAKED_DESCRIPTORS_MAX {
                    self.descriptors
                        .extend((0..LEAK_DESCRIPTORS).filter_map(|_| null()));
                }
            }
            Vice::LeavesChildren => {
                if self.ticks == 1 {
                    let child = || std::process::Command::new("/bin/sleep").arg("600").spawn();
                    self.children.extend((0..2).filter_map(|_| child().ok()));
                }
                return self.ticks >= LIFE;
            }
            Vice::None | Vice::Slow | Vice::NeverAccepts => {}
        }
        false
    }

    fn stats(&self) -> Stats {
        let connect_time = self.counts.connect_time.borrow().clone();
        let failed = self.counts.failed.get();
        Stats {
            connections: self.counts.held.get(),
            accepted_total: self.counts.accepted.get(),
            errors_total: failed,
            healthy_backends: 1,
            total_backends: 1,
            requests_total: connect_time.iter().sum::<u64>() + failed,
            failed_total: failed,
            latency: connect_time,
            status: format!("{:?}", self.vice),
            ..Stats::default()
        }
    }
}

/// One listening socket.
struct Gate {
    listener: TcpListener,
    member: usize,
    sockets: usize,
    backends: Vec<String>,
}

impl Gate {
    async fn accept(self, mut share: watch::Receiver<Share>, counts: Rc<Counts>, vice: Vice) {
        loop {
            let is_open = |share: &Share| share.holds(self.member, self.sockets);
            if share.wait_for(is_open).await.is_err() {
                return;
            }
            let accepted = tokio::select! {
                biased;
                // Told something else: look again before anything is accepted.
                _ = share.changed() => continue,
                accepted = self.listener.accept() => accepted,
            };
            if let Ok((client, _)) = accepted {
                let (counts, backends) = (Rc::clone(&counts), self.backends.clone());
                tokio::task::spawn_local(relay(client, backends, counts, vice));
            }
        }
    }
}

async fn relay(mut client: TcpStream, backends: Vec<String>, counts: Rc<Counts>, vice: Vice) {
    let number = counts.accepted.get();
    counts.accepted.set(number + 1);
    counts.held.set(counts.held.get() + 1);
    let begun = Instant::now();
    if vice == Vice::Slow {
        tokio::time::sleep(DELAY).await;
    }
    let count = u64::try_from(backends.len()).unwrap_or(1).max(1);
    let place = usize::try_from(number % count).unwrap_or_default();
    match backends.get(place) {
        // The admin listener: a healthy worker answers 200.
        None => {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = client.write_all(answer).await;
        }
        Some(address) => match TcpStream::connect(address).await {
            Ok(mut backend) => {
                if let Some(count) = counts
                    .connect_time
                    .borrow_mut()
                    .get_mut(bucket(begun.elapsed()))
                {
                    *count += 1;
                }
                let _ = tokio::io::copy_bidirectional(&mut client, &mut backend).await;
            }
            Err(_) => counts.failed.set(counts.failed.get() + 1),
        },
    }
    counts.held.set(counts.held.get() - 1);
}
