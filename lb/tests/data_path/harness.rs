//! What the tests of the data path stand on: a pool with listeners, origins, known bytes, bounded waits.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use dataplane::upstream::{BackendSpec, Upstream, UpstreamSettings};
use lb::shard::{ListenerSettings, ShardPool, Timeouts};
use lb::totals::{End, Totals};
use socket2::{Domain, Socket, Type};

/// How long any condition may take. Sized: ten times the slowest seen on two loaded cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a condition; panics with `what` when it does not come.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A stream of bytes that differ by position: a lost, doubled or moved byte is found.
pub(crate) struct Pattern {
    block: Vec<u8>,
    position: usize,
}

impl Pattern {
    /// The stream with this seed, from its start.
    pub(crate) fn new(seed: u64) -> Self {
        // A prime length, so that no buffer size divides it.
        let mut state = seed;
        let block = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()[6]
        });
        Self {
            block: block.take(262_139).collect(),
            position: 0,
        }
    }

    /// The next bytes, at most so many.
    pub(crate) fn next(&mut self, at_most: usize) -> Vec<u8> {
        let start = self.position % self.block.len();
        let bytes = self.block[start..]
            .iter()
            .copied()
            .take(at_most)
            .collect::<Vec<_>>();
        self.position += bytes.len();
        bytes
    }

    /// Checks that these are the next bytes.
    pub(crate) fn check(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let start = self.position % self.block.len();
            let length = bytes.len().min(self.block.len() - start);
            assert!(
                bytes[..length] == self.block[start..start + length],
                "wrong bytes near {}",
                self.position
            );
            self.position += length;
            bytes = &bytes[length..];
        }
    }
}

/// Writes so many bytes of the stream.
pub(crate) fn write_pattern(socket: &mut TcpStream, seed: u64, total: usize) {
    let mut pattern = Pattern::new(seed);
    let mut left = total;
    while left > 0 {
        let bytes = pattern.next(left.min(256 * 1024));
        socket.write_all(&bytes).expect("the peer takes bytes");
        left -= bytes.len();
    }
}

/// Reads to the end of file and checks every byte; returns how many there were.
pub(crate) fn read_pattern(socket: &mut TcpStream, seed: u64) -> usize {
    let mut pattern = Pattern::new(seed);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match socket
            .read(&mut buffer)
            .expect("no reset before the end of file")
        {
            0 => return pattern.position,
            count => pattern.check(&buffer[..count]),
        }
    }
}

/// Whether the peer reset this connection (or it is refused), waiting for it; an end of file is not a reset.
pub(crate) fn is_reset(socket: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return true,
            Err(error) => panic!("neither bytes nor an end: {error}"),
        }
    }
}

/// A server: a thread per connection runs the given conversation.
pub(crate) fn origin(conversation: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let conversation = Arc::new(conversation);
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let conversation = Arc::clone(&conversation);
            thread::spawn(move || conversation(socket));
        }
    });
    address
}

/// A server that returns every byte, and the end of file.
pub(crate) fn echo_origin() -> SocketAddr {
    origin(|mut socket| {
        let mut buffer = vec![0; 256 * 1024];
        while let Ok(count) = socket.read(&mut buffer) {
            if count == 0 || socket.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
    })
}

/// An address that refuses: bound, so that nobody else gets it, but not listening.
pub(crate) fn refusing_address() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
        .unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// The members of one SO_REUSEPORT group, bound and not listening.
pub(crate) fn bind_group(members: usize) -> (Vec<Arc<OwnedFd>>, SocketAddr) {
    let mut address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let bind = |_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        address = socket.local_addr().unwrap().as_socket().unwrap();
        Arc::new(OwnedFd::from(socket))
    };
    let sockets = (0..members).map(bind).collect();
    (sockets, address)
}

/// An upstream of these addresses.
pub(crate) fn upstream(addresses: &[SocketAddr], settings: UpstreamSettings) -> Arc<Upstream> {
    let backends = addresses.iter().map(|address| backend(*address)).collect();
    Upstream::new("app".to_owned(), settings, backends)
}

