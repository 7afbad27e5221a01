//! Where connections come in: the listening sockets of one worker, watched or not.
//!
//! ```text
//!   listening socket ──accept──▶ limits ──▶ PROXY header ──▶ TLS handshake ──ALPN──▶ h1 | h2
//! ```
//!
//! Room  from accept(2) to the first byte of HTTP. Each wait on the way has its deadline.
//! Holds a socket is watched through a duplicate that ends with its task: the socket itself stays open, so what
//!       is queued waits for whoever accepts next.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dataplane::listeners::never_block;
use dataplane::proxy_protocol::{self, Parsed};
use handoff::Share;
use socket2::SockRef;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, spawn_local};

use super::{Listening, Placed, Presence, Worker};
use crate::end::End;
use crate::h1;
use crate::h2;
use crate::policy::Client;
use crate::site::{Site, TlsInForce};
use crate::stream::Stream;
use crate::timers::Timer;
use crate::tls::TlsStream;
use crate::totals::Count;
use crate::waiting::until;

/// Connections that the kernel holds for one listening socket until they are accepted; see `lb`.
pub(crate) const LISTEN_BACKLOG: u16 = 4096;

/// Pause after the host refused a connection (no descriptors left), or while the connection limit is reached.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// The listening sockets of one worker.
#[derive(Debug)]
pub(super) struct Gate {
    worker: Rc<Worker>,
    members: Vec<Member>,
    accepting: Share,
}

#[derive(Debug)]
struct Member {
    listener: usize,
    placed: Placed,
    task: Option<JoinHandle<()>>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.unwatch();
    }
}

impl Gate {
    pub(super) fn new(worker: Rc<Worker>) -> Self {
        Self {
            worker,
            members: Vec::new(),
            accepting: Share::NONE,
        }
    }

    /// These sockets and no others.
    pub(super) fn set(&mut self, listening: Vec<Listening>) -> io::Result<()> {
        let mut before = std::mem::take(&mut self.members);
        for Listening { index, sockets } in listening {
            for placed in sockets {
                // The same socket under another place of the configuration is accepted anew.
                let known = before.iter().position(|m| {
                    Arc::ptr_eq(&m.placed.socket, &placed.socket) && m.listener == index
                });
                self.members.push(match known {
                    Some(place) => before.swap_remove(place),
                    None => Member {
                        listener: index,
                        placed,
                        task: None,
                    },
                });
            }
        }
        drop(before);
        self.watch()
    }

    /// Watches the sockets of this share and no others.
    pub(super) fn accept(&mut self, share: Share) -> io::Result<()> {
        self.accepting = share;
        let others = self.members.iter_mut();
        let others = others.filter(|member| !member.is_of(share));
        others.for_each(Member::unwatch);
        self.watch()
    }

    /// Lets go of every socket.
    pub(super) fn close(&mut self) {
        self.accepting = Share::NONE;
        self.members.clear();
    }

    fn watch(&mut self) -> io::Result<()> {
        for member in &mut self.members {
            if member.task.is_none() && member.is_of(self.accepting) {
                member.watch(&self.worker)?;
            }
        }
        Ok(())
    }
}

impl Member {
    fn is_of(&self, share: Share) -> bool {
        share.holds(self.placed.place, self.placed.of)
    }

    fn watch(&mut self, worker: &Rc<Worker>) -> io::Result<()> {
        let socket = SockRef::from(&self.placed.socket);
        never_block(&self.placed.socket)?;
        // Inherited by accepted sockets, so that no accept pays for it.
        socket.set_tcp_nodelay(true)?;
        socket.set_keepalive(true)?;
        socket.listen(LISTEN_BACKLOG.into())?;
        let listener = TcpListener::from_std(StdListener::from(self.placed.socket.try_clone()?))?;
        let task = accept_all(Rc::clone(worker), listener, self.listener);
        self.task = Some(spawn_local(task));
        Ok(())
    }

    fn unwatch(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// The next client; whenever somebody may be there, the accept is made one that does not wait.
async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        never_block(listener)?;
        listener.poll_accept(cx)
    })
    .await
}

