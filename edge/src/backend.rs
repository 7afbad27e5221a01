//! Connections to backends: made, kept for the next request, given up.
//!
//! ```text
//!   choose (dataplane::balance) ──▶ kept connection? ──yes──▶ BackendConnection
//!                                        └─no──▶ connect, TLS handshake ──▶ BackendConnection
//!   answered whole ──▶ kept, the most recently used one first ──silent for too long──▶ closed
//! ```
//!
//! Room  HTTP/1.1 connections of one worker; HTTP/2 ones are in `h2::back`.
//! Holds a kept connection is used only for the backend, the TLS settings and the name that it was made for;
//!       bytes that came unasked end it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use dataplane::backend::{Backend, Lease};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use crate::buffer::Buffer;
use crate::end::End;
use crate::settings::UpstreamTls;
use crate::stream::Stream;
use crate::timers::{Timer, later};
use crate::tls::{ClientConfig, TlsStream, server_name};
use crate::waiting::until;

/// Connections kept for one backend by one worker. Sized: above the concurrency a core reaches.
const KEPT_MAX: usize = 512;

/// How TLS is spoken to the backends of one upstream.
#[derive(Debug)]
pub struct BackendTls {
    pub config: Arc<ClientConfig>,
    pub settings: UpstreamTls,
}

/// A connection that a request has for itself.
#[derive(Debug)]
pub(crate) struct BackendConnection {
    pub(crate) stream: Stream,
    pub(crate) input: Buffer,
    pub(crate) lease: Lease,
    pub(crate) reused: bool,
    key: Key,
    tls: Option<Arc<BackendTls>>,
}

/// Everything that separates trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    backend: usize,
    tls: usize,
}

impl Key {
    pub(crate) fn new(backend: &Arc<Backend>, tls: Option<&Arc<BackendTls>>) -> Self {
        Self {
            backend: Arc::as_ptr(backend).addr(),
            tls: tls.map_or(0, |tls| Arc::as_ptr(tls).addr()),
        }
    }
}

impl BackendConnection {
    /// A tunnel's connection from another process, with what was read of it; it is never kept for a request.
    pub(crate) fn arrived(stream: Stream, input: Vec<u8>, lease: Lease) -> Self {
        Self {
            key: Key::new(lease.backend(), None),
            stream,
            input: Buffer::holding(input),
            lease,
            reused: false,
            tls: None,
        }
    }
}

#[derive(Debug)]
struct Kept {
    stream: Stream,
    // Held, so that the key's addresses stay this backend's and these settings'.
    backend: Arc<Backend>,
    tls: Option<Arc<BackendTls>>,
    close_at: u64,
}

/// The kept connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct BackendPool {
    kept: RefCell<HashMap<Key, Vec<Kept>>>,
}

impl BackendPool {
    /// A kept connection for the backend of `lease`; gives the lease back when there is none.
    pub(crate) fn take(
        &self,
        lease: Lease,
        tls: Option<&Arc<BackendTls>>,
    ) -> Result<BackendConnection, Lease> {
        let key = Key::new(lease.backend(), tls);
        loop {
            let kept = self.kept.borrow_mut().get_mut(&key).and_then(Vec::pop);
            let Some(mut kept) = kept else {
                return Err(lease);
            };
            if is_quiet(&mut kept.stream) {
                return Ok(BackendConnection {
                    stream: kept.stream,
                    input: Buffer::default(),
                    lease,
                    reused: true,
                    key,
                    tls: kept.tls,
                });
            }
        }
    }

    /// Keeps a connection whose last answer was read whole.
    pub(crate) fn keep(&self, connection: BackendConnection, now_ms: u64, keep_alive: Duration) {
        if !connection.input.is_empty() || keep_alive.is_zero() {
            return;
        }
        let mut kept = self.kept.borrow_mut();
        let list = kept.entry(connection.key).or_default();
        if list.len() < KEPT_MAX {
            list.push(Kept {
                backend: Arc::clone(connection.lease.backend()),
                stream: connection.stream,
                tls: connection.tls,
                close_at: later(now_ms, keep_alive),
            });
        }
    }

    /// Closes what has been silent for too long, what its backend closed, and everything of backends that
    /// nobody else knows any more.
    pub(crate) fn sweep(&self, now_ms: u64) {
        self.kept.borrow_mut().retain(|_, list| {
            list.retain_mut(|kept| {
                kept.close_at > now_ms
                    && Arc::strong_count(&kept.backend) > 1
                    && is_quiet(&mut kept.stream)
            });
            !list.is_empty()
        });
    }

    /// Closes everything: the worker drains and will not ask again.
    pub(crate) fn clear(&self) {
        self.kept.borrow_mut().clear();
    }
}

/// True when nothing has come and the peer has not closed, as far as the last look at epoll knows: no system
/// call where nothing happened.
fn is_quiet(stream: &mut Stream) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    if stream.poll_readable(&mut cx).is_pending() {
        return true;
    }
    // Readiness may be left over from an answer that filled its buffer exactly: one read tells.
    let mut byte = [0_u8; 1];
    matches!(stream.poll_read_into(&mut cx, &mut byte), Poll::Pending)
}

/// A new connection for the backend of `lease`, TLS handshake included, by `due`.
pub(crate) async fn connect(
    lease: Lease,
    tls: Option<&Arc<BackendTls>>,
    timer: &Timer,
    due: u64,
) -> Result<BackendConnection, (Lease, End)> {
    let Some(address) = lease.backend().address() else {
        return Err((lease, End::ConnectFailed));
    };
    let label = lease.backend().label().to_owned();
    match until(
        timer,
        due,
        Box::pin(open(address, tls.map(Arc::as_ref), &label)),
    )
    .await
    {
        None => Err((lease, End::ConnectTimeout)),
        Some(Err(error)) => {
            tracing::debug!(backend = label, %error, "a backend could not be connected");
            Err((lease, End::ConnectFailed))
        }
        Some(Ok(stream)) => Ok(BackendConnection {
            key: Key::new(lease.backend(), tls),
            stream,
            input: Buffer::default(),
            lease,
            reused: false,
            tls: tls.cloned(),
        }),
    }
}

async fn open(
    address: SocketAddr,
    tls: Option<&BackendTls>,
    label: &str,
) -> std::io::Result<Stream> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let Some(tls) = tls else {
        return Ok(Stream::Plain(tcp));
    };
    let name: ServerName<'static> =
        server_name(&tls.settings, label).map_err(std::io::Error::other)?;
    let stream = TlsStream::connect(tcp, Arc::clone(&tls.config), name).await?;
    Ok(Stream::Tls(Box::new(stream)))
}
