//! One end of the private sequenced-packet socket: frames with descriptors, every wait with a deadline.
//!
//! Room  the only file of this crate that reads and writes sockets of the conversation.
//! Holds a frame and its descriptors arrive together or not at all; what arrives is close-on-exec and
//!       owned; truncated data is a refusal, never a warning.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use crate::batches::BATCH_SOCKETS_MAX;
use crate::codec::{Decoder, Encoder, FRAME_BYTES_MAX, FrameError};

/// How long one frame may take to leave.
///
/// Covers: a peer that reads nothing while its socket buffer (208 KiB, some frames) is full.
/// If passed: the conversation is lost. Sized: a healthy peer reads within milliseconds.
const SEND_DEADLINE: Duration = Duration::from_secs(5);

/// How a conversation ends before its time.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the peer closed the conversation")]
    Closed,
    #[error("the peer did not {expected} within {within:?}")]
    Deadline {
        expected: &'static str,
        within: Duration,
    },
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the peer's message was cut off on arrival ({0}); is the descriptor limit reached?")]
    Truncated(&'static str),
    #[error("the private channel failed: {0}")]
    Io(#[from] io::Error),
}

/// A connected end, not yet part of an event loop.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Two connected ends, close-on-exec.
    ///
    /// # Errors
    /// The descriptor limit.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (a, b) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self(a), Self(b)))
    }

    /// A connected end that arrived as a descriptor; refused when it is not a sequenced-packet socket.
    ///
    /// # Errors
    /// `InvalidInput` for any other kind of descriptor.
    pub fn adopt(socket: OwnedFd) -> io::Result<Self> {
        if rustix::net::sockopt::socket_type(&socket)? != SocketType::SEQPACKET {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a sequenced-packet socket",
            ));
        }
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self(socket))
    }

    /// Connects to a supervisor's rendezvous.
    ///
    /// # Errors
    /// Nobody listens there, the path is too long (107 bytes, unix(7)), or access is denied.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(socket))
    }

    /// The other end as the kernel saw it when it connected: process and user.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn peer(&self) -> io::Result<rustix::net::UCred> {
        Ok(rustix::net::sockopt::socket_peercred(&self.0)?)
    }

    /// The descriptor itself, to become a child's standard input.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

/// An end that is part of the current tokio event loop.
#[derive(Debug)]
pub struct Link {
    // Tokio has no type for sequenced packets; the datagram one registers any message socket, and
    // every read and write here is our own recvmsg(2) and sendmsg(2).
    socket: UnixDatagram,
    encoder: Encoder,
    decoder: Decoder,
}

impl Link {
    /// Registers the end with the current tokio runtime.
    ///
    /// # Errors
    /// The descriptor limit of the epoll set.
    pub fn new(channel: Channel) -> io::Result<Self> {
        Ok(Self {
            socket: UnixDatagram::from_std(channel.0.into())?,
            encoder: Encoder::default(),
            decoder: Decoder::default(),
        })
    }

    /// Sends one message with its descriptors (at most [`BATCH_SOCKETS_MAX`]); they are duplicated by
    /// the kernel, the caller keeps its own.
    ///
    /// # Errors
    /// See [`LinkError`]; after one the conversation is over.
    pub async fn send<M: Serialize>(
        &mut self,
        message: &M,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), LinkError> {
        let frame = self.encoder.encode(message, fds.len())?;
        let socket = &self.socket;
        let sending = socket.async_io(Interest::WRITABLE, || send_frame(socket, &frame, fds));
        match tokio::time::timeout(SEND_DEADLINE, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if is_closed(&error) => Err(LinkError::Closed),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(LinkError::Deadline {
                expected: "read our message",
                within: SEND_DEADLINE,
            }),
        }
    }

    /// The next message with its descriptors. Safe to cancel: a frame is taken whole or not at all.
    ///
    /// # Errors
    /// See [`LinkError`]; after one the conversation is over.
    pub async fn receive<M: DeserializeOwned>(&mut self) -> Result<(M, Vec<OwnedFd>), LinkError> {
        let socket = &self.socket;
        let received = socket.async_io(Interest::READABLE, || receive_frame(socket));
        let (frame, fds) = match received.await {
            Ok(Some(frame)) => frame?,
            Ok(None) => return Err(LinkError::Closed),
            Err(error) if is_closed(&error) => return Err(LinkError::Closed),
            Err(error) => return Err(error.into()),
        };
        let message = self.decoder.decode(&frame, fds.len())?;
        Ok((message, fds))
    }

    /// Ends the conversation for both sides at one moment. What the peer had sent before it is returned, as far as it can be
    /// read; what it sends afterwards fails there (EPIPE). The kernel decides under one lock (unix(7), shutdown(2)), so
    /// both sides know what was said.
    pub fn end<M: DeserializeOwned>(&mut self) -> Vec<M> {
        // Refused only where the peer has closed its end: then nothing can come either.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        let mut said = Vec::new();
        while let Ok(Some(Ok((frame, fds)))) = receive_frame(&self.socket) {
            match self.decoder.decode(&frame, fds.len()) {
                Ok(message) => said.push(message),
                Err(_) => break,
            }
        }
        said
    }

    /// [`Link::receive`] with a deadline; `expected` completes "the peer did not …".
    ///
    /// # Errors
    /// [`LinkError::Deadline`] and those of `receive`.
    pub async fn receive_within<M: DeserializeOwned>(
        &mut self,
        within: Duration,
        expected: &'static str,
    ) -> Result<(M, Vec<OwnedFd>), LinkError> {
        tokio::time::timeout(within, self.receive())
            .await
            .unwrap_or(Err(LinkError::Deadline { expected, within }))
    }
}

type Frame = Result<(Vec<u8>, Vec<OwnedFd>), LinkError>;

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

fn send_frame(socket: &UnixDatagram, frame: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH_SOCKETS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many descriptors for one frame",
        ));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[IoSlice::new(frame)], &mut control, flags)?;
    Ok(())
}

/// One frame; `None` at end of file (a frame is never empty).
fn receive_frame(socket: &UnixDatagram) -> io::Result<Option<Frame>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH_SOCKETS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut frame = vec![0; FRAME_BYTES_MAX];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = rustix::net::recvmsg(
        socket.as_fd(),
        &mut [IoSliceMut::new(&mut frame)],
        &mut control,
        flags,
    )?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Ok(Some(Err(LinkError::Truncated("descriptors"))));
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Ok(Some(Err(LinkError::Truncated("bytes"))));
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    frame.truncate(received.bytes);
    Ok(Some(Ok((frame, fds))))
}