async fn accept_all(worker: Rc<Worker>, listener: TcpListener, index: usize) {
    loop {
        let limit = worker.site().settings.limits.connections;
        if worker.shared.open.load(Ordering::Relaxed) >= limit {
            // They wait in the queue, where nothing is lost.
            tokio::time::sleep(SHORTAGE_PAUSE).await;
            continue;
        }
        match accept(&listener).await {
            Ok((tcp, peer)) => admit(&worker, tcp, peer, index),
            Err(error) if is_shortage(&error) => {
                worker.counters.count(Count::AcceptPauses);
                tracing::warn!(%error, "accepting pauses for a moment; raise LimitNOFILE");
                tokio::time::sleep(SHORTAGE_PAUSE).await;
            }
            // The connection's own: the next one may be fine.
            Err(_) => {}
        }
    }
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM (accept(2)).
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    shortages
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn admit(worker: &Rc<Worker>, tcp: TcpStream, peer: SocketAddr, index: usize) {
    let site = worker.site();
    let Some(listener) = site.listeners.get(index) else {
        return;
    };
    let presence = Presence::new(worker);
    // An IPv4 client of an IPv6 socket is an IPv4 client.
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let is_untrusted = listener.proxy_protocol && !listener.trusts(peer.ip());
    let limit = site.settings.limits.connections_per_ip;
    let place = limit.map(|limit| worker.shared.per_ip.enter(peer.ip(), limit));
    if is_untrusted || matches!(place, Some(None)) {
        worker.counters.count(Count::Refused);
        let _ = SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
        return;
    }
    begin(worker, site, (index, peer), tcp, (presence, place));
}

/// A connection that somebody else has made, in the place of one accepted on the listener at `index`: whoever
/// hands it in answers for its peer.
pub(super) fn serve(worker: &Rc<Worker>, connection: OwnedFd, index: usize) -> io::Result<()> {
    let tcp = StdStream::from(connection);
    tcp.set_nonblocking(true)?;
    let tcp = TcpStream::from_std(tcp)?;
    let peer = tcp.peer_addr()?;
    begin(
        worker,
        worker.site(),
        (index, peer),
        tcp,
        Presence::new(worker),
    );
    Ok(())
}

/// `held` is given back when the connection ends.
fn begin(
    worker: &Rc<Worker>,
    site: Arc<Site>,
    (index, peer): (usize, SocketAddr),
    tcp: TcpStream,
    held: impl Sized + 'static,
) {
    let arrival = Arrival {
        worker: Rc::clone(worker),
        timer: worker.timers.register_connection(),
        site,
        index,
        peer,
    };
    let watch = PanicWatch(Rc::clone(&arrival.worker));
    // Each stage in a piece of memory of its own, which goes with it: what an idle connection keeps is the last one.
    let arriving = first_stage(arrival, tcp);
    spawn_local(async move {
        // The runtime keeps a panic to this task; it is counted, and the place is given back.
        let _held = (watch, held);
        if let Some(serving) = arriving.await {
            serving.await;
        }
    });
}

/// A connection that began in another process, from where it was; `held` is given back when it ends.
pub(super) fn go_on(
    worker: &Rc<Worker>,
    connection: Box<h1::Connection>,
    tunnel: Option<Box<h1::LeftTunnel>>,
    held: impl Sized + 'static,
) {
    let watch = PanicWatch(Rc::clone(worker));
    let going_on: Stage<()> = match tunnel {
        Some(tunnel) => Box::pin(connection.serve_tunnel(tunnel)),
        None => {
            let (worker, client) = (Rc::clone(worker), connection.client());
            let protocol = Protocol::Http1(connection);
            serving(Arrived {
                worker,
                client,
                protocol,
            })
        }
    };
    spawn_local(async move {
        let _held = (watch, held);
        going_on.await;
    });
}

/// A stage of a connection's life, its type hidden: nobody's memory has room for all of them.
type Stage<T> = Pin<Box<dyn Future<Output = T>>>;

/// Until the first byte of HTTP can come; gives the next stage.
fn first_stage(arrival: Arrival, tcp: TcpStream) -> Stage<Option<Stage<()>>> {
    Box::pin(async move { arrival.arrive(tcp).await.map(serving) })
}

/// Until the connection ends.
fn serving(arrived: Arrived) -> Stage<()> {
    let (worker, client) = (arrived.worker, arrived.client);
    match arrived.protocol {
        Protocol::Http1(connection) => Box::pin(async move {
            if let Some(sniffed) = connection.serve().await {
                sniffed.timer.stay("speaks HTTP/2");
                let front = h2::Front::new(worker, sniffed.timer, client, None);
                Box::pin(front.serve(sniffed.stream, sniffed.read)).await;
            }
        }),
        Protocol::Http2(timer, stream, covered) => {
            let front = h2::Front::new(worker, timer, client, covered);
            Box::pin(front.serve(stream, Vec::new()))
        }
    }
}

/// Counts a connection that ended by a bug of ours.
struct PanicWatch(Rc<Worker>);

impl Drop for PanicWatch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.counters.ended(End::Internal, 0);
        }
    }
}

/// A connection before its first byte of HTTP.
struct Arrival {
    worker: Rc<Worker>,
    timer: Timer,
    site: Arc<Site>,
    index: usize,
    peer: SocketAddr,
}

/// A connection whose protocol is known.
struct Arrived {
    worker: Rc<Worker>,
    client: Client,
    protocol: Protocol,
}

