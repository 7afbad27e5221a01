//! The admin HTTP server of a worker: health, metrics and the API, on a socket that travels with the
//! others.
//!
//! ```text
//!   reserved listener "admin" ──accept (only while this generation accepts)──▶ connection ──▶ Routes
//! ```
//!
//! Room  HTTP/1.1 by hyper on the control thread's runtime; never in the data path.
//! In    a bound socket (`listeners`), routes of the binary.
//! Out   answers as JSON or text.
//! Holds at most `CONNECTIONS_MAX` connections, each wait with a deadline; stopping closes connections and
//!       the registration, never the socket: what is queued waits for the next generation.

pub mod backends;
mod routes;

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use handoff::Share;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::listeners::Group;
pub use routes::{Answer, Asked, Routes};

/// Name of the admin listener; no listener of the configuration may have it.
pub const ADMIN_LISTENER: &str = "admin";

/// Connections at a time. Covers: scrapers, health probes, a few people. More wait in the accept queue.
const CONNECTIONS_MAX: usize = 64;

/// How long a request's head may take, and how long a kept-alive connection may be silent.
///
/// If passed: the connection is closed. Sized: scrapers ask every 15 s and may connect anew.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// Age at which a connection is closed whatever it does: bounds a client that never reads its answer.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);

/// How long an answer under way may take once this generation stops accepting.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// Pause after the host refused a connection (no descriptors left).
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Largest request head, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Clients that may wait in the accept queue.
pub(crate) const BACKLOG: u16 = 128;

/// The admin server; dropping it stops it.
#[derive(Debug)]
pub struct Admin {
    group: Group,
    routes: Arc<Routes>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    accepting: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        self.accepting.abort();
    }
}

impl Admin {
    /// Accepts nothing until [`Admin::accept`].
    pub fn new(group: Group, routes: Arc<Routes>) -> Self {
        Self {
            group,
            routes,
            running: None,
        }
    }

    /// Puts the admin server on `group` in the place of the one before; one on the same address goes on as it is.
    ///
    /// # Errors
    /// As [`Admin::accept`], where `accepting`.
    pub fn apply(
        slot: &mut Option<Self>,
        group: Option<&Group>,
        accepting: bool,
        routes: impl FnOnce() -> Routes,
    ) -> io::Result<()> {
        let before = slot.as_ref().map(|admin| admin.group.address());
        if before == group.map(Group::address) {
            return Ok(());
        }
        *slot = group.map(|group| Self::new(group.clone(), Arc::new(routes())));
        match slot {
            Some(admin) if accepting => admin.accept(),
            _ => Ok(()),
        }
    }

