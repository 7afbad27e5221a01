//! The echo origin's side of one connection.
//!
//! Room  one loop of read and write.
//! In    a connected stream.
//! Out   the same bytes, then the end of the stream when the client has ended its own.
//! Holds it closes only after it has read the client's end, so the kernel never turns the close into a reset.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Read at once. Most payloads of the loads fit; larger ones take several rounds.
const BUFFER_BYTES: usize = 16 * 1024;

/// Echoes until the client ends its direction or the connection breaks.
pub(super) async fn serve(mut stream: TcpStream) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let Ok(length) = stream.read(&mut buffer).await else {
            return;
        };
        let Some(received) = buffer.get(..length) else {
            return;
        };
        if received.is_empty() {
            break;
        }
        if stream.write_all(received).await.is_err() {
            return;
        }
    }
    // The client is gone if this fails; there is nobody to tell.
    stream.shutdown().await.unwrap_or_default();
}
