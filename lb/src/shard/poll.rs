//! The epoll instance of one shard, and the tokens by which its events find what they are about.
//!
//! Room  epoll system calls and bit packing.
//! In    sockets to watch.
//! Out   [`Event`]s: a token and what is ready.
//! Holds connection sockets are watched edge-triggered and registered once; listening sockets and the wake-up
//!       are level-triggered. A token carries a generation, so an event of a closed connection finds nothing.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

/// Events taken from the kernel at once. Sized: a busy shard's turn; the rest follows in the next.
const EVENTS_PER_WAIT: usize = 256;

/// Bits of a token that name the kind; the slot has 30 and the generation 32.
const KIND_BITS: u32 = 2;
const SLOT_BITS: u32 = 30;

/// Slots that a token can name. More connections than descriptors of a process, so never reached.
pub(crate) const SLOTS_MAX: usize = 1 << SLOT_BITS;

/// A place in one of the shard's tables, and which of its tenants is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Slot {
    pub(crate) index: usize,
    pub(crate) generation: u32,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Token {
    /// Commands wait.
    Wake,
    /// A listening socket.
    Listener(Slot),
    /// The client's socket of a connection.
    Client(Slot),
    /// The backend's socket of a connection.
    Backend(Slot),
}

impl Token {
    fn pack(self) -> u64 {
        let (kind, slot) = match self {
            Self::Wake => (
                0,
                Slot {
                    index: 0,
                    generation: 0,
                },
            ),
            Self::Listener(slot) => (1, slot),
            Self::Client(slot) => (2, slot),
            Self::Backend(slot) => (3, slot),
        };
        // Slots are below SLOTS_MAX: the tables refuse more.
        let index = slot.index as u64 & ((1 << SLOT_BITS) - 1);
        u64::from(slot.generation) << (KIND_BITS + SLOT_BITS) | index << KIND_BITS | kind
    }

    fn unpack(bits: u64) -> Self {
        let index =
            usize::try_from(bits >> KIND_BITS & ((1 << SLOT_BITS) - 1)).unwrap_or(SLOTS_MAX);
        let generation = u32::try_from(bits >> (KIND_BITS + SLOT_BITS)).unwrap_or(0);
        let slot = Slot { index, generation };
        match bits & ((1 << KIND_BITS) - 1) {
            0 => Self::Wake,
            1 => Self::Listener(slot),
            2 => Self::Client(slot),
            _ => Self::Backend(slot),
        }
    }
}

/// What a socket is ready for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer ended its side, or both are down.
    pub(crate) hung_up: bool,
    /// The socket has an error.
    pub(crate) failed: bool,
}

impl Readiness {
    fn of(flags: EventFlags) -> Self {
        let down = EventFlags::HUP | EventFlags::ERR;
        Self {
            readable: flags.intersects(EventFlags::IN | EventFlags::RDHUP | down),
            writable: flags.intersects(EventFlags::OUT | down),
            hung_up: flags.intersects(EventFlags::RDHUP | down),
            failed: flags.contains(EventFlags::ERR),
        }
    }
}

/// One event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) token: Token,
    pub(crate) readiness: Readiness,
}

impl Event {
    fn of(event: epoll::Event) -> Self {
        // Copied out first: the kernel's structure is packed.
        let (data, flags) = (event.data, event.flags);
        Self {
            token: Token::unpack(data.u64()),
            readiness: Readiness::of(flags),
        }
    }
}

/// The epoll instance.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poller {
    pub(crate) fn new() -> rustix::io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self {
            epoll,
            events: Vec::with_capacity(EVENTS_PER_WAIT),
        })
    }

    /// Watches a connection's socket, once and for everything: no later call is needed to wait for more.
    pub(crate) fn watch_connection(
        &self,
        socket: &OwnedFd,
        token: Token,
    ) -> rustix::io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, socket, EventData::new_u64(token.pack()), flags)
    }

    /// Watches a listening socket. `shared`: other shards watch it too, and one of them is enough to wake.
    pub(crate) fn watch_listener(
        &self,
        socket: &OwnedFd,
        token: Token,
        shared: bool,
    ) -> rustix::io::Result<()> {
        let flags = if shared {
            EventFlags::IN | EventFlags::EXCLUSIVE
        } else {
            EventFlags::IN
        };
        epoll::add(&self.epoll, socket, EventData::new_u64(token.pack()), flags)
    }

    /// Watches the descriptor that other threads write to when they have queued a command.
    pub(crate) fn watch_wake(&self, wake: impl AsFd) -> rustix::io::Result<()> {
        epoll::add(
            &self.epoll,
            wake,
            EventData::new_u64(Token::Wake.pack()),
            EventFlags::IN,
        )
    }

    /// Stops watching. Other processes may hold the same listening socket: closing ours would not end it.
    pub(crate) fn forget(&self, socket: &OwnedFd) -> rustix::io::Result<()> {
        epoll::delete(&self.epoll, socket)
    }

    /// Waits until something is ready or the time is over; `None` waits without end.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> rustix::io::Result<()> {
        let timeout = timeout.map(round_up);
        self.events.clear();
        let mut buffer = [MaybeUninit::<epoll::Event>::uninit(); EVENTS_PER_WAIT];
        match epoll::wait(&self.epoll, &mut buffer, timeout.as_ref()) {
            Ok((events, _)) => {
                self.events
                    .extend(events.iter().map(|event| Event::of(*event)));
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// The event at this position of the last wait.
    pub(crate) fn event(&self, position: usize) -> Option<Event> {
        self.events.get(position).copied()
    }
}

/// Whole milliseconds, never less than asked: waking early would only mean waiting again.
fn round_up(timeout: Duration) -> Timespec {
    let milliseconds = timeout.as_micros().div_ceil(1000);
    let milliseconds = u64::try_from(milliseconds)
        .unwrap_or(u64::MAX)
        .min(i32::MAX as u64);
    let rounded = Duration::from_millis(milliseconds);
    Timespec {
        tv_sec: i64::try_from(rounded.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(rounded.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::{SLOTS_MAX, Slot, Token, round_up};
    use std::time::Duration;

    #[test]
    fn tokens_come_back_as_they_were() {
        for index in [0, 1, 77, SLOTS_MAX - 1] {
            for generation in [0, 1, u32::MAX] {
                let slot = Slot { index, generation };
                for token in [
                    Token::Listener(slot),
                    Token::Client(slot),
                    Token::Backend(slot),
                ] {
                    assert_eq!(Token::unpack(token.pack()), token);
                }
            }
        }
        assert_eq!(Token::unpack(Token::Wake.pack()), Token::Wake);
    }

    #[test]
    fn a_wait_is_rounded_up_to_milliseconds_and_bounded() {
        assert_eq!(round_up(Duration::ZERO).tv_nsec, 0);
        assert_eq!(round_up(Duration::from_micros(1)).tv_nsec, 1_000_000);
        assert_eq!(round_up(Duration::MAX).tv_sec, i64::from(i32::MAX) / 1000);
    }
}
