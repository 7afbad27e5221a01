//! What one supervisor leaves for the next one in the same process: its state and its descriptors, waiting in a
//! socket that becomes standard input across execve(2).
//!
//! Room  packs and unpacks; what the state means is `carried`'s business.
//! In    bytes and descriptors. Out  the same, in the same order.
//! Holds the descriptors are in the kernel's hands from before the exec until they are taken out: no number is
//!       promised to anybody, and a next one that dies closes them all; a parcel that is not whole is refused.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use handoff::{BATCH_SOCKETS_MAX, Sealed, SealedError};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// Longest frame, in bytes: two numbers.
const FRAME_BYTES_MAX: usize = 64;

/// Most descriptors of one parcel. Sized: the descriptor store of the units has 4096 places.
const DESCRIPTORS_MAX: usize = 16 * 1024;

/// A parcel that cannot be packed or is not whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParcelError {
    #[error("{0} descriptors are too many to be handed on (at most {DESCRIPTORS_MAX})")]
    TooMany(usize),
    #[error("descriptors cannot be handed on: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    State(#[from] SealedError),
    #[error("the parcel is not whole: {0}")]
    Broken(&'static str),
}

/// Packs; what comes back is the end that the next supervisor finds as its standard input.
pub(crate) fn pack(state: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<OwnedFd, ParcelError> {
    if descriptors.len() > DESCRIPTORS_MAX {
        return Err(ParcelError::TooMany(descriptors.len()));
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(io::Error::from)?;
    let state = Sealed::seal(state)?;
    let head = format!("{} {}", state.bytes(), descriptors.len());
    send(&ours, head.as_bytes(), &[state.as_fd()])?;
    for (index, batch) in descriptors.chunks(BATCH_SOCKETS_MAX).enumerate() {
        send(&ours, index.to_string().as_bytes(), batch)?;
    }
    Ok(theirs)
}

/// Unpacks a whole parcel; never waits.
pub(crate) fn unpack(channel: &OwnedFd) -> Result<(Vec<u8>, Vec<OwnedFd>), ParcelError> {
    let (head, state) = receive(channel)?;
    let numbers = std::str::from_utf8(&head)
        .ok()
        .and_then(|text| text.split_once(' '))
        .and_then(|(bytes, count)| Some((bytes.parse().ok()?, count.parse().ok()?)));
    let (bytes, count): (u64, usize) = numbers.ok_or(ParcelError::Broken("no head"))?;
    if count > DESCRIPTORS_MAX {
        return Err(ParcelError::TooMany(count));
    }
    let state = Sealed::adopt(bytes, state)?.read()?;
    let mut descriptors = Vec::new();
    for index in 0..count.div_ceil(BATCH_SOCKETS_MAX) {
        let (number, batch) = receive(channel)?;
        if number != index.to_string().as_bytes() {
            return Err(ParcelError::Broken("a batch is missing"));
        }
        descriptors.extend(batch);
    }
    if descriptors.len() != count {
        return Err(ParcelError::Broken("descriptors are missing"));
    }
    Ok((state, descriptors))
}

/// This process's standard input as an owned descriptor; /dev/null is in its place then.
pub(crate) fn take_stdin() -> io::Result<OwnedFd> {
    let taken = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(&std::fs::File::open("/dev/null")?)?;
    Ok(taken)
}

fn send(socket: &OwnedFd, frame: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH_SOCKETS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[IoSlice::new(frame)], &mut control, flags)?;
    Ok(())
}

fn receive(socket: &OwnedFd) -> Result<(Vec<u8>, Vec<OwnedFd>), ParcelError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH_SOCKETS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut frame = vec![0; FRAME_BYTES_MAX];
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut frame)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )
    .map_err(io::Error::from)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let cut = ReturnFlags::CTRUNC | ReturnFlags::TRUNC;
    if received.flags.intersects(cut) || received.bytes == 0 {
        return Err(ParcelError::Broken("a frame was cut"));
    }
    frame.truncate(received.bytes);
    Ok((frame, fds))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::os::fd::{AsFd as _, OwnedFd};
    use std::os::unix::fs::FileExt as _;

    use super::{ParcelError, pack, send, unpack};

    /// Files whose content is their number.
    fn numbered(count: usize) -> Vec<OwnedFd> {
        (0..count)
            .map(|number| {
                let mut file = tempfile::tempfile().expect("a file");
                write!(file, "{number:05}").expect("written");
                file.into()
            })
            .collect()
    }

    #[test]
    fn state_and_descriptors_arrive_whole_and_in_order() {
        for count in [0, 1, 252, 253, 254, 600] {
            let files = numbered(count);
            let borrowed: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
            let channel = pack(b"{\"state\":1}", &borrowed).expect("packs");
            // The sender and its descriptors are gone, as after an exec.
            drop(files);
            let (state, arrived) = unpack(&channel).expect("unpacks");
            assert_eq!(state, b"{\"state\":1}");
            assert_eq!(arrived.len(), count);
            for (number, file) in arrived.into_iter().enumerate() {
                let mut text = [0; 5];
                File::from(file).read_exact_at(&mut text, 0).expect("reads");
                assert_eq!(text, format!("{number:05}").as_bytes());
            }
        }
    }

    #[test]
    fn a_parcel_that_is_not_whole_is_refused() {
        let pair = || {
            let kind = rustix::net::SocketType::SEQPACKET;
            let flags = rustix::net::SocketFlags::empty();
            rustix::net::socketpair(rustix::net::AddressFamily::UNIX, kind, flags, None)
                .expect("a pair")
        };
        let state = || handoff::Sealed::seal(b"{}").expect("seals");
        let (ours, theirs) = pair();
        drop(ours);
        assert!(matches!(unpack(&theirs), Err(ParcelError::Broken(_))));
        for (head, expected) in [
            ("2 1", "Resource temporarily unavailable"),
            ("", "frame was cut"),
            ("2", "no head"),
            ("x y", "no head"),
            ("3 0", "declared with 3 bytes"),
            ("2 99999999", "too many"),
        ] {
            let (ours, theirs) = pair();
            send(&ours, head.as_bytes(), &[state().as_fd()]).expect("sent");
            let error = unpack(&theirs).expect_err(head).to_string();
            assert!(error.contains(expected), "{head}: {error}");
        }
        let (ours, theirs) = pair();
        send(&ours, b"2 2", &[state().as_fd()]).expect("sent");
        send(&ours, b"0", &[ours.as_fd()]).expect("sent");
        assert!(matches!(unpack(&theirs), Err(ParcelError::Broken(_))));
        let plain: OwnedFd = File::open("/dev/null").expect("opens").into();
        assert!(matches!(unpack(&plain), Err(ParcelError::Io(_))));
    }
}
