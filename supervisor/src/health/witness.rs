//! Who accepted a connection of ours: the process that holds its other end.
//!
//! ```text
//!   our socket (A → B) ──/proc/net/tcp: B → A──▶ inode ──/proc/PID/fd──▶ a process of the family, or nobody of it
//! ```
//!
//! Holds an answer through a shared port proves nothing; this does. It blocks, and needs no privilege beyond the
//!       program's own user. What is not seen for sure is never the family's.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;

use super::sockets::{canonical, parse_line, parse_link};
use crate::{census, family};

/// The other end of a connection, at one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It waits in the queue: nobody has accepted it.
    Waiting,
    /// A process of the family holds it.
    Family,
    /// Somebody else holds it. `hidden`: processes of the family that may not be looked at.
    Other { hidden: usize },
    /// It is not on this host, or closed already.
    Gone,
}

/// Looks for the other end of the connection `ours` → `theirs` among the processes of `main`.
pub(crate) fn look(ours: SocketAddr, theirs: SocketAddr, main: u32) -> io::Result<Seen> {
    let Some(inode) = inode_of(canonical(theirs), canonical(ours))? else {
        return Ok(Seen::Gone);
    };
    if inode == 0 {
        return Ok(Seen::Waiting);
    }
    let mut hidden = 0;
    for pid in family::family(main, &census::take()) {
        match holds(pid, inode) {
            Ok(true) => return Ok(Seen::Family),
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => hidden += 1,
            // It has ended meanwhile.
            Err(_) => {}
        }
    }
    Ok(Seen::Other { hidden })
}

/// The number of the socket with these ends, of either family: one that listens on `::` is in the second table.
fn inode_of(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<u64>> {
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let file = match File::open(table) {
            Ok(file) => file,
            // A host without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in BufReader::new(file).lines() {
            let entry = parse_line(&line?);
            let is_it = |entry: &&_| {
                let super::sockets::Entry {
                    local: its,
                    remote: to,
                    ..
                } = *entry;
                (*its, *to) == (local, remote)
            };
            if let Some(entry) = entry.as_ref().filter(is_it) {
                return Ok(Some(entry.inode));
            }
        }
    }
    Ok(None)
}

fn holds(pid: u32, inode: u64) -> io::Result<bool> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let Ok(link) = fs::read_link(entry?.path()) else {
            continue;
        };
        if link.to_str().and_then(parse_link) == Some(inode) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::{Seen, look};

    fn see(client: &TcpStream, main: u32) -> Seen {
        let (ours, theirs) = (client.local_addr(), client.peer_addr());
        look(ours.expect("bound"), theirs.expect("connected"), main).expect("is looked at")
    }

    #[test]
    fn a_connection_waits_is_held_by_its_acceptor_and_then_by_nobody() {
        // The last: a socket of the second table with an address of the first.
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(address).expect("bound");
            let port = listener.local_addr().expect("bound").port();
            let to: SocketAddr = match address {
                "[::1]:0" => ([0, 0, 0, 0, 0, 0, 0, 1], port).into(),
                _ => ([127, 0, 0, 1], port).into(),
            };
            let client = TcpStream::connect(to).expect("connected");
            let us = std::process::id();
            assert_eq!(see(&client, us), Seen::Waiting, "{address}");
            let accepted = listener.accept().expect("accepted");
            assert_eq!(see(&client, us), Seen::Family, "{address}");
            let stranger = Stranger::start();
            assert_eq!(see(&client, stranger.0.id()), Seen::Other { hidden: 0 });
            drop(client);
            drop(accepted);
        }
    }

    #[test]
    fn what_is_not_on_this_host_is_gone() {
        let us = std::process::id();
        let somewhere: SocketAddr = ([192, 0, 2, 1], 80).into();
        let ours: SocketAddr = ([127, 0, 0, 1], 1).into();
        assert_eq!(look(ours, somewhere, us).expect("is looked at"), Seen::Gone);
    }

    #[test]
    fn a_child_of_the_program_is_the_program() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (accepted, _) = listener.accept().expect("accepted");
        // The child holds it as its standard input; we hold it no more.
        let child = Stranger::with_input(Stdio::from(std::os::fd::OwnedFd::from(accepted)));
        let deadline = Instant::now() + Duration::from_secs(20);
        while see(&client, child.0.id()) != Seen::Family {
            assert!(
                Instant::now() < deadline,
                "{:?}",
                see(&client, child.0.id())
            );
            std::thread::yield_now();
        }
        assert_eq!(
            see(&client, std::process::id()),
            Seen::Family,
            "a descendant"
        );
        let other = Stranger::start();
        assert_eq!(see(&client, other.0.id()), Seen::Other { hidden: 0 });
    }

    struct Stranger(Child);

    impl Stranger {
        fn start() -> Self {
            Self::with_input(Stdio::null())
        }

        fn with_input(input: Stdio) -> Self {
            let mut command = Command::new("/bin/sleep");
            Self(command.arg("60").stdin(input).spawn().expect("starts"))
        }
    }

    impl Drop for Stranger {
        fn drop(&mut self) {
            self.0.kill().expect("killed");
            self.0.wait().expect("reaped");
        }
    }
}
