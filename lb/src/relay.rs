//! One direction of a connection: reads from one socket, writes to the other, a bounded amount per turn.
//!
//! Room  system calls on two sockets and one pipe; no other connection, no clock, no decision about ends.
//! In    a [`Flow`] with its two [`Side`]s, whose flags epoll has set.
//! Out   bytes at the other side; the flags cleared where the kernel said "would block".
//! Holds bytes leave in the order they came, none twice; a flow that holds bytes does not read.
//!
//! ```text
//!   Copy ──the buffer was filled twice in a row──> Splice
//!    ^                                               │ the source ran dry after a small amount,
//!    └───────────────────────────────────────────────┘ or no pipe is left
//! ```
//!
//! Edge-triggered epoll reports a change once, so a flag is cleared only when the kernel said "would block",
//! or when a read returned less than was asked for and the peer had not hung up: what arrives later is a
//! new change.

use rustix::io::Errno;

use crate::connection::Side;
use crate::connection::flow::{Flow, Mode, Source};
use crate::pipes::Pipes;
use crate::socket;
use crate::totals::Counters;

/// The copy buffer of a shard, in bytes; an idle connection owns none. Sized: what one read of a busy
/// loopback socket returns, and small enough to stay in the processor's second-level cache.
pub(crate) const SCRATCH_SIZE: usize = 64 * 1024;

/// Bytes that a direction may move before others get their turn. Sized: about 0.1 ms of work, two full pipes.
const BYTES_PER_TURN: u64 = 512 * 1024;

/// Reads and writes that a direction may do before others get their turn, however small.
const STEPS_PER_TURN: usize = 32;

/// Filled buffers in a row after which a direction is taken for bulk and spliced.
const FILLED_BEFORE_SPLICE: u8 = 2;

/// A spliced direction that moved less than this, in bytes, before it ran dry goes back to copying: three
/// system calls per message instead of two are then worth more than the copy.
const SPLICE_WORTH: u64 = 16 * 1024;

/// What a direction works with; it belongs to the shard.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) scratch: Box<[u8]>,
    pub(crate) pipes: Pipes,
    pub(crate) counters: std::sync::Arc<Counters>,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// Bytes written to the destination.
    pub(crate) bytes: u64,
    /// Something was read, written or ended: the connection is not idle.
    pub(crate) moved: bool,
    /// The bound of a turn was reached: there may be more to do, and epoll will not say so again.
    pub(crate) more: bool,
}

enum Step {
    Moved,
    Blocked,
}

/// Moves bytes until something would block, the source ends, or the turn is over.
pub(crate) fn pump(flow: &mut Flow, from: &mut Side, to: &mut Side, bench: &mut Bench) -> Turn {
    let before = flow.bytes;
    let mut turn = Turn {
        bytes: 0,
        moved: false,
        more: false,
    };
    for _ in 0..STEPS_PER_TURN {
        match step(flow, from, to, bench) {
            Step::Moved => turn.moved = true,
            Step::Blocked => {
                turn.bytes = flow.bytes - before;
                settle(flow, from, turn.bytes, bench);
                return turn;
            }
        }
        if flow.bytes - before >= BYTES_PER_TURN {
            break;
        }
    }
    turn.bytes = flow.bytes - before;
    turn.more = true;
    turn
}

fn step(flow: &mut Flow, from: &mut Side, to: &mut Side, bench: &mut Bench) -> Step {
    if flow.is_over() {
        return Step::Blocked;
    }
    if to.failed {
        break_off(flow, to, bench);
        return Step::Blocked;
    }
    if !to.writable {
        return Step::Blocked;
    }
    if flow.held() > 0 {
        return flush(flow, to, bench);
    }
    if !from.readable {
        return Step::Blocked;
    }
    match flow.mode {
        Mode::Copy { filled } => copy(flow, from, to, bench, filled),
        Mode::Splice => splice(flow, from, to, bench),
    }
}

/// Reads into the shard's buffer and writes from it; only what the destination did not take is kept.
fn copy(flow: &mut Flow, from: &mut Side, to: &mut Side, bench: &mut Bench, filled: u8) -> Step {
    let count = match socket::receive(&from.socket, &mut bench.scratch) {
        Ok(count) => count,
        Err(errno) => return refused_read(flow, from, errno),
    };
    if count == 0 {
        return ended(flow, from);
    }
    if count == bench.scratch.len() {
        let filled = filled + 1;
        let bulk = filled >= FILLED_BEFORE_SPLICE;
        flow.mode = if bulk {
            Mode::Splice
        } else {
            Mode::Copy { filled }
        };
    } else {
        flow.mode = Mode::Copy { filled: 0 };
        // Nothing was left behind. What comes later is a new edge, unless the peer has hung up already:
        // then there is no further edge and the end of file must be read now.
        from.readable = from.hung_up;
    }
    pass(flow, to, bench, count)
}

