//! A backend that keeps every byte it is sent, and answers 200 to whole requests only.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What came on one connection.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    pub bytes: Vec<u8>,
    pub closed: bool,
}

/// The backend; its threads end with the test's process.
#[derive(Debug)]
pub struct Recorder {
    address: SocketAddr,
    recordings: Arc<Mutex<Vec<Recording>>>,
}

impl Recorder {
    /// Listens on a port of the kernel's choice.
    ///
    /// # Panics
    /// When loopback cannot be bound.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
        let address = listener.local_addr().expect("an address");
        let recordings = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&recordings);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                let index = {
                    let mut all = shared.lock().expect("no panic");
                    all.push(Recording::default());
                    all.len() - 1
                };
                std::thread::spawn(move || record(socket, &shared, index));
            }
        });
        Self {
            address,
            recordings,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that came until now.
    ///
    /// # Panics
    /// Never: its threads do not panic.
    pub fn recordings(&self) -> Vec<Recording> {
        self.recordings.lock().expect("no panic").clone()
    }

    /// The connections on which this came.
    pub fn with(&self, needle: &str) -> Vec<Recording> {
        let mut all = self.recordings();
        all.retain(|one| contains(&one.bytes, needle));
        all
    }
}

/// True when the text is among the bytes.
pub fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes
        .windows(needle.len())
        .any(|window| window == needle.as_bytes())
}

fn record(mut socket: TcpStream, all: &Mutex<Vec<Recording>>, index: usize) {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    loop {
        let length = socket.read(&mut part).unwrap_or(0);
        let mut all = all.lock().expect("no panic");
        let recording = all.get_mut(index).expect("is there");
        if length == 0 {
            recording.closed = true;
            return;
        }
        let came = part.get(..length).unwrap_or_default();
        recording.bytes.extend(came);
        request.extend(came);
        drop(all);
        let chunked = contains(&request.to_ascii_lowercase(), "transfer-encoding");
        let end: &[u8] = if chunked { b"0\r\n\r\n" } else { b"\r\n\r\n" };
        if request.ends_with(end) {
            request.clear();
            if socket
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .is_err()
            {
                return;
            }
        }
    }
}
