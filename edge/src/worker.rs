//! One worker: a thread with its own runtime; a connection lives and dies on the worker that accepted it.
//!
//! ```text
//!   control thread ──Order──▶ worker ─┬─ accept   one task for each listening socket of its share
//!                                     ├─ serve    one task for each connection (h1, h2)
//!                                     └─ tick     deadlines, kept backend connections
//! ```
//!
//! Room  the thread, its orders and what its connections share. What a connection does is in `h1` and `h2`.
//! Holds an order is acknowledged once it is so; nothing here is locked by a request.

mod accept;
mod moving;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::cache::Cache;
use dataplane::backend::{Backend, Lease};
use dataplane::balance::Chooser;
use handoff::Share;
use handoff::held::Held;
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};

use crate::access_log::Lines;
use crate::backend::BackendPool;
use crate::buffer::{BufferPool, HeadPool};
use crate::h2::back::Http2Pool;
use crate::moving::Live;
use crate::site::{Shared, Site, UpstreamInForce};
use crate::timers::{TICK, Timers};
use crate::totals::{Count, Counters};
pub(crate) use accept::Covered;
use accept::Gate;
pub(crate) use accept::LISTEN_BACKLOG;
pub(crate) use moving::Batch;

/// What the control thread wants.
#[derive(Debug)]
pub(crate) enum Order {
    /// The listening sockets of this worker's share, all of them; those absent are let go.
    Listen(Vec<Listening>),
    /// Accept on this part of every group.
    Accept(Share),
    /// Serve this connection as if it had been accepted on the listener at this place.
    Serve(usize, OwnedFd),
    /// Hand over what the access log has not got yet.
    HandOver,
    /// Say what is held.
    Survey(std::sync::mpsc::Sender<Held>),
    /// Stop accepting for good; what is left at the deadline is cut.
    Drain(Instant),
    /// Take connections out, with at most so many descriptors together.
    Freeze(usize, std::sync::mpsc::Sender<Batch>),
    /// Close those that another process took, serve on the others.
    Settle {
        taken: Vec<Live>,
        others: Vec<Live>,
        done: std::sync::mpsc::Sender<()>,
    },
    /// Serve connections of another process.
    Adopt(Vec<Live>, std::sync::mpsc::Sender<()>),
    /// Say why connections are still here.
    Kept(std::sync::mpsc::Sender<BTreeMap<String, u64>>),
}

/// One listener's sockets, as one worker watches them.
#[derive(Clone, Debug)]
pub(crate) struct Listening {
    /// Its place in `Site::listeners`.
    pub(crate) index: usize,
    pub(crate) sockets: Vec<Placed>,
}

/// A listening socket and its place in its group.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) socket: Arc<OwnedFd>,
    pub(crate) place: usize,
    /// Sockets of the whole group.
    pub(crate) of: usize,
}

/// An order and the place where its completion is awaited.
pub(crate) type Letter = (Order, std::sync::mpsc::SyncSender<io::Result<()>>);

/// What the connections of one worker share.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) timers: Rc<Timers>,
    pub(crate) buffers: BufferPool,
    pub(crate) heads: HeadPool,
    pub(crate) backends: BackendPool,
    pub(crate) http2_backends: Http2Pool,
    pub(crate) log_lines: RefCell<Lines>,
    site: RefCell<Cache<SiteSource, Arc<Site>>>,
    choosers: RefCell<HashMap<usize, Chooser>>,
    drain_until: Cell<Option<Instant>>,
    is_cut: Cell<bool>,
    /// Connections whose task has ended, for whoever asked them to move.
    leaving: RefCell<Vec<Live>>,
}

/// Where workers look for the configuration in force.
#[derive(Clone, Debug)]
struct SiteSource(Arc<Shared>);

impl std::ops::Deref for SiteSource {
    type Target = arc_swap::ArcSwap<Site>;

    fn deref(&self) -> &Self::Target {
        &self.0.site
    }
}

impl Worker {
    /// The configuration in force.
    pub(crate) fn site(&self) -> Arc<Site> {
        Arc::clone(self.site.borrow_mut().load())
    }

    /// The clock of rate limits, the same for all workers.
    pub(crate) fn since_start(&self) -> Duration {
        self.shared.begun.elapsed()
    }

