//! The other half of level 1: the notify socket of one child that follows sd_notify(3).
//!
//! Holds  one socket per generation in a directory of ours, so that readiness is proved by identity.

use std::fs;
use std::io;
use std::path::Path;

use handoff::notify::{NOTIFICATION_BYTES_MAX, parse_notification};
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::core::Happening;

/// Listens as long as this lives.
#[derive(Debug)]
pub(crate) struct Ears(JoinHandle<()>);

impl Drop for Ears {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Binds the socket; each datagram is a happening.
pub(crate) fn listen(
    path: &Path,
    generation: u64,
    happenings: mpsc::UnboundedSender<Happening>,
) -> io::Result<Ears> {
    let _ = fs::remove_file(path);
    let socket = UnixDatagram::bind(path)?;
    let listening = tokio::spawn(async move {
        let mut datagram = vec![0; NOTIFICATION_BYTES_MAX];
        while let Ok(count) = socket.recv(&mut datagram).await {
            let said = parse_notification(datagram.get(..count).unwrap_or_default());
            if happenings
                .send(Happening::Notified(generation, said))
                .is_err()
            {
                return;
            }
        }
    });
    Ok(Ears(listening))
}