/// Writes what was read into the shard's buffer, and keeps the rest.
fn pass(flow: &mut Flow, to: &mut Side, bench: &mut Bench, count: usize) -> Step {
    let bytes = bench.scratch.get(..count).unwrap_or_default();
    let sent = match socket::send(&to.socket, bytes) {
        Ok(sent) => sent,
        Err(Errno::AGAIN) => {
            to.writable = false;
            0
        }
        Err(_) => {
            break_off(flow, to, bench);
            return Step::Moved;
        }
    };
    flow.bytes += sent as u64;
    let rest = bytes.get(sent..).unwrap_or_default();
    if !rest.is_empty() {
        flow.keep(rest);
        bench.counters.bytes_pending.add(rest.len() as u64);
    }
    Step::Moved
}

/// Moves what the socket has into a pipe; the next step empties it.
fn splice(flow: &mut Flow, from: &mut Side, to: &mut Side, bench: &mut Bench) -> Step {
    if flow.pipe.is_none() {
        flow.pipe = bench.pipes.take();
        if flow.pipe.is_some() {
            bench.counters.pipes_lent.add(1);
        }
    }
    let Some(pipe) = flow.pipe.as_mut() else {
        flow.mode = Mode::Copy { filled: 0 };
        return copy(flow, from, to, bench, 0);
    };
    match pipe.fill(&from.socket) {
        Ok(0) => ended(flow, from),
        Ok(count) => {
            bench.counters.bytes_pending.add(count as u64);
            flush(flow, to, bench)
        }
        Err(errno) => refused_read(flow, from, errno),
    }
}

/// Writes what the flow holds: first what was copied, then what is in the pipe.
fn flush(flow: &mut Flow, to: &mut Side, bench: &mut Bench) -> Step {
    let copied = flow.kept().len();
    let result = match flow.pipe.as_mut() {
        Some(pipe) if copied == 0 => pipe.empty_into(&to.socket),
        _ => socket::send(&to.socket, flow.kept()),
    };
    match result {
        // Nothing was taken of something and no reason given: waiting would never end.
        Ok(0) | Err(_) if !matches!(result, Err(Errno::AGAIN)) => {
            break_off(flow, to, bench);
            Step::Moved
        }
        Ok(count) => {
            if copied == 0 {
                bench.counters.bytes_spliced.add(count as u64);
            } else {
                flow.release(count);
            }
            flow.bytes += count as u64;
            bench.counters.bytes_pending.subtract(count as u64);
            Step::Moved
        }
        Err(_) => {
            to.writable = false;
            Step::Blocked
        }
    }
}

fn ended(flow: &mut Flow, from: &mut Side) -> Step {
    flow.source = Source::Ended;
    from.readable = false;
    Step::Moved
}

fn refused_read(flow: &mut Flow, from: &mut Side, errno: Errno) -> Step {
    from.readable = false;
    if errno == Errno::AGAIN {
        return Step::Blocked;
    }
    flow.source = Source::Reset;
    Step::Moved
}

/// The destination takes no more: what is held is discarded, and what the destination had still sent is
/// to be read to its end, without waiting for an edge that may have passed.
fn break_off(flow: &mut Flow, to: &mut Side, bench: &mut Bench) {
    to.failed = true;
    to.hung_up = true;
    to.readable = true;
    flow.broken = true;
    discard(flow, bench);
}

/// Forgets what the flow holds and gives its pipe back.
pub(crate) fn discard(flow: &mut Flow, bench: &mut Bench) {
    bench.counters.bytes_pending.subtract(flow.held() as u64);
    flow.forget_kept();
    give_pipe_back(flow, bench);
}

/// After a turn that ended by itself: an idle direction keeps no pipe, and a trickle is copied again.
fn settle(flow: &mut Flow, from: &Side, moved: u64, bench: &mut Bench) {
    rest(flow, bench);
    if matches!(flow.mode, Mode::Splice) && !from.readable && moved < SPLICE_WORTH {
        flow.mode = Mode::Copy { filled: 0 };
    }
}

/// A direction that holds nothing owns no pipe.
pub(crate) fn rest(flow: &mut Flow, bench: &mut Bench) {
    if flow.pipe.as_ref().is_some_and(|pipe| pipe.held() == 0) {
        give_pipe_back(flow, bench);
    }
}

fn give_pipe_back(flow: &mut Flow, bench: &mut Bench) {
    if let Some(pipe) = flow.pipe.take() {
        bench.pipes.give_back(pipe);
        bench.counters.pipes_lent.subtract(1);
    }
}

#[cfg(test)]
mod tests;
