//! The threads of the data path: one epoll loop per core, and the handle by which the control thread rules them.
//!
//! Room  threads, their mailboxes, and which shard watches which listening socket. What a shard does with
//!       them is in `shard/`. Blocking: call from the control thread, each call waits for all shards (well
//!       under a millisecond when they are idle).
//! In    listeners with their sockets, timeouts, accept on/off, drain, shutdown.
//! Out   acknowledgements, and [`Totals`].
//! Holds when a call returns `Ok`, every shard has done it; a shard that panics takes the process with it,
//!       because its sockets would go on taking connections that nobody accepts.

mod accept;
mod event_loop;
mod farewell;
pub(crate) mod mailbox;
mod moving;
pub(crate) mod poll;
pub(crate) mod service;
mod survey;
pub(crate) mod tools;
mod turn;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dataplane::upstream::Upstream;
use ipnet::IpNet;

use crate::connection::Boxed;
pub use crate::socket::LISTEN_BACKLOG;
use crate::socket::{self, Patience};
use crate::totals::{Counters, Totals};
use handoff::Share;
use handoff::held::Held;
use mailbox::{Mailbox, Order, Placed, Watched};
use moving::Batch;
use service::Service;

/// How long a shard may take to carry out a command.
///
/// Covers: the turn it is in and the command itself. If passed: the call fails and says so; the command
/// stays queued. Sized: a turn takes a few milliseconds, cutting 100,000 connections about a second; times ten.
const ACKNOWLEDGE_DEADLINE: Duration = Duration::from_secs(10);

/// How long all shards may take to say what they hold: nobody waits longer for what only informs.
const SURVEY_DEADLINE: Duration = Duration::from_millis(100);

/// One listener as the data path needs it.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// Unique; how the listener is known across reloads.
    pub name: String,
    /// Where its connections go.
    pub upstream: Arc<Upstream>,
    /// Every connection must begin with a PROXY header (v1 or v2) from a peer in `trusted`. A peer outside
    /// is refused, because its header could name any client; so with an empty `trusted` all are refused.
    pub proxy_protocol_in: bool,
    /// Networks whose PROXY headers are believed.
    pub trusted: Vec<IpNet>,
    /// Connections at the same time, over all shards; what is more is accepted and reset at once.
    pub max_connections: Option<usize>,
}

/// How long the data path waits for what. A connect timeout belongs to each upstream's settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// No byte in either direction.
    pub idle: Duration,
    /// One side has ended and the other moves no byte; each byte starts it anew.
    pub half_close: Duration,
    /// Age of a connection; `None`: no limit.
    pub lifetime: Option<Duration>,
    /// From the accept to a complete PROXY header.
    pub proxy_header: Duration,
    /// Silence after which the kernel probes the peer's kernel (`TCP_KEEPIDLE`); whole seconds.
    pub keepalive: Duration,
    /// Sent bytes unacknowledged, or a receiver that takes nothing (`TCP_USER_TIMEOUT`); whole milliseconds,
    /// zero for the kernel's default. The kernel does not tell a dead host from a reader that pauses (tcp(7)
    /// names the zero window too), so what is less than `idle` ends connections of patient people.
    pub user_timeout: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(10 * 60),
            half_close: Duration::from_secs(30),
            lifetime: Some(Duration::from_secs(24 * 60 * 60)),
            proxy_header: Duration::from_secs(3),
            keepalive: Duration::from_secs(60),
            user_timeout: Duration::from_secs(10 * 60), // as `idle`: a pager that waits is not dead
        }
    }
}

impl Timeouts {
    fn patience(&self) -> Patience {
        Patience {
            keepalive: self.keepalive,
            user_timeout: self.user_timeout,
        }
    }
}

/// The shard threads.
#[derive(Debug)]
pub struct ShardPool {
    shards: Vec<Handle>,
    state: Mutex<State>,
    /// Whose turn it is to give or take connections.
    next: AtomicUsize,
}

#[derive(Debug)]
struct Handle {
    mailbox: Mailbox,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    accepting: Share,
    draining: bool,
    timeouts: Timeouts,
    listeners: BTreeMap<String, Listening>,
}

#[derive(Debug)]
struct Listening {
    service: Arc<Service>,
    sockets: Vec<Arc<OwnedFd>>,
}

impl ShardPool {
    /// Starts so many shards (at least one), which accept nothing until [`Self::accept`].
    ///
    /// # Errors
    /// The host has no threads or descriptors left.
    pub fn start(shards: usize, timeouts: Timeouts) -> io::Result<Self> {
        let count = shards.max(1);
        let shards = (0..count)
            .map(|index| Handle::start(index, count, timeouts))
            .collect::<io::Result<_>>()?;
        let state = State {
            accepting: Share::NONE,
            draining: false,
            timeouts,
            listeners: BTreeMap::new(),
        };
        Ok(Self {
            shards,
            state: Mutex::new(state),
            next: AtomicUsize::new(0),
        })
    }

