//! When a connection must be looked at next, and what for.
//!
//! Room  pure: no clock, no I/O.
//! In    a connection and the shard's timeouts.
//! Out   the earliest deadline, for the shard's timer wheel.
//! Holds activity never touches the wheel: an entry that comes due early is put back at its new time.

use std::time::{Duration, Instant};

use super::{Connection, Stage};
use crate::shard::Timeouts;
use crate::totals::End;

/// Age at which the backend's socket gets its keepalive options.
///
/// Covers: four system calls that a short connection never pays. Nothing is lost by waiting: the connect
/// deadline covers the handshake, and keepalive begins after a longer silence anyway.
/// Sized: well below the default keepalive (60 s); more than most requests take.
pub(crate) const SETTLE_AFTER: Duration = Duration::from_secs(10);

/// What is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Due {
    /// The connection has lasted: see [`SETTLE_AFTER`].
    Settle,
    /// The backend did not answer in time, or a descriptor may be free now: try the next.
    Connect,
    /// The connection ends.
    End(End),
}

/// A moment that is never reached in practice; an absurdly long setting means this instead of a panic.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The moment so long after another.
pub(crate) fn after(moment: Instant, duration: Duration) -> Instant {
    moment + duration.min(NEVER)
}

/// The earliest deadline of this connection, and what is due then.
pub(crate) fn next(connection: &Connection, timeouts: &Timeouts) -> (Instant, Due) {
    let times = &connection.times;
    match connection.stage {
        Stage::Header => (
            after(times.accepted, timeouts.proxy_header),
            Due::End(End::ProxyHeaderTimeout),
        ),
        Stage::Connecting => {
            let by = connection.link.as_ref().map(|link| link.connect_by);
            (
                by.or(times.seek_again).unwrap_or(times.accepted),
                Due::Connect,
            )
        }
        Stage::Relaying => relaying(connection, timeouts),
    }
}

fn relaying(connection: &Connection, timeouts: &Timeouts) -> (Instant, Due) {
    let times = &connection.times;
    let connected = times.connected.unwrap_or(times.accepted);
    let quiet = if connection.is_half_closed() {
        (
            after(times.last_activity, timeouts.half_close),
            Due::End(End::HalfCloseTimeout),
        )
    } else {
        (
            after(times.last_activity, timeouts.idle),
            Due::End(End::IdleTimeout),
        )
    };
    let lifetime = timeouts
        .lifetime
        .map(|lifetime| (after(times.accepted, lifetime), Due::End(End::Lifetime)));
    let settle = (!times.settled).then_some((after(connected, SETTLE_AFTER), Due::Settle));
    [lifetime, settle]
        .into_iter()
        .flatten()
        .fold(
            quiet,
            |nearest, other| if other.0 < nearest.0 { other } else { nearest },
        )
}
