//! A scripted peer: says one side of a recorded conversation byte for byte, and compares what it hears
//! with the other side.

use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, SealFlags};

use crate::frozen;
use crate::golden::{Freight, Line, PID, RENDEZVOUS, Side};
use crate::wire;

/// Who is played.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) side: Side,
    /// The protocols it says it speaks.
    pub(crate) claims: (u16, u16),
    /// Where its next supervisor listens; in place of the recording's.
    pub(crate) rendezvous: String,
}

/// The claims of a recording: what it says was right when it was recorded.
const ANY: (u16, u16) = (1, u16::MAX);

/// Plays one part to its end, then closes; what differs is an error with both frames.
pub(crate) fn play(socket: &OwnedFd, part: &[Line], role: &Role) -> Result<(), String> {
    for (number, line) in part.iter().enumerate() {
        let place = format!("frame {}", number + 1);
        if line.side == role.side {
            say(socket, line, role).map_err(|error| format!("{place}: {error}: {line:?}"))?;
        } else {
            hear(socket, line, role).map_err(|error| format!("{place}: {error}"))?;
        }
    }
    Ok(())
}

fn say(socket: &OwnedFd, line: &Line, role: &Role) -> Result<(), String> {
    let pid = format!("\"pid\":{}", std::process::id());
    let bytes = line
        .bytes
        .replace(PID, &pid)
        .replace(RENDEZVOUS, &role.rendezvous);
    let fds = load(&line.freight);
    let borrowed: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    wire::send(socket, bytes.as_bytes(), &borrowed).map_err(|error| error.to_string())
}

fn hear(socket: &OwnedFd, line: &Line, role: &Role) -> Result<(), String> {
    let Some((bytes, fds)) = wire::receive(socket) else {
        return Err(format!("the peer closed instead of saying {}", line.bytes));
    };
    let expected = frozen::understand(line.side, &line.bytes, ANY)?;
    let heard = frozen::understand(line.side, &bytes, role.claims)?;
    if heard != expected {
        return Err(format!(
            "heard {bytes}\n  recorded {}\n  as {heard:?}",
            line.bytes
        ));
    }
    let freight = unload(fds);
    if freight != line.freight {
        return Err(format!("with {freight:?} instead of {:?}", line.freight));
    }
    Ok(())
}

/// Makes the descriptors of a frame.
fn load(freight: &Freight) -> Vec<OwnedFd> {
    match freight {
        Freight::Nothing => Vec::new(),
        Freight::Sockets(count) => (0..*count)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("binds").into())
            .collect(),
        Freight::Memory(text) => {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let memory = rustix::fs::memfd_create("golden", flags).expect("memory");
            let mut memory = File::from(memory);
            memory.write_all(text.as_bytes()).expect("written");
            let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
            rustix::fs::fcntl_add_seals(&memory, seals).expect("sealed");
            vec![memory.into()]
        }
    }
}

/// Says what the descriptors of a frame are.
pub(crate) fn unload(fds: Vec<OwnedFd>) -> Freight {
    let count = fds.len();
    let all_sockets = fds
        .iter()
        .all(|fd| rustix::net::sockopt::socket_type(fd).is_ok());
    match <[OwnedFd; 1]>::try_from(fds) {
        _ if count == 0 => Freight::Nothing,
        Ok([memory]) if !all_sockets => {
            let memory = File::from(memory);
            let length = memory.metadata().expect("a file").len();
            let mut text = vec![0; usize::try_from(length).expect("small")];
            memory.read_exact_at(&mut text, 0).expect("reads");
            Freight::Memory(String::from_utf8(text).expect("text"))
        }
        _ => {
            assert!(all_sockets, "{count} descriptors of mixed kinds");
            Freight::Sockets(count)
        }
    }
}
