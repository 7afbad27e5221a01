//! The other half of level 1: the notify socket of one child that follows sd_notify(3).
//!
//! Holds  one socket per generation in a directory of ours, so that readiness is proved by identity.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use handoff::notify::{NOTIFICATION_BYTES_MAX, parse_notification};
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::core::Happening;

/// Listens as long as this lives.
#[derive(Debug)]
pub(crate) struct Ears {
    socket: OwnedFd,
    listening: JoinHandle<()>,
}

impl Ears {
    /// The socket, to be handed on.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Binds the socket; each datagram is a happening.
pub(crate) fn listen(
    path: &Path,
    generation: u64,
    happenings: mpsc::UnboundedSender<Happening>,
) -> io::Result<Ears> {
    let _ = fs::remove_file(path);
    let socket = std::os::unix::net::UnixDatagram::bind(path)?;
    listen_on(socket.into(), generation, happenings)
}

/// Goes on with a socket that is bound.
pub(crate) fn listen_on(
    socket: OwnedFd,
    generation: u64,
    happenings: mpsc::UnboundedSender<Happening>,
) -> io::Result<Ears> {
    let ours = std::os::unix::net::UnixDatagram::from(socket.try_clone()?);
    ours.set_nonblocking(true)?;
    let ours = UnixDatagram::from_std(ours)?;
    let listening = tokio::spawn(async move {
        let mut datagram = vec![0; NOTIFICATION_BYTES_MAX];
        while let Ok(count) = ours.recv(&mut datagram).await {
            let said = parse_notification(datagram.get(..count).unwrap_or_default());
            if happenings
                .send(Happening::Notified(generation, said))
                .is_err()
            {
                return;
            }
        }
    });
    Ok(Ears { socket, listening })
}
