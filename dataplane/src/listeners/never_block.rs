//! An accept that never waits, whoever else holds the same socket.
//!
//! Holds  O_NONBLOCK belongs to the open file description, and so to everybody who holds it: a service manager clears it
//!        (systemd.exec(5), NonBlocking=) on the sockets of a socket unit whenever it starts the service, also while
//!        workers of the run before serve. Then an accept would wait, and with it every connection of its thread. A
//!        receive timeout is the socket's own and is kept: such an accept waits for a tick of the kernel's clock.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};

/// How long an accept may wait when somebody has cleared O_NONBLOCK. Sized: the shortest there is, a clock tick.
const ACCEPT_WAIT_MAX: Duration = Duration::from_millis(1);

/// Makes accepting return at once, and within a tick whatever others do (socket(7), SO_RCVTIMEO).
///
/// # Errors
/// It is no socket.
pub fn never_block(socket: impl AsFd) -> io::Result<()> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(set_socket_timeout(
        &socket,
        Timeout::Recv,
        Some(ACCEPT_WAIT_MAX),
    )?)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::never_block;

    #[test]
    fn an_accept_returns_even_when_somebody_else_makes_the_socket_blocking() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        never_block(&listener).expect("a socket");
        let duplicate = listener.try_clone().expect("a descriptor");
        duplicate.set_nonblocking(false).expect("a socket");
        let begun = Instant::now();
        let nobody = listener.accept().expect_err("nobody comes");
        assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
        let address = listener.local_addr().expect("bound");
        let _client = TcpStream::connect(address).expect("connected");
        listener.accept().expect("somebody came");
    }
}
