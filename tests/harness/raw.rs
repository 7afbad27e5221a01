//! Bytes as they are, in clear or over TLS: for clients that no library would be.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// A connection that a test writes to byte by byte.
#[derive(Debug)]
pub enum Raw {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// How a connection went on until its end or the test's patience.
#[derive(Debug)]
pub struct Seen {
    pub bytes: Vec<u8>,
    /// Until the other side ended it; `None`: it did not.
    pub closed_after: Option<Duration>,
}

impl Raw {
    /// In clear, or over TLS with a finished handshake.
    ///
    /// # Panics
    /// When that is refused.
    pub fn open(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Self {
        let mut socket = TcpStream::connect(address).expect("connects");
        socket.set_nodelay(true).expect("set");
        let Some(config) = tls else {
            return Self::Clear(socket);
        };
        let name = "localhost".try_into().expect("a name");
        let mut client = ClientConnection::new(Arc::clone(config), name).expect("a client");
        while client.is_handshaking() {
            client.complete_io(&mut socket).expect("the handshake");
        }
        Self::Tls(Box::new(StreamOwned::new(client, socket)))
    }

    /// Writes; a connection that the other side ended meanwhile is no mistake of the test's.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = match self {
            Self::Clear(socket) => socket.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        };
    }

    /// Reads until the other side ends it, `patience` is over, or `enough` says so.
    pub fn read_until(&mut self, patience: Duration, enough: impl Fn(&[u8]) -> bool) -> Seen {
        let start = Instant::now();
        let mut bytes = Vec::new();
        let mut part = vec![0; 65_536];
        while start.elapsed() < patience && !enough(&bytes) {
            let left = patience.saturating_sub(start.elapsed());
            match self.read(&mut part, left.max(Duration::from_millis(1))) {
                Ok(0) => {
                    return Seen {
                        bytes,
                        closed_after: Some(start.elapsed()),
                    };
                }
                Ok(length) => bytes.extend(part.iter().take(length)),
                Err(error) if is_timeout(&error) => {}
                // A reset, or TLS without a farewell: ended all the same.
                Err(_) => {
                    return Seen {
                        bytes,
                        closed_after: Some(start.elapsed()),
                    };
                }
            }
        }
        Seen {
            bytes,
            closed_after: None,
        }
    }

    /// Reads to the end.
    pub fn read_to_end(&mut self, patience: Duration) -> Seen {
        self.read_until(patience, |_| false)
    }

    fn read(&mut self, part: &mut [u8], within: Duration) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => {
                socket.set_read_timeout(Some(within))?;
                socket.read(part)
            }
            Self::Tls(stream) => {
                stream.sock.set_read_timeout(Some(within))?;
                stream.read(part)
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
