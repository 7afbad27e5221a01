//! The workers as the control thread sees them.
//!
//! Room  threads and their mailboxes. Blocking, for the control thread: every call waits until all workers have
//!       done it, well under a millisecond when they are idle.
//! Holds when a call returns `Ok`, every worker has done it; a worker that panics takes the process with it,
//!       because its sockets would go on taking connections that nobody accepts.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dataplane::moving::Frozen;
use handoff::Share;
use handoff::held::Held;
use handoff::passage::Fate;
use tokio::sync::mpsc;

use crate::moving::{ArrivedConnection, FrozenConnection, Live};
use crate::site::Shared;
use crate::totals::{Counters, Totals};
use crate::worker::{self, Letter, Listening, Order, Placed};

/// Clients that may wait in the accept queue of one socket.
pub const BACKLOG: u16 = worker::LISTEN_BACKLOG;

/// How long a worker may take to carry out an order. Sized: a turn takes a few milliseconds; times a thousand.
const ACKNOWLEDGE_DEADLINE: Duration = Duration::from_secs(10);

/// How long all workers may take to say what they hold: nobody waits longer for what only informs.
const SURVEY_DEADLINE: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub struct Workers {
    handles: Vec<Handle>,
    counters: Vec<Arc<Counters>>,
    shared: Arc<Shared>,
    /// Whose turn it is to give or take connections.
    next: AtomicUsize,
}

#[derive(Debug)]
struct Handle {
    letters: mpsc::UnboundedSender<Letter>,
    _thread: JoinHandle<()>,
}

impl Workers {
    /// Starts so many workers (at least one), which accept nothing yet.
    ///
    /// # Errors
    /// The host has no threads or descriptors left.
    pub fn start(count: usize, shared: Arc<Shared>) -> io::Result<Self> {
        let counters: Vec<Arc<Counters>> = (0..count.max(1)).map(|_| Arc::default()).collect();
        let handles = counters
            .iter()
            .enumerate()
            .map(|(index, counters)| {
                Handle::start(index, Arc::clone(&shared), Arc::clone(counters))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            handles,
            counters,
            shared,
            next: AtomicUsize::new(0),
        })
    }

