//! What moves a `TlsStream`: receiving into rustls, sending out of it, and the handshake made of both.
//!
//! Room  the only place that calls `read_tls` and `write_tls`.
//! Holds one `recv` per readiness, into a buffer of the thread: rustls's own reads are 4 KiB, which costs four
//!       system calls for a full record. What rustls cannot take yet waits in `leftover`.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead as _, ReadBuf};

use super::wire::{Trying, Waking};
use super::{TlsStream, invalid};

/// Bytes of one `recv`. Sized: the largest record (RFC 5246, section 6.2.3: 2^14 + 2048, and 5 of header).
const SCRATCH: usize = 16 * 1024 + 2048 + 5;

/// Plain bytes at which rustls takes no more until some are read (its own limit).
const PLAIN_MAX: usize = 16 * 1024;

thread_local! {
    /// Received bytes pass through here on their way into rustls; nothing stays in it.
    static RECEIVED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl TlsStream {
    /// Handshake and everything that has to be sent after it.
    pub(super) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.is_handshaking() {
            ready!(self.poll_send(cx))?;
            if !self.tls.is_handshaking() {
                break;
            }
            ready!(self.poll_receive(cx))?;
            if self.ended && self.tls.is_handshaking() {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the peer closed the connection during the TLS handshake",
                )));
            }
        }
        self.poll_send(cx)
    }

    /// Sends until nothing is left; pending (with a waker) when the socket is full.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            let mut wire = Waking {
                tcp: &mut self.tcp,
                cx,
            };
            match self.tls.write_tls(&mut wire) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_sent) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gets bytes into rustls once: those left over, else one `recv`.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.leftover.is_empty() {
            let bytes = std::mem::take(&mut self.leftover);
            return Poll::Ready(self.feed(&bytes));
        }
        // Taken out of its cell, so that no path can meet it borrowed.
        let mut scratch = RECEIVED.take();
        scratch.resize(SCRATCH, 0);
        let mut buffer = ReadBuf::new(&mut scratch);
        let polled = Pin::new(&mut self.tcp).poll_read(cx, &mut buffer);
        let result = polled.map(|read| {
            read?;
            match buffer.filled() {
                [] => self.end(),
                bytes => {
                    self.boundary.advance(bytes);
                    self.feed(bytes)
                }
            }
        });
        RECEIVED.set(scratch);
        result
    }

    fn end(&mut self) -> io::Result<()> {
        self.ended = true;
        // rustls learns of the end by reading nothing.
        self.tls.read_tls(&mut io::empty()).map(|_nothing| ())
    }

    /// Decrypts; what does not fit is left over. An answer of rustls (an alert, a key update) leaves at once if
    /// the socket takes it.
    fn feed(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = self.tls.read_tls(&mut bytes)?;
            let processed = self.tls.process_new_packets();
            if !self.tls.is_handshaking() || processed.is_err() {
                self.try_send();
            }
            let state = match processed {
                Ok(state) => state,
                Err(error) => {
                    // Whoever reads again hears of an end instead of waiting for a peer that was refused.
                    self.end()?;
                    return Err(invalid(error));
                }
            };
            if state.peer_has_closed() {
                // Nothing counts after close_notify (RFC 8446, section 6.1).
                break;
            }
            if taken == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if state.plaintext_bytes_to_read() > PLAIN_MAX {
                self.leftover = bytes.to_vec();
                break;
            }
        }
        Ok(())
    }

    fn try_send(&mut self) {
        while self.tls.wants_write() {
            // An error shows up again at the writer or the reader, whoever comes first.
            if !matches!(self.tls.write_tls(&mut Trying(&self.tcp)), Ok(1..)) {
                break;
            }
        }
    }
}
