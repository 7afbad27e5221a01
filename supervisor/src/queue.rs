//! Clients that the kernel has connected and nobody has accepted yet (proc(5), net/tcp).
//!
//! Room  a pure parser and one reader.
//! In    sockets that this process holds. Out  how many wait in their queues now.
//! Holds the kernel prints listening sockets before all others; reading ends at the first other one, so that a look
//!       costs as much with ten thousand connections as with none.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::fd::BorrowedFd;

/// How many clients wait for whoever accepts on these sockets.
///
/// # Errors
/// The kernel's tables cannot be read.
pub(crate) fn waiting<'f>(sockets: impl Iterator<Item = BorrowedFd<'f>>) -> io::Result<u64> {
    let ours: BTreeSet<u64> = sockets
        .filter_map(|socket| rustix::fs::fstat(socket).ok())
        .map(|stat| stat.st_ino)
        .collect();
    let mut sum = 0_u64;
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let file = match File::open(table) {
            Ok(file) => file,
            // A host without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in BufReader::new(file).lines().skip(1) {
            let Some(queue) = parse_line(&line?) else {
                break;
            };
            if ours.contains(&queue.inode) {
                sum = sum.saturating_add(queue.waiting);
            }
        }
    }
    Ok(sum)
}

/// One listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Queue {
    inode: u64,
    waiting: u64,
}

/// `None` for a socket that does not listen, and for what is no socket.
fn parse_line(line: &str) -> Option<Queue> {
    // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …
    let mut words = line.split_ascii_whitespace().skip(3);
    (words.next()? == "0A").then_some(())?;
    let (_, waiting) = words.next()?.split_once(':')?;
    Some(Queue {
        waiting: u64::from_str_radix(waiting, 16).ok()?,
        inode: words.nth(4)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    use super::{Queue, parse_line, waiting};

    #[test]
    fn only_what_listens_has_a_queue() {
        let queue = |inode, waiting| Some(Queue { inode, waiting });
        let table = [
            (
                "   0: 0100007F:1F90 00000000:0000 0A 00000000:0000001F 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0",
                queue(4711, 31),
            ),
            (
                "   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 9 1 0",
                queue(9, 0),
            ),
            (
                "   1: 0100007F:1F90 0100007F:C350 01 00000000:0000001F 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0",
                None,
            ),
            ("   0: 0100007F:1F90 00000000:0000 0A", None),
            ("   0: a b 0A 0:zz 0 0 0 0 1 1", None),
            ("", None),
        ];
        for (line, expected) in table {
            assert_eq!(parse_line(line), expected, "{line}");
        }
    }

    #[test]
    fn clients_wait_until_they_are_accepted() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).expect("bound");
            let other = TcpListener::bind(address).expect("bound");
            let count =
                |listener: &TcpListener| waiting([listener.as_fd()].into_iter()).expect("is told");
            let to = listener.local_addr().expect("bound");
            assert_eq!(count(&listener), 0);
            let clients: Vec<TcpStream> = (0..3)
                .map(|_| TcpStream::connect(to).expect("connected"))
                .collect();
            assert_eq!((count(&listener), count(&other)), (3, 0), "{address}");
            let _accepted = listener.accept().expect("accepted");
            assert_eq!(count(&listener), 2, "{address}");
            drop(clients);
        }
    }
}
