//! The socket options and system calls of the data path, each with the reason for it.
//!
//! Room  system calls on one socket; no state, no decision.
//! In    descriptors and times, from `shard/`, `connect` and `relay`.
//! Out   the kernel's answer.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

/// Connections that the kernel holds for one listening socket until they are accepted.
///
/// Covers: a swap or a crash, during which clients wait in the queue. Sized: the kernel's own default cap
/// (`net.core.somaxconn` since Linux 5.4); it clamps what is more.
pub const LISTEN_BACKLOG: u16 = 4096;

/// Pause between keepalive probes once one went unanswered; the user timeout then ends the connection, or,
/// without one, the ninth probe. Sized: a dead peer is found a minute and a half after the first probe.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// What the kernel takes for `TCP_KEEPIDLE`; it counts in whole seconds.
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);
const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);

/// What the kernel takes for `TCP_USER_TIMEOUT`: 24 days.
const USER_TIMEOUT_MAX_MS: u32 = i32::MAX.unsigned_abs();

/// How long a silent or unresponsive peer is believed in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Silence after which the kernel asks the peer's kernel whether it is there (`TCP_KEEPIDLE`).
    pub(crate) keepalive: Duration,
    /// How long sent bytes may stay unacknowledged (`TCP_USER_TIMEOUT`, RFC 5482). Zero: the kernel's default.
    pub(crate) user_timeout: Duration,
}

/// Makes a listening socket of a bound one; harmless when it already listens.
pub(crate) fn listen(socket: &OwnedFd) -> rustix::io::Result<()> {
    rustix::net::listen(socket, LISTEN_BACKLOG.into())
}

/// Sets on a listener what accepted sockets inherit, so that no accept pays for it.
pub(crate) fn prepare_listener(socket: &OwnedFd, patience: Patience) -> rustix::io::Result<()> {
    rustix::io::ioctl_fionbio(socket, true)?;
    sockopt::set_tcp_nodelay(socket, true)?;
    believe(socket, patience)
}

/// Sets how long the peer of this socket is believed in: four system calls.
pub(crate) fn believe(socket: &OwnedFd, patience: Patience) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(
        socket,
        patience.keepalive.clamp(KEEPALIVE_MIN, KEEPALIVE_MAX),
    )?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    let milliseconds =
        u32::try_from(patience.user_timeout.as_millis()).unwrap_or(USER_TIMEOUT_MAX_MS);
    sockopt::set_tcp_user_timeout(socket, milliseconds.min(USER_TIMEOUT_MAX_MS))
}

/// Opens a socket and starts to connect it; the handshake goes on without us.
pub(crate) fn start_connect(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // From the start: a last small segment must not wait for the acknowledgement of the one before it.
    sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// What became of a connect that epoll reported as failed.
pub(crate) fn connect_error(socket: &OwnedFd) -> Errno {
    match sockopt::socket_error(socket) {
        Ok(Err(errno)) | Err(errno) => errno,
        // Hung up without an error: somebody was faster in reading it.
        Ok(Ok(())) => Errno::CONNRESET,
    }
}

/// Reads what is there, at most the buffer. 0 is the end of file.
pub(crate) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    rustix::io::retry_on_intr(|| rustix::net::recv(socket, &mut *buffer, RecvFlags::empty()))
        .map(|(count, _)| count)
}

/// Writes what fits. A closed peer is an error here, never a signal.
pub(crate) fn send(socket: &OwnedFd, bytes: &[u8]) -> rustix::io::Result<usize> {
    rustix::io::retry_on_intr(|| rustix::net::send(socket, bytes, SendFlags::NOSIGNAL))
}

/// Says end of file to the peer and keeps reading.
pub(crate) fn finish_writing(socket: &OwnedFd) -> rustix::io::Result<()> {
    rustix::net::shutdown(socket, rustix::net::Shutdown::Write)
}

/// Makes the coming close a reset: unsent bytes are dropped and the peer sees an error, not an end of file.
pub(crate) fn reset_on_close(socket: &OwnedFd) {
    // An error means that the connection is gone already: nothing is left to reset.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// The address that the client connected to.
pub(crate) fn local_address(socket: impl AsFd) -> Option<SocketAddr> {
    rustix::net::getsockname(socket)
        .ok()
        .and_then(|address| SocketAddr::try_from(address).ok())
}

/// Whether this error is this host's shortage: trying another peer would not help, waiting may.
pub(crate) fn is_shortage(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::MFILE
            | Errno::NFILE
            | Errno::NOBUFS
            | Errno::NOMEM
            | Errno::ADDRNOTAVAIL
            | Errno::AGAIN
    )
}
