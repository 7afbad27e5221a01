//! The door for workers that lost their supervisor.
//!
//! Holds  only processes of our own user (or root) are heard, and only for [`handoff::supervisor::HELLO_DEADLINE`];
//!        the number that a worker says must be the one the kernel saw connect.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use handoff::link::{Channel, Link};
use handoff::supervisor::greet;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::control_socket::is_allowed_user;
use crate::core::Happening;

/// Workers that may wait at the door at once: generations are few.
const BACKLOG: i32 = 16;

/// Binds the door.
pub(crate) fn bind(path: &Path) -> io::Result<OwnedFd> {
    let _ = fs::remove_file(path);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Serves the door as a task, until that is aborted.
pub(crate) fn serve(
    socket: OwnedFd,
    happenings: mpsc::UnboundedSender<Happening>,
) -> io::Result<AbortHandle> {
    // As in `handoff::link`: only the registration with the event loop is the datagram type's.
    let door = UnixDatagram::from_std(socket.into())?;
    let serving = tokio::spawn(async move {
        loop {
            match door.async_io(Interest::READABLE, || accept(&door)).await {
                Ok(worker) => {
                    tokio::spawn(hear(worker, happenings.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the rendezvous does not accept");
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                }
            }
        }
    });
    Ok(serving.abort_handle())
}

fn accept(door: &UnixDatagram) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::accept_with(door, flags)?)
}

async fn hear(worker: OwnedFd, happenings: mpsc::UnboundedSender<Happening>) {
    let greeted = async {
        let channel = Channel::adopt(worker)?;
        let peer = channel.peer()?;
        if !is_allowed_user(peer.uid.as_raw()) {
            return Err(io::Error::other("it belongs to another user"));
        }
        let mut link = Link::new(channel)?;
        let hello = greet(&mut link).await.map_err(io::Error::other)?;
        if u32::try_from(peer.pid.as_raw_nonzero().get()) != Ok(hello.pid) {
            return Err(io::Error::other("it is not the process it says it is"));
        }
        Ok((link, hello))
    };
    match greeted.await {
        Ok(worker) => {
            let _ = happenings.send(Happening::Returned(Box::new(worker)));
        }
        Err(error) => tracing::warn!(%error, "somebody at the rendezvous was turned away"),
    }
}
