//! The WebSocket echo of the HTTP origin, after the upgrade.
//!
//! Room  one loop of message and answer; the frames are tungstenite's.
//! In    an upgraded stream, and what came with the upgrade's head.
//! Out   every message back as it was.
//! Holds it ends only with the client's close or a broken connection; a stopping origin waits as for any other.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Echoes until the client closes. `None`: the connection broke.
pub(super) async fn serve(stream: TcpStream, received: Bytes) -> Option<TcpStream> {
    let mut socket =
        WebSocketStream::from_partially_read(stream, received.to_vec(), Role::Server, None).await;
    while let Some(message) = socket.next().await {
        let message = message.ok()?;
        if message.is_binary() || message.is_text() {
            socket.send(message).await.ok()?;
        }
    }
    Some(socket.into_inner())
}
