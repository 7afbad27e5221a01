//! The workers as the control thread sees them.
//!
//! Room  threads and their mailboxes. Blocking, for the control thread: every call waits until all workers have
//!       done it, well under a millisecond when they are idle.
//! Holds when a call returns `Ok`, every worker has done it; a worker that panics takes the process with it,
//!       because its sockets would go on taking connections that nobody accepts.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handoff::Share;
use handoff::held::Held;
use tokio::sync::mpsc;

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
