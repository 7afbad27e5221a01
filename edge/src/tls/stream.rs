//! A TCP connection with TLS on it, driven directly: no layer stands between a connection and its keys.
//!
//! ```text
//!   poll_read   socket ──read_tls──▶ rustls ──reader──▶ caller
//!   poll_write  caller ──writer──▶ rustls ──write_tls (vectored)──▶ socket
//! ```
//!
//! Room  moving bytes between rustls and the socket; deadlines are the caller's.
//! Holds one receive for each wake-up where it suffices; at most [`PENDING_MAX`] bytes of ciphertext wait to be
//!       sent; an end without close_notify is told from a proper one.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, HandshakeKind, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Ciphertext that waits to be sent, in bytes. Sized: four records of full size.
const PENDING_MAX: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub struct TlsStream {
    tls: Connection,
    tcp: TcpStream,
    /// The socket has ended.
    eof: bool,
    /// close_notify was queued.
    closing: bool,
}

/// The socket as rustls wants it: blocking calls that would block instead say so.
struct Socket<'a, 'c> {
    tcp: &'a mut TcpStream,
    cx: &'a mut Context<'c>,
}

fn now_or_later<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl io::Read for Socket<'_, '_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(room);
        now_or_later(Pin::new(&mut *self.tcp).poll_read(self.cx, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl io::Write for Socket<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        now_or_later(Pin::new(&mut *self.tcp).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        now_or_later(Pin::new(&mut *self.tcp).poll_write_vectored(self.cx, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TlsStream {
    /// The server's side of a handshake.
    ///
    /// # Errors
    /// The handshake failed or the connection broke; the peer was told why where that was possible.
    pub async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let tls = ServerConnection::new(config).map_err(io::Error::other)?;
        Self::shake(tcp, Connection::Server(tls)).await
    }

    /// The client's side of a handshake.
    ///
    /// # Errors
    /// As [`TlsStream::accept`].
    pub async fn connect(
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Self::shake(tcp, Connection::Client(tls)).await
    }

    async fn shake(tcp: TcpStream, mut tls: Connection) -> io::Result<Self> {
        // Plaintext is bounded by what is pending as ciphertext.
        tls.set_buffer_limit(None);
        let mut stream = Self {
            tls,
            tcp,
            eof: false,
            closing: false,
        };
        std::future::poll_fn(|cx| stream.poll_shake(cx)).await?;
        Ok(stream)
    }

    fn poll_shake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // Also once the handshake is over: tickets and the Finished message leave now.
            while self.tls.wants_write() {
                match self.write_tls(cx) {
                    Ok(_) => {}
                    Err(error) if is_later(&error) && self.tls.is_handshaking() => {
                        return Poll::Pending;
                    }
                    Err(error) if is_later(&error) => break,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            if !self.tls.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_receive(cx))?;
            if self.eof {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// The connection's TLS state: keys can be taken from it at an idle point
    /// (`dangerous_extract_secrets`).
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.tls
    }

    /// The TLS state and the socket.
    #[must_use]
    pub fn into_parts(self) -> (Connection, TcpStream) {
        (self.tls, self.tcp)
    }

    /// True when nothing is on its way in either direction within this process.
    #[must_use]
    pub fn is_idle(&mut self) -> bool {
        !self.tls.wants_write() && !self.has_plaintext()
    }

    /// The protocol that was agreed upon.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    /// The name that the client asked for; `None` on a client's side.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        match &self.tls {
            Connection::Server(server) => server.server_name(),
            Connection::Client(_) => None,
        }
    }

    /// True when a ticket spared the full handshake.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Ready when a read would not wait; takes no buffer.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.eof || self.has_plaintext() {
            return Poll::Ready(Ok(()));
        }
        self.tcp.poll_read_ready(cx)
    }

    fn has_plaintext(&mut self) -> bool {
        self.tls
            .process_new_packets()
            .is_ok_and(|state| state.plaintext_bytes_to_read() > 0)
    }

    /// Receives once and lets rustls look at it.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = Socket {
            tcp: &mut self.tcp,
            cx,
        };
        match self.tls.read_tls(&mut socket) {
            Ok(0) => self.eof = true,
            Ok(_) => {}
            Err(error) if is_later(&error) => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        }
        if let Err(error) = self.tls.process_new_packets() {
            // The alert that tells the peer why.
            let _ = self.write_tls(cx);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        Poll::Ready(Ok(()))
    }

    fn write_tls(&mut self, cx: &mut Context<'_>) -> io::Result<usize> {
        let mut socket = Socket {
            tcp: &mut self.tcp,
            cx,
        };
        self.tls.write_tls(&mut socket)
    }

    /// Sends what is pending; ready when all of it has left.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            match self.write_tls(cx) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if is_later(&error) => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn is_later(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        loop {
            match stream.tls.reader().read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if is_later(&error) && !stream.eof => {}
                Err(error) if is_later(&error) => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(stream.poll_receive(cx))?;
            // Answers to key updates must not wait for our next write.
            if stream.tls.wants_write() {
                let _ = stream.poll_send(cx)?;
            }
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        // What is pending leaves first: so no more than one write of the caller's is ever pending.
        if stream.tls.wants_write() {
            ready!(stream.poll_send(cx))?;
        }
        let taken = bytes.get(..bytes.len().min(PENDING_MAX)).unwrap_or_default();
        let count = stream.tls.writer().write(taken)?;
        if let Poll::Ready(Err(error)) = stream.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    /// close_notify, then the end of our side.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if !std::mem::replace(&mut stream.closing, true) {
            stream.tls.send_close_notify();
        }
        ready!(stream.poll_send(cx))?;
        Pin::new(&mut stream.tcp).poll_shutdown(cx)
    }
}
