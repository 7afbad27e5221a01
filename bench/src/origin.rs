//! Origins: the listeners at the far end of a measurement, as tasks of the caller's runtime.
//!
//! Room  accepting, counting, stopping; what is said on a connection is in `echo`, `http` and
//!       `websocket`.
//! In    an address to bind (port 0: the kernel chooses).
//! Out   the bound address and counts.
//! Holds an origin never resets a connection by itself: it reads to the end before it closes, and on stop it takes
//!       what still waits in the accept queue.

mod echo;
mod http;
mod websocket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// The accept queue: long enough that a burst of connections is never the origin's fault (the kernel cuts it to
/// net.core.somaxconn, 4096 by default).
const BACKLOG: u32 = 4_096;

/// How long a stopping origin lets its connections finish. Then they are dropped: the client has had its time.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A pause after a failed accept (out of descriptors): without it the loop would take a whole core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// What an origin says on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Returns every byte; ends its direction when the client has ended its own.
    Echo,
    /// HTTP/1.1: `GET /bytes/N[?offset=O]`, `POST /echo`, keep-alive; a WebSocket echo at `/websocket`.
    Http,
}

/// What an origin has done so far.
#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    open: AtomicU64,
    requests: AtomicU64,
}

/// A running origin. Dropping it aborts it; [`Origin::stop`] ends it politely.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Origin {
    /// Binds `listen` and serves until stopped. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// What the kernel says about binding.
    pub fn start(kind: Kind, listen: SocketAddr) -> io::Result<Self> {
        let listener = bind(listen)?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(accept_until_stopped(
            kind,
            listener,
            counts.clone(),
            stopped,
        ));
        Ok(Self {
            address,
            counts,
            stop,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.counts.open.load(Ordering::Relaxed)
    }

    /// HTTP requests answered so far; 0 for echo.
    pub fn requests(&self) -> u64 {
        self.counts.requests.load(Ordering::Relaxed)
    }

    /// Stops accepting, takes what waits in the queue, lets connections finish for at most 5 s.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        // The task ends by itself within STOP_LIMIT; a panic in it was already printed.
        (&mut self.task).await.unwrap_or_default();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = if listen.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)
}

async fn accept_until_stopped(
    kind: Kind,
    listener: TcpListener,
    counts: Arc<Counts>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let stop = stopped.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => serve(&mut connections, kind, stream, &counts, &stop),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            () = until_stopped(&mut stopped) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    // Connections that wait in the queue would be reset by closing the listener: take them first.
    while let Ok(Ok((stream, _))) = timeout(Duration::ZERO, listener.accept()).await {
        serve(&mut connections, kind, stream, &counts, &stop);
    }
    drop(listener);
    let finish = async { while connections.join_next().await.is_some() {} };
    timeout(STOP_LIMIT, finish).await.unwrap_or_default();
}

/// Ends when the origin stops, or is dropped.
async fn until_stopped(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|stop| *stop)
        .await
        .map(drop)
        .unwrap_or_default();
}

fn serve(
    connections: &mut JoinSet<()>,
    kind: Kind,
    stream: TcpStream,
    counts: &Arc<Counts>,
    stop: &watch::Receiver<bool>,
) {
    counts.accepted.fetch_add(1, Ordering::Relaxed);
    let open = OpenGuard::new(counts.clone());
    // Without it Nagle and delayed acknowledgements make 40 ms stalls that are nobody's fault.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    match kind {
        Kind::Echo => connections.spawn(async move {
            echo::serve(stream).await;
            drop(open);
        }),
        Kind::Http => {
            let stop = stop.clone();
            connections.spawn(async move { http::serve(stream, open, stop).await })
        }
    };
}

/// Counts a connection as open for as long as it lives.
struct OpenGuard(Arc<Counts>);

impl OpenGuard {
    fn new(counts: Arc<Counts>) -> Self {
        counts.open.fetch_add(1, Ordering::Relaxed);
        Self(counts)
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