enum Protocol {
    /// HTTP/2 by prior knowledge, where the first bytes say so.
    Http1(Box<h1::Connection>),
    Http2(Timer, Stream, Option<Covered>),
}

impl Arrival {
    /// Until the first byte of HTTP can come.
    async fn arrive(mut self, mut tcp: TcpStream) -> Option<Arrived> {
        let site = Arc::clone(&self.site);
        let listener = site.listeners.get(self.index)?;
        if listener.proxy_protocol && !self.read_proxy_header(&mut tcp).await {
            self.worker.counters.count(Count::Refused);
            return None;
        }
        let client = Client {
            peer: self.peer.ip().to_canonical(),
            peer_port: self.peer.port(),
            is_tls: listener.tls.is_some(),
            listener: self.index,
            listener_port: listener.port,
            covers_host: None,
        };
        if listener.tls.is_some() {
            self.timer.stay("speaks TLS");
        }
        let Some(tls) = &listener.tls else {
            return Some(self.http1(Stream::Plain(tcp), client, None, listener.http2));
        };
        let stream = self.handshake(tcp, tls).await?;
        let covered = Covered {
            store: Arc::clone(&tls.store),
            server_name: stream.server_name().map(str::to_owned),
        };
        let is_http2 = stream.alpn() == Some(b"h2");
        let stream = Stream::Tls(Box::new(stream));
        if is_http2 {
            return Some(Arrived {
                worker: self.worker,
                client,
                protocol: Protocol::Http2(self.timer, stream, Some(covered)),
            });
        }
        Some(self.http1(stream, client, Some(covered), false))
    }

    fn http1(
        self,
        stream: Stream,
        client: Client,
        covered: Option<Covered>,
        sniffs: bool,
    ) -> Arrived {
        let worker = Rc::clone(&self.worker);
        let connection = h1::Connection::new(worker, self.timer, stream, client, covered, sniffs);
        Arrived {
            worker: self.worker,
            client,
            protocol: Protocol::Http1(Box::new(connection)),
        }
    }

    async fn handshake(&self, tcp: TcpStream, tls: &TlsInForce) -> Option<TlsStream> {
        let counters = &self.worker.counters;
        let due = self.timer.in_ms(self.site.settings.timeouts.tls_handshake);
        let accepting = TlsStream::accept(tcp, Arc::clone(&tls.config));
        match until(&self.timer, due, accepting).await {
            Some(Ok(stream)) => {
                counters.count(Count::Handshakes);
                if stream.is_resumed() {
                    counters.count(Count::Resumed);
                }
                Some(stream)
            }
            Some(Err(error)) => {
                counters.count(Count::HandshakesFailed);
                tracing::debug!(peer = %self.peer, %error, "a TLS handshake failed");
                None
            }
            None => {
                counters.count(Count::HandshakesFailed);
                tracing::debug!(peer = %self.peer, "a TLS handshake was not finished in time");
                None
            }
        }
    }

    /// Reads exactly the header and learns the client; false: there was none in time.
    async fn read_proxy_header(&mut self, tcp: &mut TcpStream) -> bool {
        let due = self.timer.in_ms(self.site.settings.timeouts.proxy_header);
        let reading = until(&self.timer, due, proxy_header(tcp));
        match reading.await {
            Some(Ok(header)) => {
                if let Some((source, _)) = header.addresses {
                    self.peer = source;
                }
                true
            }
            Some(Err(error)) => {
                tracing::debug!(peer = %self.peer, %error, "no PROXY header");
                false
            }
            None => false,
        }
    }
}

/// Which names the client may ask for on this connection.
#[derive(Clone, Debug)]
pub(crate) struct Covered {
    store: Arc<crate::tls::CertificateStore>,
    server_name: Option<String>,
}

impl Covered {
    /// True when the certificate that the client was shown is good for `host`.
    pub(crate) fn covers(&self, host: &str) -> bool {
        self.store.covers(self.server_name.as_deref(), host)
    }
}

/// Takes the header and not a byte of what follows it: what is only a prefix of a header is the header's, so it
/// can be taken; of the bytes that complete it only its own are.
async fn proxy_header(tcp: &mut TcpStream) -> io::Result<proxy_protocol::Header> {
    let mut seen = [0_u8; proxy_protocol::HEADER_BYTES_MAX];
    let mut taken = 0;
    loop {
        let room = seen.get_mut(taken..).unwrap_or_default();
        let count = tcp.peek(room).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let known = seen.get(..taken + count).unwrap_or_default();
        let (header, until) = match proxy_protocol::parse(known).map_err(io::Error::other)? {
            Parsed::Complete { header, length } => (Some(header), length),
            Parsed::Incomplete => (None, taken + count),
        };
        let own = seen.get_mut(taken..until).unwrap_or_default();
        tcp.read_exact(own).await?;
        if let Some(header) = header {
            return Ok(header);
        }
        taken = until;
    }
}
