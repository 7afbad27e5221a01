//! Finding a backend for a connection: one attempt at a time, another backend when it fails.
//!
//! Room  the choice (by `dataplane::balance`) and the socket of one attempt. No byte of the client is sent here,
//!       so a further attempt can never send one twice.
//! In    a connection without a backend; what epoll said about an attempt; the connect deadline.
//! Out   a connection with an attempt under way, or the reason why there is none.
//! Holds each backend is tried at most once per connection, and at most 1 + `retries` of them.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use dataplane::backend::Lease;
use dataplane::upstream::Upstream;
use rustix::io::Errno;

use crate::connection::{Connection, Link, Side, Stage, deadline};
use crate::shard::poll::{Slot, Token};
use crate::shard::tools::{SHORTAGE_PAUSE, Tools};
use crate::socket;
use crate::totals::End;

/// Starts the next attempt. `Err`: nobody is left to try, or this host cannot.
pub(crate) fn try_next(
    connection: &mut Connection,
    slot: Slot,
    tools: &mut Tools,
) -> Result<(), End> {
    let upstream = upstream_of(connection);
    let settings = upstream.settings();
    let further = usize::try_from(settings.retries).unwrap_or(usize::MAX);
    while connection.tried.len() <= further {
        let retried = !connection.tried.is_empty();
        let client = connection.parties.client.ip();
        let chooser = tools.chooser(&upstream);
        let chosen = chooser.choose(&upstream.selection(), client, &connection.tried);
        let Some(lease) = chosen else {
            return Err(if retried {
                End::ConnectFailed
            } else {
                End::NoBackend
            });
        };
        tools.bench.counters.retries.add(u64::from(retried));
        match attempt(&lease) {
            Ok(socket) => {
                let link = Link {
                    side: Side::new(socket, false),
                    lease,
                    started: tools.now,
                    connect_by: deadline::after(tools.now, settings.connect_timeout),
                };
                return adopt(connection, link, slot, tools);
            }
            Err(errno) if socket::is_shortage(errno) => {
                drop(lease);
                return wait_for_room(connection, settings.connect_timeout, tools);
            }
            Err(error) => count_failure(connection, &upstream, &lease, error, tools),
        }
    }
    Err(End::ConnectFailed)
}

fn attempt(lease: &Lease) -> rustix::io::Result<OwnedFd> {
    // No address: the name stopped resolving between the choice and now.
    let address = lease.backend().address().ok_or(Errno::HOSTUNREACH)?;
    socket::start_connect(address)
}

/// The attempt under way failed, or took too long: it is reported, and the next one starts.
pub(crate) fn try_another(
    connection: &mut Connection,
    slot: Slot,
    tools: &mut Tools,
) -> Result<(), End> {
    let upstream = upstream_of(connection);
    if let Some(Link { lease, side, .. }) = connection.link.take() {
        let error = if side.failed {
            socket::connect_error(&side.socket)
        } else {
            Errno::TIMEDOUT
        };
        // Closed first: it must not count as open while another is tried.
        drop(side);
        count_failure(connection, &upstream, &lease, error, tools);
    }
    try_next(connection, slot, tools)
}

/// The upstream of the connection's listener, as it was when the connection was accepted.
pub(crate) fn upstream_of(connection: &Connection) -> Arc<Upstream> {
    Arc::clone(&connection.admission.service().settings().upstream)
}

/// This host has no descriptor or port for a backend socket: no backend's fault. The client waits a moment,
/// the connect timeout at most; meanwhile the shard takes no more clients.
fn wait_for_room(
    connection: &mut Connection,
    at_most: Duration,
    tools: &mut Tools,
) -> Result<(), End> {
    tools.shortage = true;
    if tools.now >= deadline::after(connection.times.accepted, at_most) {
        return Err(End::HostExhausted);
    }
    connection.stage = Stage::Connecting;
    connection.times.seek_again = Some(tools.now + SHORTAGE_PAUSE);
    Ok(())
}

fn adopt(
    connection: &mut Connection,
    link: Link,
    slot: Slot,
    tools: &mut Tools,
) -> Result<(), End> {
    connection.stage = Stage::Connecting;
    // Registered after connect(2): an unconnected socket would report a hang-up.
    let watched = tools
        .poller
        .watch_connection(&link.side.socket, Token::Backend(slot));
    connection.link = Some(link);
    watched.map_err(|_| End::HostExhausted)
}

fn count_failure(
    connection: &mut Connection,
    upstream: &Upstream,
    lease: &Lease,
    error: Errno,
    tools: &mut Tools,
) {
    let backend = lease.backend();
    tracing::debug!(upstream = upstream.name(), backend = backend.label(), %error, "a backend did not connect");
    tools.bench.counters.connect_failures.add(1);
    upstream.connect_failed(backend, tools.now);
    connection.tried.push(Arc::clone(backend));
}
