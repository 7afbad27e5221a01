//! One TLS connection: rustls's state and a socket, side by side.
//!
//! ```text
//!   socket ──recv──▶ scratch (of the thread) ──▶ rustls ──▶ reader
//!   socket ◀─writev─────────────────────────────  rustls ◀── writer
//! ```
//!
//! Room  moves bytes between socket and rustls; speaks no HTTP, sets no deadline.
//! In    an accepted or connected socket and a configuration.
//! Out   plain bytes both ways, and at an idle point the parts themselves: another process can go on with them.
//! Holds an end without close_notify is an error (`UnexpectedEof`), never a clean end. At most
//!       `OUTGOING_MAX` bytes of a writer wait here. A reader never takes away a writer's waker.

mod boundary;
mod drive;
mod wire;

use std::fmt;
use std::io::{self, BufRead as _, IoSlice, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, NamedGroup, ProtocolVersion,
    ServerConfig, ServerConnection,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use boundary::Boundary;

/// Bytes of one connection's writer that may wait for the socket.
///
/// If passed: the writer waits. Sized: four full records, one `writev`.
const OUTGOING_MAX: usize = 64 * 1024;

/// A TLS connection whose handshake is done.
pub struct TlsStream {
    tls: Connection,
    tcp: TcpStream,
    /// Received bytes that rustls had no room for; nearly always empty.
    leftover: Vec<u8>,
    boundary: Boundary,
    /// The socket's end of file was seen.
    ended: bool,
    /// close_notify is on its way, or gone.
    closing: bool,
}

impl TlsStream {
    /// The server's handshake, to its last byte (tickets included). Dropping the future closes the socket.
    ///
    /// # Errors
    /// `InvalidData` around a [`rustls::Error`] when the handshake is refused by either side (the alert is
    /// sent first), `UnexpectedEof` when the client goes away, else the socket's own error.
    pub async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let tls = ServerConnection::new(config).map_err(invalid)?;
        Self::shake(tcp, Connection::Server(tls)).await
    }

    /// The client's handshake; `name` is verified, and sent as SNI when it is no address.
    ///
    /// # Errors
    /// As [`Self::accept`].
    pub async fn connect(
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let tls = ClientConnection::new(config, name).map_err(invalid)?;
        Self::shake(tcp, Connection::Client(tls)).await
    }

    async fn shake(tcp: TcpStream, mut tls: Connection) -> io::Result<Self> {
        tls.set_buffer_limit(Some(OUTGOING_MAX));
        let mut stream = Self {
            tls,
            tcp,
            leftover: Vec::new(),
            boundary: Boundary::default(),
            ended: false,
            closing: false,
        };
        std::future::poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(stream)
    }

    /// Ready when a read would not wait: plain bytes, an end or an error are there. Needs no buffer of the caller,
    /// so that an idle connection holds none; records without plain bytes (tickets, key updates) are worked off
    /// and keep it pending.
    ///
    /// # Errors
    /// What came is no TLS, or the socket's own error.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ended && self.tls.wants_read() {
            ready!(self.poll_receive(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing is under way in either direction: between two records, all plain bytes read, all sealed bytes
    /// sent, no end in sight. Here (and only here) the parts can be taken without losing bytes.
    ///
    /// Bytes in the socket's own buffer do not count: they travel with it.
    pub fn is_idle(&self) -> bool {
        self.leftover.is_empty()
            && self.boundary.is_between_records()
            // Also false once close_notify came.
            && self.tls.wants_read()
            && !self.tls.wants_write()
            && !self.ended
            && !self.closing
    }

    /// The state and the socket; see [`Self::is_idle`] for when this loses nothing.
    pub fn into_parts(self) -> (Connection, TcpStream) {
        (self.tls, self.tcp)
    }

    /// rustls's state, to look at.
    pub fn connection(&self) -> &Connection {
        &self.tls
    }

    /// The socket, to look at (addresses, options).
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// The negotiated protocol (`h2`, `http/1.1`).
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    /// The name that the client asked for (SNI), lower-case; `None` on a client's side.
    pub fn server_name(&self) -> Option<&str> {
        match &self.tls {
            Connection::Server(server) => server.server_name(),
            Connection::Client(_) => None,
        }
    }

    /// TLS 1.2 or 1.3.
    pub fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.tls.protocol_version()
    }

    /// The group of the key exchange; `None` for a TLS 1.2 resumption, which has none.
    pub fn key_exchange_group(&self) -> Option<NamedGroup> {
        Some(self.tls.negotiated_key_exchange_group()?.name())
    }

    /// The handshake was shortened by a ticket.
    pub fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    fn poll_accept_plain(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&mut Connection) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if self.closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        loop {
            let taken = write(&mut self.tls)?;
            match self.poll_send(cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                // Taken is taken: what the socket refused waits here, and the next write goes after it.
                Poll::Ready(Ok(())) | Poll::Pending if taken > 0 => return Poll::Ready(Ok(taken)),
                Poll::Ready(Ok(())) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        loop {
            let mut reader = this.tls.reader();
            while buffer.remaining() > 0 {
                let Ok(chunk) = reader.fill_buf() else { break };
                let taken = chunk.len().min(buffer.remaining());
                if taken == 0 {
                    break;
                }
                buffer.put_slice(chunk.get(..taken).unwrap_or_default());
                reader.consume(taken);
            }
            if buffer.filled().len() > before || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            match reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(this.poll_receive(cx))?;
                }
                // Nothing left and no error: close_notify came.
                ended => return Poll::Ready(ended.map(|_empty| ())),
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
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.get_mut()
            .poll_accept_plain(cx, |tls| tls.writer().write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        self.get_mut()
            .poll_accept_plain(cx, |tls| tls.writer().write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    /// close_notify, then the end of the socket's sending half; reading goes on.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closing {
            this.closing = true;
            this.tls.send_close_notify();
        }
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.tcp).poll_shutdown(cx)
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("tcp", &self.tcp)
            .field("version", &self.protocol_version())
            .finish_non_exhaustive()
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