    /// True once this process should finish what it holds and take nothing new.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain_until.get().is_some()
    }

    /// True once the drain's deadline has passed.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    /// How much of a drain is left; `None` without one.
    pub(crate) fn drain_left(&self) -> Option<Duration> {
        let until = self.drain_until.get()?;
        Some(until.saturating_duration_since(Instant::now()))
    }

    /// A place at a backend of this upstream, those in `tried` passed over.
    pub(crate) fn choose(
        &self,
        upstream: &UpstreamInForce,
        client: IpAddr,
        tried: &[Arc<Backend>],
    ) -> Option<Lease> {
        let key = Arc::as_ptr(&upstream.upstream).addr();
        let selection = upstream.upstream.selection();
        let mut choosers = self.choosers.borrow_mut();
        let chooser = choosers.entry(key).or_insert_with(|| {
            // Apart from the other workers', so that they do not all begin with the same backend.
            Chooser::new(fastrand::u64(..))
        });
        chooser.choose(&selection, client, tried)
    }

    fn tick(&self, now: Instant, tick: u64) {
        self.timers.tick(now);
        self.log_lines.borrow_mut().hand_over();
        if tick.is_multiple_of(SWEEP_TICKS) {
            let now_ms = self.timers.now_ms();
            self.backends.sweep(now_ms);
            self.http2_backends.sweep(now_ms);
            if self.choosers.borrow().len() > 2 * self.site().upstreams.len() + 16 {
                self.choosers.borrow_mut().clear();
            }
        }
        if self.drain_until.get().is_some_and(|until| now >= until) && !self.is_cut.replace(true) {
            self.timers.expire_all();
        }
    }
}

/// Ticks between two looks at kept connections: once a second.
const SWEEP_TICKS: u64 = 10;

/// The life of a worker's thread.
pub(crate) fn run(
    index: usize,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    letters: mpsc::UnboundedReceiver<Letter>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let worker = Rc::new(Worker {
        index,
        site: RefCell::new(Cache::new(SiteSource(Arc::clone(&shared)))),
        shared,
        counters,
        timers: Timers::new(Instant::now()),
        buffers: BufferPool::default(),
        heads: HeadPool::default(),
        backends: BackendPool::default(),
        http2_backends: Http2Pool::default(),
        log_lines: RefCell::default(),
        choosers: RefCell::default(),
        drain_until: Cell::new(None),
        is_cut: Cell::new(false),
        leaving: RefCell::default(),
    });
    LocalSet::new().block_on(&runtime, obey(worker, letters));
    Ok(())
}

/// Carries orders out until the control thread is gone.
async fn obey(worker: Rc<Worker>, mut letters: mpsc::UnboundedReceiver<Letter>) {
    let mut gate = Gate::new(Rc::clone(&worker));
    let ticking = spawn_local(tick(Rc::clone(&worker)));
    while let Some((order, done)) = letters.recv().await {
        let result = match order {
            Order::Listen(listening) => gate.set(listening),
            Order::Accept(share) => gate.accept(share),
            Order::Serve(listener, connection) => accept::serve(&worker, connection, listener),
            Order::Survey(answer) => {
                let _ = answer.send(worker.timers.survey());
                Ok(())
            }
            Order::HandOver => {
                worker.log_lines.borrow_mut().hand_over();
                Ok(())
            }
            Order::Freeze(descriptors, answer) => {
                let batch = moving::freeze(&worker, descriptors).await;
                // Nobody waits any more: they are served on.
                if let Err(unheard) = answer.send(batch) {
                    moving::settle(&worker, Vec::new(), unheard.0.connections);
                }
                Ok(())
            }
            Order::Settle {
                taken,
                others,
                done,
            } => {
                moving::settle(&worker, taken, others);
                let _ = done.send(());
                Ok(())
            }
            Order::Adopt(connections, done) => {
                moving::adopt(&worker, connections);
                let _ = done.send(());
                Ok(())
            }
            Order::Kept(answer) => {
                let _ = answer.send(moving::kept(&worker));
                Ok(())
            }
            Order::Drain(until) => {
                gate.close();
                begin_drain(&worker, until);
                Ok(())
            }
        };
        let _ = done.try_send(result);
    }
    ticking.abort();
}

/// Idle clients leave one by one over the first half of the window: their next connection goes to the successor,
/// and none that answers in time is cut.
fn begin_drain(worker: &Worker, until: Instant) {
    let left = until.saturating_duration_since(Instant::now());
    worker.drain_until.set(Some(until));
    worker.timers.expire_idle(left);
    worker.backends.clear();
}

async fn tick(worker: Rc<Worker>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count = 0_u64;
    loop {
        let now = interval.tick().await;
        worker.tick(now.into_std(), count);
        count = count.wrapping_add(1);
    }
}

/// Counts a connection for as long as it lives.
#[derive(Debug)]
pub(crate) struct Presence(Rc<Worker>);

impl Presence {
    pub(crate) fn new(worker: &Rc<Worker>) -> Self {
        Self::counted(worker, Count::Accepted)
    }

    /// Of a connection that another process accepted.
    fn adopted(worker: &Rc<Worker>) -> Self {
        Self::counted(worker, Count::Adopted)
    }

    fn counted(worker: &Rc<Worker>, what: Count) -> Self {
        worker.counters.count(what);
        worker
            .shared
            .open
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self(Rc::clone(worker))
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.counters.count(Count::Closed);
        self.0
            .shared
            .open
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}
