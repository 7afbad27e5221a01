//! The steps of a conversation on one socket, each with its limit, each failure with its class.
//!
//! Room  connect, send, receive, end; nothing of what is said.
//! In    a socket, bytes, limits.
//! Out   bytes, or a `Failure` that the ledger understands.
//! Holds no step waits longer than its limit without a byte moving.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::stream::Stream;
use crate::ledger::class::{Class, Phase, classify};
use crate::payload::Payload;

/// Why a connection or an exchange is a loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) class: Class,
    pub(super) phase: Phase,
    pub(super) what: String,
    pub(super) errno: Option<i32>,
    /// Not a byte of the answer had come, and the connection ended: the request may not have been looked at.
    pub(super) is_unanswered: bool,
}

impl Failure {
    pub(super) fn new(class: Class, phase: Phase, what: impl Into<String>) -> Self {
        Self {
            class,
            phase,
            what: what.into(),
            errno: None,
            is_unanswered: false,
        }
    }

    /// The connection ended before the first byte of the answer.
    pub(super) fn unanswered(mut self) -> Self {
        self.is_unanswered = matches!(self.class, Class::Reset | Class::Cut);
        self
    }

    pub(super) fn from_io(phase: Phase, error: &io::Error) -> Self {
        let class = classify(error.kind(), phase);
        Self {
            class,
            phase,
            what: error.to_string(),
            errno: error.raw_os_error(),
            is_unanswered: false,
        }
    }

    /// The other side ended after `received` of so many bytes.
    pub(super) fn cut(received: u64, expected: &str) -> Self {
        let what = format!("the other side ended after {received} of {expected} bytes");
        Self::new(Class::Cut, Phase::Receiving, what)
    }

    pub(super) fn hung(phase: Phase, stall: Duration) -> Self {
        Self::new(
            Class::Hung,
            phase,
            format!("not a byte moved for {stall:?}"),
        )
    }

    pub(super) fn timed_out(limit: Duration) -> Self {
        Self::new(
            Class::TimedOut,
            Phase::Receiving,
            format!("not finished {limit:?} after its intended start"),
        )
    }
}

/// What a handshake needs.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) connector: TlsConnector,
    pub(super) server: ServerName<'static>,
}

/// Connects, and shakes hands where the target is behind TLS; both within `limit`.
pub(super) async fn connect(
    address: SocketAddr,
    tls: Option<&Tls>,
    limit: Duration,
) -> Result<Stream, Failure> {
    let failed = |error: &io::Error| Failure::from_io(Phase::Connecting, error);
    let late = || {
        Failure::new(
            Class::ConnectTimedOut,
            Phase::Connecting,
            format!("no connection after {limit:?}"),
        )
    };
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        // A socket that already broke refuses the option (EINVAL): the next step says what happened to it.
        stream.set_nodelay(true).unwrap_or_default();
        match tls {
            None => Ok(Stream::Bare(stream)),
            Some(Tls { connector, server }) => connector
                .connect(server.clone(), stream)
                .await
                .map(|stream| Stream::Tls(Box::new(stream))),
        }
    };
    timeout(limit, connecting)
        .await
        .map_err(|_| late())?
        .map_err(|error| failed(&error))
}

pub(super) async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    stall: Duration,
) -> Result<(), Failure> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = timeout(stall, to.write(rest))
            .await
            .map_err(|_| Failure::hung(Phase::Sending, stall))?;
        let length = written.map_err(|error| Failure::from_io(Phase::Sending, &error))?;
        rest = rest.get(length..).unwrap_or_default();
    }
    // TLS keeps what the socket did not take.
    timeout(stall, to.flush())
        .await
        .map_err(|_| Failure::hung(Phase::Sending, stall))?
        .map_err(|error| Failure::from_io(Phase::Sending, &error))
}

pub(super) async fn send_payload(
    to: &mut (impl AsyncWrite + Unpin),
    payload: Payload,
    stall: Duration,
) -> Result<(), Failure> {
    let mut at = 0;
    while at < payload.length() {
        let chunk = payload.chunk(at);
        send(to, chunk, stall).await?;
        at += chunk.len() as u64;
    }
    Ok(())
}

/// Ends our direction; the other side can still answer.
pub(super) async fn finish_sending(to: &mut (impl AsyncWrite + Unpin)) -> Result<(), Failure> {
    to.shutdown()
        .await
        .map_err(|error| Failure::from_io(Phase::Sending, &error))
}

/// The next bytes; empty at the end of the stream.
pub(super) async fn receive<'a>(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &'a mut [u8],
    phase: Phase,
    stall: Duration,
) -> Result<&'a [u8], Failure> {
    let read = timeout(stall, from.read(buffer))
        .await
        .map_err(|_| Failure::hung(phase, stall))?;
    let length = match read {
        // After the whole answer a TLS server may just close (RFC 9112 section 9.8); a bare stream never says this.
        Err(error) if phase == Phase::Ending && error.kind() == io::ErrorKind::UnexpectedEof => 0,
        other => other.map_err(|error| Failure::from_io(phase, &error))?,
    };
    Ok(buffer.get(..length).unwrap_or_default())
}

/// Compares bytes that arrived at position `at` with what they must be.
pub(super) fn check(payload: Payload, at: u64, received: &[u8]) -> Result<(), Failure> {
    payload.check(at, received).map_err(|mismatch| {
        let what = if mismatch.at < payload.length() {
            mismatch.to_string()
        } else {
            format!(
                "{} bytes after the whole answer",
                at + received.len() as u64 - payload.length()
            )
        };
        Failure::new(Class::WrongBytes, Phase::Receiving, what)
    })
}

/// Receives exactly `payload`, comparing as it comes.
pub(super) async fn receive_payload(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
    payload: Payload,
    stall: Duration,
) -> Result<(), Failure> {
    let mut at = 0;
    while at < payload.length() {
        let received = receive(from, buffer, Phase::Receiving, stall).await?;
        if received.is_empty() {
            return Err(Failure::cut(at, &payload.length().to_string()));
        }
        check(payload, at, received)?;
        at += received.len() as u64;
    }
    Ok(())
}

/// Expects the end of the stream and nothing before it.
pub(super) async fn expect_end(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
    stall: Duration,
) -> Result<(), Failure> {
    match receive(from, buffer, Phase::Ending, stall).await?.len() {
        0 => Ok(()),
        more => Err(Failure::new(
            Class::WrongBytes,
            Phase::Ending,
            format!("{more} bytes after the whole answer"),
        )),
    }
}