    /// What they share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The sum of what they counted.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals::of(&self.counters)
    }

    /// These listeners' sockets, by their places in the configuration in force, and no others. Socket `j` is
    /// watched by worker `j % workers`; when there are fewer sockets than workers, every worker watches all.
    ///
    /// # Errors
    /// A worker could not watch its share; the listener is then not to be relied on.
    pub fn listen(&self, listeners: &[Vec<Arc<OwnedFd>>]) -> io::Result<()> {
        self.tell(|worker| {
            let workers = self.handles.len();
            let own = |sockets: &Vec<Arc<OwnedFd>>| -> Vec<Placed> {
                let of = sockets.len();
                let placed = sockets.iter().enumerate().map(|(place, socket)| Placed {
                    socket: Arc::clone(socket),
                    place,
                    of,
                });
                let is_own = |placed: &Placed| of < workers || placed.place % workers == worker;
                placed.filter(is_own).collect()
            };
            let listening = listeners
                .iter()
                .enumerate()
                .map(|(index, sockets)| Listening {
                    index,
                    sockets: own(sockets),
                });
            Order::Listen(listening.collect())
        })
    }

    /// Accepts on this part of every listener's group and on no other socket.
    ///
    /// # Errors
    /// A worker could not; the others have.
    pub fn accept(&self, share: Share) -> io::Result<()> {
        self.tell(|_| Order::Accept(share))
    }

    /// Serves a connection as if it had been accepted on the listener at this place of the configuration; an
    /// untrusted peer is trusted.
    ///
    /// # Errors
    /// The first worker could not take it; it is closed.
    pub fn serve(&self, listener: usize, connection: OwnedFd) -> io::Result<()> {
        let (done, answer) = sync_channel(1);
        let first = self.handles.first().ok_or_else(gone)?;
        let order = Order::Serve(listener, connection);
        first.letters.send((order, done)).map_err(|_| gone())?;
        acknowledged(&answer)
    }

    /// Stops accepting for good; requests and tunnels may go on until `until`.
    ///
    /// # Errors
    /// A worker was not reached.
    pub fn begin_drain(&self, until: Instant) -> io::Result<()> {
        self.tell(|_| Order::Drain(until))
    }

    /// Every request that has ended is on its way to the access log.
    ///
    /// # Errors
    /// A worker was not reached.
    pub fn hand_over_log(&self) -> io::Result<()> {
        self.tell(|_| Order::HandOver)
    }

    /// What all workers hold; `None`: one of them is too busy to say.
    pub fn survey(&self) -> Option<Held> {
        let (answer, answers) = std::sync::mpsc::channel();
        for handle in &self.handles {
            let (done, _) = sync_channel(1);
            let order = Order::Survey(answer.clone());
            handle.letters.send((order, done)).ok()?;
        }
        drop(answer);
        let mut held = Held::default();
        let deadline = Instant::now() + SURVEY_DEADLINE;
        for _ in &self.handles {
            let left = deadline.saturating_duration_since(Instant::now());
            held.merge(&answers.recv_timeout(left).ok()?);
        }
        Some(held)
    }

    /// Connections held now, those on their way to another process included.
    #[must_use]
    pub fn held(&self) -> u64 {
        let in_flight = self.shared.in_flight.load(Ordering::Relaxed);
        self.totals().active() + u64::try_from(in_flight).unwrap_or(u64::MAX)
    }

    /// Takes connections out of one worker, with at most so many descriptors together; the workers take turns.
    pub fn freeze(&self, descriptors: usize) -> Frozen<FrozenConnection> {
        let mut others_wait = false;
        for _ in 0..self.handles.len() {
            let worker = self.next_worker();
            let batch = self.ask(worker, |answer| Order::Freeze(descriptors, answer));
            let batch = batch.unwrap_or_default();
            others_wait |= batch.others_wait;
            if !batch.connections.is_empty() {
                let frozen = batch.connections.into_iter();
                return Frozen {
                    connections: frozen
                        .map(|live| FrozenConnection { worker, live })
                        .collect(),
                    others_wait,
                };
            }
        }
        Frozen {
            connections: Vec::new(),
            others_wait,
        }
    }

    /// Closes those that another process took, serves on the others.
    pub fn settle(&self, fates: Vec<(FrozenConnection, Fate)>) {
        let mut by_worker: BTreeMap<usize, (Vec<Live>, Vec<Live>)> = BTreeMap::new();
        for (FrozenConnection { worker, mut live }, fate) in fates {
            let (taken, others) = by_worker.entry(worker).or_default();
            match fate {
                Fate::Taken => taken.push(live),
                Fate::Unanswered => others.push(live),
                Fate::Refused(why) => {
                    live.refused = Some(why.into_boxed_str());
                    others.push(live);
                }
            }
        }
        for (worker, (taken, others)) in by_worker {
            self.ask(worker, |done| Order::Settle {
                taken,
                others,
                done,
            });
        }
    }

    /// Serves connections of another process on one worker; the workers take turns.
    pub fn adopt(&self, arrived: Vec<ArrivedConnection>) {
        let worker = self.next_worker();
        let connections = arrived.into_iter().map(|one| one.0).collect();
        self.ask(worker, |done| Order::Adopt(connections, done));
    }

    /// Why connections are still here, by reason.
    #[must_use]
    pub fn kept(&self) -> BTreeMap<String, u64> {
        let mut kept = BTreeMap::new();
        for worker in 0..self.handles.len() {
            for (why, count) in self.ask(worker, Order::Kept).unwrap_or_default() {
                *kept.entry(why).or_default() += count;
            }
        }
        kept
    }

    fn next_worker(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.handles.len().max(1)
    }

    /// One worker's answer; `None`: it is too busy, or gone.
    fn ask<A>(
        &self,
        worker: usize,
        order: impl FnOnce(std::sync::mpsc::Sender<A>) -> Order,
    ) -> Option<A> {
        let (answer, answered) = std::sync::mpsc::channel();
        let (done, _) = sync_channel(1);
        let handle = self.handles.get(worker)?;
        handle.letters.send((order(answer), done)).ok()?;
        answered.recv_timeout(ACKNOWLEDGE_DEADLINE).ok()
    }

    fn tell(&self, order: impl Fn(usize) -> Order) -> io::Result<()> {
        let mut answers = Vec::with_capacity(self.handles.len());
        for (index, handle) in self.handles.iter().enumerate() {
            let (done, answer) = sync_channel(1);
            handle
                .letters
                .send((order(index), done))
                .map_err(|_| gone())?;
            answers.push(answer);
        }
        let mut result = Ok(());
        for answer in answers {
            let done = acknowledged(&answer);
            result = result.and(done);
        }
        result
    }
}

fn acknowledged(answer: &Receiver<io::Result<()>>) -> io::Result<()> {
    match answer.recv_timeout(ACKNOWLEDGE_DEADLINE) {
        Ok(done) => done,
        Err(RecvTimeoutError::Disconnected) => Err(gone()),
        Err(RecvTimeoutError::Timeout) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "a worker does not answer",
        )),
    }
}

fn gone() -> io::Error {
    io::Error::other("a worker is gone")
}

impl Handle {
    fn start(index: usize, shared: Arc<Shared>, counters: Arc<Counters>) -> io::Result<Self> {
        let (letters, mailbox) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                let work = || worker::run(index, shared, counters, mailbox);
                match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
                    Ok(Ok(())) => {}
                    outcome => {
                        tracing::error!(
                            worker = index,
                            ?outcome,
                            "a worker ended; so does this process"
                        );
                        std::process::abort();
                    }
                }
            })?;
        Ok(Self {
            letters,
            _thread: thread,
        })
    }
}