/// A backend without limits.
pub(crate) fn backend(address: SocketAddr) -> BackendSpec {
    BackendSpec {
        id: None,
        label: address.to_string(),
        weight: 1,
        max_connections: None,
        drain: false,
    }
}

/// How a rig differs from the usual: one shard, four members, default timeouts, no limit, no PROXY header.
pub(crate) struct Plan {
    pub(crate) shards: usize,
    pub(crate) members: usize,
    pub(crate) timeouts: Timeouts,
    pub(crate) proxy_protocol_in: bool,
    pub(crate) trusted: Vec<&'static str>,
    pub(crate) max_connections: Option<usize>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            shards: 1,
            members: 4,
            timeouts: Timeouts::default(),
            proxy_protocol_in: false,
            trusted: Vec::new(),
            max_connections: None,
        }
    }
}

impl Plan {
    pub(crate) fn listener(&self, upstream: &Arc<Upstream>) -> ListenerSettings {
        ListenerSettings {
            name: "web".to_owned(),
            upstream: Arc::clone(upstream),
            proxy_protocol_in: self.proxy_protocol_in,
            trusted: self
                .trusted
                .iter()
                .map(|network| network.parse().unwrap())
                .collect(),
            max_connections: self.max_connections,
        }
    }
}

/// A pool with one listener.
pub(crate) struct Rig {
    pub(crate) pool: ShardPool,
    pub(crate) address: SocketAddr,
    pub(crate) sockets: Vec<Arc<OwnedFd>>,
    pub(crate) upstream: Arc<Upstream>,
}

impl Rig {
    /// Starts and accepts.
    pub(crate) fn start(plan: &Plan, upstream: Arc<Upstream>) -> Self {
        let pool = ShardPool::start(plan.shards, plan.timeouts).unwrap();
        let (sockets, address) = bind_group(plan.members);
        pool.set_listener(plan.listener(&upstream), sockets.clone())
            .unwrap();
        pool.accept(handoff::Share::ALL).unwrap();
        Self {
            pool,
            address,
            sockets,
            upstream,
        }
    }

    /// A rig in front of one origin, with the usual settings.
    pub(crate) fn before(origin: SocketAddr) -> Self {
        Self::start(
            &Plan::default(),
            upstream(&[origin], UpstreamSettings::default()),
        )
    }

    pub(crate) fn client(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    /// One whose kernel, and the sender's, hold little that it has not read: a sender's buffer is some segments long, and
    /// loopback's have 64 KiB.
    pub(crate) fn narrow_client(&self) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Before the handshake, which tells the window's scale (tcp(7)).
        socket.set_recv_buffer_size(32 * 1024).unwrap();
        socket.set_tcp_mss(1400).unwrap();
        socket.connect(&self.address.into()).unwrap();
        let socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    pub(crate) fn totals(&self) -> Totals {
        self.pool.totals()
    }

    /// Waits until so many connections ended for this reason, and none for another but a clean end.
    pub(crate) fn until_ended(&self, end: End, count: u64) {
        until(&format!("{count} x {end:?}: {:?}", self.totals()), || {
            self.totals().ended(end) >= count
        });
        let totals = self.totals();
        assert_eq!(totals.ended(end), count);
        assert_eq!(
            totals.ended_all(),
            totals.ended(End::Finished) + if end == End::Finished { 0 } else { count }
        );
    }

    /// Waits until no connection is open, and checks that nothing was left behind.
    pub(crate) fn until_empty(&self) {
        until("no connection is open", || self.totals().active == 0);
        let totals = self.totals();
        assert_eq!((totals.bytes_pending, totals.pipes_lent), (0, 0));
        assert!(
            self.upstream
                .backends()
                .iter()
                .all(|backend| backend.active() == 0)
        );
    }
}

/// Sends a line through an echoing connection and expects it back.
pub(crate) fn assert_echoes(socket: &mut TcpStream) {
    socket.write_all(b"are you there?").unwrap();
    let mut answer = [0; 14];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"are you there?");
}
