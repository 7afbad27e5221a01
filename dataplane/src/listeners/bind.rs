//! Binding a SO_REUSEPORT group, and saying clearly why it cannot be bound.
//!
//! Room  the only place that binds a TCP address. Sockets are bound, not listening: nothing is queued
//!       on them before somebody accepts.
//! Source: socket(7) SO_REUSEADDR, SO_REUSEPORT; ip(7) bind errors.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use super::{Group, Wanted, never_block};

/// Why an address cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{0} is in use; see `ss -ltnp 'sport = :{port}'`", port = .0.port())]
    InUse(SocketAddr),
    #[error("{0} is not an address of this host; see `ip address`")]
    NotLocal(SocketAddr),
    #[error(
        "{0} may not be bound by this user; ports below {limit} need CAP_NET_BIND_SERVICE \
         (AmbientCapabilities= of the unit) or the sysctl net.ipv4.ip_unprivileged_port_start",
        limit = PRIVILEGED_PORTS_END
    )]
    Denied(SocketAddr),
    #[error(
        "{0} cannot be bound: the descriptor limit is reached; raise LimitNOFILE= or use fewer `sockets`"
    )]
    Descriptors(SocketAddr),
    #[error("{address} cannot be bound: {source}")]
    Other {
        address: SocketAddr,
        source: io::Error,
    },
}

/// First port that any user may bind (sysctl net.ipv4.ip_unprivileged_port_start, its default).
const PRIVILEGED_PORTS_END: u16 = 1024;

impl BindError {
    fn of(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse(address),
            io::ErrorKind::AddrNotAvailable => Self::NotLocal(address),
            io::ErrorKind::PermissionDenied => Self::Denied(address),
            _ if is_descriptor_limit(&source) => Self::Descriptors(address),
            _ => Self::Other { address, source },
        }
    }
}

/// Binds a listener's sockets: non-blocking, close-on-exec, not listening.
///
/// `held` are the addresses this process holds already: a probe of those would find ourselves.
///
/// # Errors
/// [`BindError`]; what was bound until then is closed.
pub fn bind(wanted: &Wanted, held: &[SocketAddr]) -> Result<Group, BindError> {
    let mut address = wanted.address;
    let is_ours = held.iter().any(|own| own.port() == address.port());
    if address.port() != 0 && !is_ours {
        probe(address)?;
    }
    let mut sockets = Vec::with_capacity(wanted.members);
    for _ in 0..wanted.members.max(1) {
        let socket =
            bind_one(address, Sharing::Group).map_err(|error| BindError::of(address, error))?;
        // The first member takes a port of the kernel's choice, the others the same.
        address = local_address(&socket, address)?;
        sockets.push(Arc::new(OwnedFd::from(socket)));
    }
    Ok(Group {
        name: wanted.name.clone(),
        address,
        sockets,
    })
}

/// SO_REUSEPORT would let us share the address with any program of the same user; a bind without it
/// shows whether one listens there. SO_REUSEADDR lets connections in TIME-WAIT pass.
fn probe(address: SocketAddr) -> Result<(), BindError> {
    bind_one(address, Sharing::Alone)
        .map(drop)
        .map_err(|error| BindError::of(address, error))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    Group,
}

fn bind_one(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    // socket2 opens close-on-exec.
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    never_block(&socket)?;
    socket.set_reuse_address(true)?;
    if sharing == Sharing::Group {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn local_address(socket: &Socket, asked: SocketAddr) -> Result<SocketAddr, BindError> {
    let local = socket
        .local_addr()
        .map_err(|error| BindError::of(asked, error))?;
    Ok(local.as_socket().unwrap_or(asked))
}

/// EMFILE of this process or ENFILE of the host.
fn is_descriptor_limit(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    number == Some(rustix::io::Errno::MFILE.raw_os_error())
        || number == Some(rustix::io::Errno::NFILE.raw_os_error())
}
