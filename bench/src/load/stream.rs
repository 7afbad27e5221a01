//! The byte stream of a connection: bare, or inside TLS.
//!
//! Room  delegation, and what is asked of the TLS session.
//! In    a connected socket, perhaps with a finished handshake.
//! Out   bytes.
//! Holds the conversations above do not know which of the two they have.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::HandshakeKind;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// One connection's bytes. TLS is boxed: its buffers would make every future large.
#[derive(Debug)]
pub(super) enum Stream {
    Bare(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The socket, where nothing is around it.
    pub(super) fn bare(&mut self) -> Option<&mut TcpStream> {
        match self {
            Self::Bare(stream) => Some(stream),
            Self::Tls(_) => None,
        }
    }

    /// Whether the handshake continued an earlier session; `None` without TLS.
    pub(super) fn is_resumed(&self) -> Option<bool> {
        match self {
            Self::Bare(_) => None,
            Self::Tls(stream) => {
                Some(stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed))
            }
        }
    }

    /// The protocol that the server chose (RFC 7301).
    pub(super) fn protocol(&self) -> Option<&[u8]> {
        match self {
            Self::Bare(_) => None,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }

    /// On an idle connection: ends when something happens; 0 is the end of the stream. TLS messages between
    /// two answers (tickets) are no disturbance, and the missing alert of a server that just closes is an end: RFC
    /// 9112 section 9.8 asks for suspicion only of an answer that it could have cut.
    pub(super) async fn disturbance(&mut self) -> io::Result<usize> {
        let mut byte = [0; 1];
        match self {
            Self::Bare(stream) => stream.peek(&mut byte).await,
            Self::Tls(stream) => match stream.read(&mut byte).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                other => other,
            },
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Bare(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Bare(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Bare(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Bare(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
