//! Frames as raw bytes with descriptors, without any of the code under test; every wait has a deadline.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// How long a frame may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Sends one frame; an error when the peer is gone.
pub(crate) fn send(
    socket: &OwnedFd,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    }
    let flags = SendFlags::NOSIGNAL;
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags).map(|_| ())
}

/// The next frame; `None` when the peer closed.
pub(crate) fn receive(socket: &OwnedFd) -> Option<(String, Vec<OwnedFd>)> {
    wait(&[socket]);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; 64 * 1024];
    let received = rustix::net::recvmsg(
        socket.as_fd(),
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    );
    let count = match received {
        Ok(received) => received.bytes,
        Err(rustix::io::Errno::CONNRESET) => 0,
        Err(error) => panic!("recvmsg: {error}"),
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    bytes.truncate(count);
    (count > 0).then(|| (String::from_utf8(bytes).expect("text"), fds))
}

/// Waits until one of the sockets can be read (or is closed); says which.
pub(crate) fn wait(sockets: &[&OwnedFd]) -> Vec<bool> {
    let until = Instant::now() + DEADLINE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "no frame within {DEADLINE:?}");
        let mut watched: Vec<PollFd<'_>> = sockets
            .iter()
            .map(|socket| PollFd::new(*socket, PollFlags::IN))
            .collect();
        let timeout = Timespec::try_from(left).expect("small");
        match rustix::event::poll(&mut watched, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => {
                return watched
                    .iter()
                    .map(|one| !one.revents().is_empty())
                    .collect();
            }
            Err(error) => panic!("poll: {error}"),
        }
    }
}
