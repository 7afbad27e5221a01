//! How the control thread speaks to a shard: a queue of rare commands and a descriptor that wakes epoll.
//!
//! Room  one queue, one eventfd (eventfd(2)); no command is carried out here.
//! In    commands from `ShardPool`.
//! Out   the same, in order, to the shard's loop; acknowledgements back.
//! Holds a command that was sent wakes the shard, also when it was just going to sleep.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use handoff::Share;
use handoff::held::Held;
use rustix::event::{EventfdFlags, eventfd};

use super::Timeouts;
use super::moving::Batch;
use super::service::Service;
use crate::connection::Boxed;

/// A listening socket and its place in its group.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) socket: Arc<OwnedFd>,
    pub(crate) place: usize,
    /// Sockets of the whole group.
    pub(crate) of: usize,
}

/// The listening sockets of one listener that a shard is to watch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    pub(crate) sockets: Vec<Placed>,
    /// Other shards watch the same sockets: there are fewer of them than shards.
    pub(crate) shared: bool,
}

/// What a shard can be told.
#[derive(Debug)]
pub(crate) enum Order {
    SetListener(Arc<Service>, Watched),
    RemoveListener(String),
    /// Accept on this part of every group.
    Accept(Share),
    /// Serve this connection as if it had been accepted on the listener of this name.
    Serve(String, OwnedFd),
    SetTimeouts(Timeouts),
    /// Say what is held.
    Survey(Sender<Held>),
    /// Take connections out, with at most so many descriptors together.
    Freeze(usize, Sender<Batch>),
    /// Close those that another process took, serve on the others.
    Settle {
        taken: Vec<Boxed>,
        others: Vec<Boxed>,
        done: Sender<()>,
    },
    /// Serve connections of another process.
    Adopt(Vec<Boxed>, Sender<()>),
    /// Say why connections are still here.
    Kept(Sender<BTreeMap<String, u64>>),
    /// Accept nothing more; at this time cut what is left.
    Drain(Instant),
    Stop,
}

/// An order, and where to say that it was carried out.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) order: Order,
    pub(crate) done: Sender<io::Result<()>>,
}

/// The sending end.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    queue: Sender<Command>,
    wake: Arc<OwnedFd>,
}

/// The shard's end.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Receiver<Command>,
    wake: Arc<OwnedFd>,
}

/// Both ends.
pub(crate) fn open() -> io::Result<(Mailbox, Inbox)> {
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (sender, receiver) = channel();
    Ok((
        Mailbox {
            queue: sender,
            wake: Arc::clone(&wake),
        },
        Inbox {
            queue: receiver,
            wake,
        },
    ))
}

impl Mailbox {
    /// Queues an order and wakes the shard; an error means that the shard has ended.
    pub(crate) fn send(&self, order: Order, done: Sender<io::Result<()>>) -> io::Result<()> {
        let gone = || io::Error::other("the shard has ended; restart the process");
        self.queue
            .send(Command { order, done })
            .map_err(|_| gone())?;
        match rustix::io::write(&*self.wake, &1_u64.to_ne_bytes()) {
            // Would block: the count is at its maximum, so the shard is awake or about to be.
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Inbox {
    pub(crate) fn wake(&self) -> &OwnedFd {
        &self.wake
    }

    /// Takes the wake-up back; before the queue is read, so that a later command wakes again.
    pub(crate) fn hush(&self) {
        // Would block: somebody woke us for a command that was already taken.
        let _ = rustix::io::read(&*self.wake, &mut [0_u8; 8]);
    }

    pub(crate) fn next(&self) -> Option<Command> {
        self.queue.try_recv().ok()
    }
}
