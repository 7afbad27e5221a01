//! The other half of level 1: the notify socket of one child that follows sd_notify(3).
//!
//! Holds  one socket per generation in a directory of ours, so that readiness is proved by identity.

use std::fs;
use std::io;
use std::path::Path;

use handoff::notify::{NOTIFICATION_BYTES_MAX, parse_notification};
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;

use crate::core::Happening;

/// Listens until the socket's file is removed and the supervisor ends; each datagram is a happening.
pub(crate) fn listen(
    path: &Path,
    generation: u64,
    happenings: mpsc::UnboundedSender<Happening>,
) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let socket = UnixDatagram::bind(path)?;
    tokio::spawn(async move {
        let mut datagram = vec![0; NOTIFICATION_BYTES_MAX];
        while let Ok(count) = socket.recv(&mut datagram).await {
            let said = parse_notification(datagram.get(..count).unwrap_or_default());
            if said.stopping
                || happenings
                    .send(Happening::Notified(generation, said))
                    .is_err()
            {
                return;
            }
        }
    });
    Ok(())
}
