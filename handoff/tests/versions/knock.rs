//! The door of the next supervisor, where a worker that lost its own knocks.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::wire;

/// A listening sequenced-packet socket with a name of its own.
#[derive(Debug)]
pub(crate) struct Door {
    listening: OwnedFd,
    path: PathBuf,
}

impl Door {
    pub(crate) fn open(name: &str) -> Self {
        let number = std::process::id();
        let unique = format!("handoff-{number}-{name}-{:?}", std::thread::current().id());
        let unique = unique.replace(['(', ')'], "");
        let path = std::env::temp_dir().join(unique);
        let _ = std::fs::remove_file(&path);
        let flags = SocketFlags::CLOEXEC;
        let listening =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
                .expect("a socket");
        let address = SocketAddrUnix::new(&path).expect("an address");
        rustix::net::bind(&listening, &address).expect("binds");
        rustix::net::listen(&listening, 4).expect("listens");
        Self { listening, path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next worker that knocks.
    pub(crate) async fn answer(&self) -> OwnedFd {
        let listening = self.listening.try_clone().expect("duplicates");
        tokio::task::spawn_blocking(move || {
            wire::wait(&[&listening]);
            rustix::net::accept_with(&listening, SocketFlags::CLOEXEC).expect("accepts")
        })
        .await
        .expect("joins")
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
