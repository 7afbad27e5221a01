//! Connections that leave the worker while they live, and those that come to it.
//!
//! ```text
//!   ask some to move ──▶ each task, at a point where it is a plain value: leaves (`Worker::leave`), or is busy and stays
//!   adopt, thaw      ──▶ a new task for each
//! ```
//!
//! Room  asking and gathering, on the worker's thread; what travels is `moving`'s.
//! Holds a task leaves only while it is asked, and it is asked only while an order waits for it; a connection that left
//!       counts as held (`Shared::in_flight`) until it is settled.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream as StdStream;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use tokio::net::TcpStream;
use tokio::task::yield_now;

use super::{Presence, Worker, accept};
use crate::backend::BackendConnection;
use crate::end::End;
use crate::h1::{self, LeftTunnel};
use crate::moving::Live;
use crate::stream::Stream;
use crate::totals::Count;

/// Most descriptors of one connection.
const DESCRIPTORS_MAX: usize = 2;

/// Turns that asked tasks get. Sized: each needs one; a task that is not polled for so long is busy.
const TURNS: usize = 16;

/// What a worker gives out.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) connections: Vec<Live>,
    /// Others may be movable soon.
    pub(crate) others_wait: bool,
}

/// Takes connections out, with at most so many descriptors together.
pub(super) async fn freeze(worker: &Worker, descriptors: usize) -> Batch {
    worker.timers.ask_to_move(descriptors / DESCRIPTORS_MAX);
    for _ in 0..TURNS {
        if worker.timers.asked() == 0 {
            break;
        }
        yield_now().await;
    }
    worker.timers.withdraw();
    Batch {
        connections: worker.leaving.take(),
        others_wait: worker.timers.others_wait(),
    }
}

/// Another process serves so many of them now; the others are served on.
pub(super) fn settle(worker: &Rc<Worker>, taken: Vec<Live>, others: Vec<Live>) {
    let in_flight = &worker.shared.in_flight;
    for live in taken {
        if live.tunnel.is_some() {
            worker.counters.ended(End::Moved, 0);
        }
        drop(live);
        worker.counters.count(Count::Moved);
        in_flight.fetch_sub(1, Ordering::Relaxed);
    }
    for live in others {
        resume(worker, live);
        in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Connections of another process: they are served from now on.
pub(super) fn adopt(worker: &Rc<Worker>, connections: Vec<Live>) {
    for live in connections {
        resume(worker, live);
    }
}

/// Why connections are still here, by reason.
pub(super) fn kept(worker: &Worker) -> BTreeMap<String, u64> {
    worker.timers.kept()
}

fn resume(worker: &Rc<Worker>, live: Live) {
    if let Err(error) = try_resume(worker, live) {
        // The socket cannot be watched: nothing can be said to the client any more.
        tracing::error!(%error, "a connection that moved is lost; raise LimitNOFILE");
        worker.counters.ended(End::Internal, 0);
    }
}

fn try_resume(worker: &Rc<Worker>, live: Live) -> io::Result<()> {
    let stream = watched(live.socket)?;
    let timer = worker.timers.register_resumed(live.began, live.refused);
    let site = worker.site();
    let limited = site.settings.limits.connections_per_ip.is_some();
    // It is there, whatever the limit says.
    let place = limited.then(|| worker.shared.per_ip.enter(live.client.peer, usize::MAX));
    let resumed = h1::Resumed {
        served: live.served,
        sniffs: live.sniffs,
        left_ms: live.left_ms,
        input: live.input,
    };
    let connection = h1::Connection::resume(Rc::clone(worker), timer, stream, live.client, resumed);
    let left = match live.tunnel {
        Some(tunnel) => Some(Box::new(LeftTunnel {
            backend: BackendConnection::arrived(
                watched(tunnel.socket)?,
                tunnel.input,
                tunnel.lease,
            ),
            upstream: tunnel.upstream,
            is_shut: tunnel.is_shut,
            status: tunnel.status,
            account: tunnel.account,
        })),
        None => None,
    };
    accept::go_on(
        worker,
        Box::new(connection),
        left,
        (Presence::adopted(worker), place),
    );
    Ok(())
}

fn watched(socket: std::os::fd::OwnedFd) -> io::Result<Stream> {
    let tcp = StdStream::from(socket);
    tcp.set_nonblocking(true)?;
    TcpStream::from_std(tcp).map(Stream::Plain)
}

impl Worker {
    /// A connection leaves: its task ends, and whoever asked gets it.
    pub(crate) fn leave(&self, live: Live) {
        self.shared.in_flight.fetch_add(1, Ordering::Relaxed);
        self.leaving.borrow_mut().push(live);
    }
}