    /// Adds a listener, or gives a known one new settings for its coming connections. It accepts when the
    /// pool does, now or later.
    ///
    /// `sockets` are all members of its SO_REUSEPORT group, bound, listening or not. Member `j` is watched by
    /// shard `j % shards`; when there are fewer members than shards, every shard watches all.
    ///
    /// # Errors
    /// The pool drains, a socket is not a TCP socket, or a shard could not watch it; the listener is then not
    /// to be relied on.
    pub fn set_listener(
        &self,
        settings: ListenerSettings,
        sockets: Vec<Arc<OwnedFd>>,
    ) -> io::Result<()> {
        let mut state = self.state();
        if state.draining {
            return Err(io::Error::other(
                "this process is draining; it takes no listener",
            ));
        }
        for (place, socket) in sockets.iter().enumerate() {
            socket::prepare_listener(socket, state.timeouts.patience())?;
            if state.accepting.holds(place, sockets.len()) {
                socket::listen(socket)?;
            }
        }
        let name = settings.name.clone();
        let earlier = state.listeners.get(&name).map(|known| &*known.service);
        let service = Service::new(settings, earlier);
        let listening = Listening {
            service: Arc::clone(&service),
            sockets,
        };
        let watched: Vec<Watched> = (0..self.shards.len())
            .map(|index| self.watched(&listening, index))
            .collect();
        state.listeners.insert(name, listening);
        self.command(|index| {
            let watched = watched.get(index).cloned();
            Order::SetListener(Arc::clone(&service), watched.unwrap_or_default())
        })
    }

    /// Stops watching a listener's sockets and lets go of them. Its connections go on. Unknown: nothing to do.
    ///
    /// # Errors
    /// A shard did not acknowledge.
    pub fn remove_listener(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        // Held until every shard has stopped watching: a watched socket must not be closed.
        let removed = state.listeners.remove(name);
        let result = self.command(|_| Order::RemoveListener(name.to_owned()));
        drop(removed);
        result
    }

    /// Accepts on this part of every listener's group and on no other socket. What clients have queued on the
    /// others stays queued in the kernel. Sockets that do not listen yet begin to. A draining pool does not begin again.
    ///
    /// # Errors
    /// A socket cannot listen, or a shard did not acknowledge.
    pub fn accept(&self, share: Share) -> io::Result<()> {
        let mut state = self.state();
        if !share.is_none() && state.draining {
            return Err(io::Error::other(
                "this process is draining; it will not accept again",
            ));
        }
        for Listening { sockets, .. } in state.listeners.values() {
            for place in share.places(sockets.len()) {
                sockets
                    .get(place)
                    .map_or(Ok(()), |socket| socket::listen(socket))?;
            }
        }
        state.accepting = share;
        self.command(|_| Order::Accept(share))
    }

