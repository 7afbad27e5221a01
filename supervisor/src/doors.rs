//! What makes this process the supervisor of its name for the outside: the lock, the control socket and the
//! rendezvous.
//!
//! Room  opens, closes for a moment, and lends them to the next supervisor of this process.
//! Holds the sockets stay bound and listening while they are closed: who comes waits, and is not refused.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;

use crate::control_socket::{self, CLIENTS_MAX};
use crate::core::Happening;
use crate::layout::{Layout, LayoutError};
use crate::rendezvous;

/// See the module.
#[derive(Debug)]
pub(crate) struct Doors {
    lock: OwnedFd,
    control: UnixListener,
    rendezvous: OwnedFd,
    /// One for each client of the control socket that may still come.
    places: Arc<Semaphore>,
    serving: Vec<AbortHandle>,
    happenings: mpsc::UnboundedSender<Happening>,
}

/// Sockets that a predecessor in this process bound.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) lock: Option<OwnedFd>,
    pub(crate) control: Option<OwnedFd>,
    pub(crate) rendezvous: Option<OwnedFd>,
}

/// The lock: the predecessor's, which was never released, or our own.
pub(crate) fn lock(layout: &Layout, name: &str, given: &mut Given) -> Result<OwnedFd, LayoutError> {
    match given.lock.take() {
        Some(lock) => Ok(lock),
        None => layout.lock(name).map(|file: File| file.into()),
    }
}

impl Doors {
    /// Binds what was not given, and serves.
    pub(crate) fn open(
        layout: &Layout,
        lock: OwnedFd,
        given: Given,
        happenings: mpsc::UnboundedSender<Happening>,
    ) -> io::Result<Self> {
        let control = match given.control {
            Some(socket) => socket.into(),
            None => control_socket::bind(&layout.control_socket())?,
        };
        let rendezvous = match given.rendezvous {
            Some(socket) => socket,
            None => rendezvous::bind(&layout.rendezvous())?,
        };
        let mut doors = Self {
            lock,
            control,
            rendezvous,
            places: Arc::new(Semaphore::new(CLIENTS_MAX)),
            serving: Vec::new(),
            happenings,
        };
        doors.serve()?;
        Ok(doors)
    }

    /// Takes clients and workers in (again), unless it does already.
    pub(crate) fn serve(&mut self) -> io::Result<()> {
        if !self.serving.is_empty() {
            return Ok(());
        }
        let control = self.control.try_clone()?;
        control.set_nonblocking(true)?;
        let control = tokio::net::UnixListener::from_std(control)?;
        let (places, happenings) = (Arc::clone(&self.places), self.happenings.clone());
        let clients = tokio::spawn(control_socket::serve(control, happenings, places));
        let workers = rendezvous::serve(self.rendezvous.try_clone()?, self.happenings.clone())?;
        self.serving = vec![clients.abort_handle(), workers];
        Ok(())
    }

    /// Takes nobody in; who is inside stays.
    pub(crate) fn close(&mut self) {
        for task in self.serving.drain(..) {
            task.abort();
        }
    }

    /// True when every client has gone.
    pub(crate) fn is_quiet(&self) -> bool {
        self.places.available_permits() == CLIENTS_MAX
    }

    pub(crate) fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    pub(crate) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    pub(crate) fn rendezvous(&self) -> BorrowedFd<'_> {
        self.rendezvous.as_fd()
    }
}
