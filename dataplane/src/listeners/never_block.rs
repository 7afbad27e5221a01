//! An accept that never waits, whoever else holds the same socket.
//!
//! Holds  O_NONBLOCK belongs to the open file description, and so to everybody who holds it: a service manager clears it
//!        (systemd.exec(5), NonBlocking=) on the sockets of a socket unit whenever it starts the service, also while
//!        workers of the run before serve. Then an accept would wait, and with it every connection of its thread; so it
//!        is set before each round of accepts.

use std::io;
use std::os::fd::AsFd;

/// Makes the accepts that follow return at once. One cheap system call (ioctl(2), FIONBIO).
///
/// # Errors
/// It is no socket.
pub fn never_block(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(socket, true)?)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::never_block;

    #[test]
    fn an_accept_returns_after_somebody_else_made_the_socket_blocking() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let duplicate = listener.try_clone().expect("a descriptor");
        duplicate.set_nonblocking(false).expect("a socket");
        never_block(&listener).expect("a socket");
        let nobody = listener.accept().expect_err("nobody comes");
        assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
    }
}