    /// Serves a connection as if it had been accepted on the listener of this name; an untrusted peer is trusted.
    ///
    /// # Errors
    /// There is no such listener, it is full, or this is no TCP connection; it is closed.
    pub fn serve(&self, listener: &str, connection: OwnedFd) -> io::Result<()> {
        let (done, acknowledged) = channel();
        // Any shard: the first has a part of every group.
        let first = self.shards.first().ok_or(io::ErrorKind::NotFound)?;
        let order = Order::Serve(listener.to_owned(), connection);
        first.mailbox.send(order, done)?;
        match acknowledged.recv_timeout(ACKNOWLEDGE_DEADLINE) {
            Ok(answer) => answer,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Puts other timeouts in force, for open connections too. Keepalive and user timeout apply to
    /// connections accepted from now on.
    ///
    /// # Errors
    /// A listening socket refused an option, or a shard did not acknowledge.
    pub fn set_timeouts(&self, timeouts: Timeouts) -> io::Result<()> {
        let mut state = self.state();
        state.timeouts = timeouts;
        for socket in state
            .listeners
            .values()
            .flat_map(|listening| &listening.sockets)
        {
            socket::prepare_listener(socket, timeouts.patience())?;
        }
        self.command(|_| Order::SetTimeouts(timeouts))
    }

    /// Stops accepting for good and lets go of the listening sockets. Open connections go on; those left at
    /// `cut_at` are reset and counted as [`crate::totals::End::CutByDrain`]. Call it again to move the time.
    ///
    /// The drain is over when [`Totals::active`] is 0.
    ///
    /// # Errors
    /// A shard did not acknowledge.
    pub fn begin_drain(&self, cut_at: Instant) -> io::Result<()> {
        let mut state = self.state();
        state.draining = true;
        state.accepting = Share::NONE;
        let result = self.command(|_| Order::Drain(cut_at));
        state.listeners.clear();
        result
    }

    /// What all shards have counted since they started. Cheap: a few hundred loads, no lock.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::zero();
        for shard in &self.shards {
            shard.counters.add_to(&mut totals);
        }
        totals
    }

    /// What all shards hold; `None`: one of them is too busy to say.
    #[must_use]
    pub fn survey(&self) -> Option<Held> {
        let (answer, answers) = channel();
        for shard in &self.shards {
            let (done, _) = channel();
            let order = Order::Survey(answer.clone());
            shard.mailbox.send(order, done).ok()?;
        }
        drop(answer);
        let mut held = Held::default();
        let deadline = Instant::now() + SURVEY_DEADLINE;
        for _ in &self.shards {
            let left = deadline.saturating_duration_since(Instant::now());
            held.merge(&answers.recv_timeout(left).ok()?);
        }
        Some(held)
    }

    /// Takes connections out of one shard, with at most so many descriptors together; the shards take turns.
    pub(crate) fn freeze(&self, descriptors: usize) -> (Option<usize>, Batch) {
        let mut whole = Batch::default();
        for _ in 0..self.shards.len() {
            let index = self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len();
            let Some(batch) = self.ask(index, |answer| Order::Freeze(descriptors, answer)) else {
                continue;
            };
            whole.others_wait |= batch.others_wait;
            if !batch.connections.is_empty() {
                whole.connections = batch.connections;
                return (Some(index), whole);
            }
        }
        (None, whole)
    }

    /// Gives frozen connections back to their shard: to close those that another process took, to serve on the others.
    pub(crate) fn settle(&self, index: usize, taken: Vec<Boxed>, others: Vec<Boxed>) {
        self.ask(index, |done| Order::Settle {
            taken,
            others,
            done,
        });
    }

    /// Serves connections of another process, on one shard; the shards take turns.
    pub(crate) fn adopt(&self, connections: Vec<Boxed>) {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len().max(1);
        self.ask(index, |done| Order::Adopt(connections, done));
    }

    /// Why connections are still here, by reason.
    pub(crate) fn kept(&self) -> BTreeMap<String, u64> {
        let mut kept = BTreeMap::new();
        for index in 0..self.shards.len() {
            for (why, count) in self.ask(index, Order::Kept).unwrap_or_default() {
                *kept.entry(why).or_default() += count;
            }
        }
        kept
    }

    /// What is needed to serve a connection that was accepted on this listener elsewhere.
    pub(crate) fn service(&self, listener: &str) -> Option<Arc<Service>> {
        let state = self.state();
        state
            .listeners
            .get(listener)
            .map(|listening| Arc::clone(&listening.service))
    }

    /// One shard's answer; `None`: it is too busy, or has ended.
    fn ask<A>(&self, index: usize, order: impl FnOnce(Sender<A>) -> Order) -> Option<A> {
        let (answer, answered) = channel();
        let (done, _) = channel();
        let shard = self.shards.get(index)?;
        shard.mailbox.send(order(answer), done).ok()?;
        answered.recv_timeout(ACKNOWLEDGE_DEADLINE).ok()
    }

    /// Ends the threads; connections that are left are reset. Dropping the pool does the same.
    pub fn shutdown(self) {
        drop(self);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watched(&self, listening: &Listening, index: usize) -> Watched {
        let shards = self.shards.len();
        let shared = listening.sockets.len() < shards;
        let own = |member: usize| shared || member % shards == index;
        let of = listening.sockets.len();
        let sockets = listening.sockets.iter().enumerate();
        let sockets = sockets
            .filter(|(place, _)| own(*place))
            .map(|(place, socket)| Placed {
                socket: Arc::clone(socket),
                place,
                of,
            });
        Watched {
            sockets: sockets.collect(),
            shared,
        }
    }

    /// Sends every shard its order and waits until all have carried it out.
    fn command(&self, order: impl Fn(usize) -> Order) -> io::Result<()> {
        let (done, acknowledged) = channel();
        for (index, shard) in self.shards.iter().enumerate() {
            shard.mailbox.send(order(index), done.clone())?;
        }
        drop(done);
        let deadline = Instant::now() + ACKNOWLEDGE_DEADLINE;
        let mut result = Ok(());
        for _ in &self.shards {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = acknowledged.recv_timeout(left).unwrap_or_else(|_| {
                let text =
                    "a shard did not acknowledge a command in time; see the log, then restart";
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            });
            result = result.and(answer);
        }
        result
    }
}

impl Drop for ShardPool {
    fn drop(&mut self) {
        // A shard that cannot be told has ended already.
        let _ = self.command(|_| Order::Stop);
        for thread in self
            .shards
            .iter_mut()
            .filter_map(|shard| shard.thread.take())
        {
            let _ = thread.join();
        }
    }
}

impl Handle {
    fn start(index: usize, shards: usize, timeouts: Timeouts) -> io::Result<Self> {
        let counters = Arc::new(Counters::default());
        let (mailbox, inbox) = mailbox::open()?;
        let shard = event_loop::Shard::new(index, shards, timeouts, inbox, Arc::clone(&counters))?;
        // Which core a shard runs on is left to the scheduler: it knows what else the host does.
        let name = format!("shard-{index}");
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || event_loop::run(shard))?;
        Ok(Self {
            mailbox,
            counters,
            thread: Some(thread),
        })
    }
}