    /// The socket, to be kept or handed over.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Begins to accept on the current runtime; nothing happens when it does already.
    ///
    /// # Errors
    /// The socket cannot listen or cannot be watched.
    pub fn accept(&mut self) -> io::Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let Some(socket) = self.group.sockets().first() else {
            return Ok(());
        };
        SockRef::from(socket).listen(BACKLOG.into())?;
        // A duplicate: when its registration ends with it, the socket itself stays open.
        let listener = TcpListener::from_std(StdListener::from(socket.try_clone()?))?;
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(accept_all(listener, Arc::clone(&self.routes), stopped));
        self.running = Some(Running { accepting, stop });
        Ok(())
    }

    /// Accepts when the last socket of every group is in `share`: a group of one goes with the upper end.
    ///
    /// # Errors
    /// As [`Admin::accept`].
    pub async fn take_share(admin: Option<&mut Self>, share: Share) -> io::Result<()> {
        match admin {
            Some(admin) if share.holds(0, 1) => admin.accept(),
            Some(admin) => {
                admin.pause().await;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Serves one connection that was not accepted here, on the current runtime.
    ///
    /// # Errors
    /// It cannot be watched.
    pub fn serve(&self, connection: OwnedFd) -> io::Result<()> {
        let stream = std::net::TcpStream::from(connection);
        stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(stream)?;
        let routes = Arc::clone(&self.routes);
        tokio::spawn(async move {
            // Nobody stops it: it ends with its client, or at its lifetime.
            let (_stop, stopped) = watch::channel(false);
            serve(stream, routes, stopped).await;
        });
        Ok(())
    }

    /// Stops accepting; kept-alive connections are closed after the answer they are in.
    pub async fn pause(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.stop.send(true);
            running.accepting.abort();
            // When this returns the listener is deregistered: nothing more is taken from the queue.
            let _ = (&mut running.accepting).await;
        }
    }
}

async fn accept_all(listener: TcpListener, routes: Arc<Routes>, stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let serving = serve(stream, Arc::clone(&routes), stopped.clone());
                tokio::spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin: a connection could not be accepted");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, routes: Arc<Routes>, mut stopped: watch::Receiver<bool>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = routes.answer(request.method().as_str(), request.uri().path());
        async move { Ok::<_, Infallible>(response(answer)) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let end = async { stopped.wait_for(|stop| *stop).await.map(drop) };
    let lifetime = tokio::time::sleep(CONNECTION_LIFETIME);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = end => {}
        () = lifetime => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(CLOSE_DEADLINE, connection).await;
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(allow) = answer.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::{Admin, Answer, CONNECTIONS_MAX, HEAD_DEADLINE, Routes};
    use crate::listeners::{Wanted, claim};

    fn admin() -> Admin {
        let wanted = Wanted {
            name: super::ADMIN_LISTENER.parse().expect("a name"),
            address: "127.0.0.1:0".parse().expect("an address"),
            members: 1,
        };
        let mut claimed = claim(&[wanted], Vec::new()).expect("binds");
        let routes = Routes::default().get("/health", |_| Answer::text(200, "fine".to_owned()));
        Admin::new(claimed.groups.remove(0), Arc::new(routes))
    }

    async fn ask(stream: &mut TcpStream, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("writes");
        let mut buffer = vec![0; 4096];
        let length = stream.read(&mut buffer).await.expect("reads");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[tokio::test]
    async fn a_paused_admin_closes_kept_connections_and_keeps_its_socket() {
        let mut admin = admin();
        let address = admin.group().address();
        admin.accept().expect("accepts");
        let mut kept = TcpStream::connect(address).await.expect("connects");
        assert!(ask(&mut kept, "/health").await.starts_with("HTTP/1.1 200"));
        assert!(ask(&mut kept, "/nothing").await.starts_with("HTTP/1.1 404"));
        admin.pause().await;
        let mut rest = Vec::new();
        kept.read_to_end(&mut rest).await.expect("is closed");
        // The socket still listens: a client waits in the queue until somebody accepts again.
        let mut queued = TcpStream::connect(address).await.expect("is queued");
        admin.accept().expect("accepts again");
        assert!(
            ask(&mut queued, "/health")
                .await
                .starts_with("HTTP/1.1 200")
        );
    }

    #[tokio::test]
    async fn a_silent_client_is_closed_and_too_many_wait_their_turn() {
        let mut admin = admin();
        let address = admin.group().address();
        admin.accept().expect("accepts");
        let begun = Instant::now();
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            silent.push(TcpStream::connect(address).await.expect("connects"));
        }
        let mut late = TcpStream::connect(address).await.expect("is queued");
        let answer = tokio::time::timeout(HEAD_DEADLINE * 3, ask(&mut late, "/health")).await;
        assert!(answer.expect("gets its turn").starts_with("HTTP/1.1 200"));
        assert!(begun.elapsed() >= HEAD_DEADLINE - Duration::from_millis(500));
        assert_eq!(silent.len(), CONNECTIONS_MAX);
    }

    #[tokio::test]
    async fn a_kept_connection_may_not_be_silent_for_long() {
        let mut admin = admin();
        admin.accept().expect("accepts");
        let mut kept = TcpStream::connect(admin.group().address())
            .await
            .expect("connects");
        assert!(ask(&mut kept, "/health").await.starts_with("HTTP/1.1 200"));
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(HEAD_DEADLINE * 2, kept.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "an idle connection must be closed");
    }
}
