//! An echo origin that says who it is, and a client that talks to it through `lb`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::worker::DEADLINE;

/// Sends its name, then echoes, for every connection, until the test ends.
pub(crate) struct Origin(SocketAddr);

impl Origin {
    pub(crate) fn start(name: char) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || echo(name, stream));
            }
        });
        Self(address)
    }

    pub(crate) fn address(&self) -> String {
        self.0.to_string()
    }
}

fn echo(name: char, mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(&[u8::try_from(name).unwrap_or(b'?')])?;
    let mut copy = stream.try_clone()?;
    std::io::copy(&mut stream, &mut copy)?;
    copy.shutdown(std::net::Shutdown::Write)
}

/// A connection that has reached an origin.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// Which origin it is.
    pub(crate) origin: char,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("reaches an origin")
    }

    pub(crate) fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut name = [0];
        stream.read_exact(&mut name)?;
        Ok(Self {
            stream,
            origin: char::from(name[0]),
        })
    }

    /// Sends and expects the same back.
    pub(crate) fn echo(&mut self, text: &str) {
        self.try_echo(text).expect("is echoed");
    }

    pub(crate) fn try_echo(&mut self, text: &str) -> std::io::Result<()> {
        self.stream.write_all(text.as_bytes())?;
        let mut back = vec![0; text.len()];
        self.stream.read_exact(&mut back)?;
        assert_eq!(back, text.as_bytes());
        Ok(())
    }
}
