//! Backends that speak HTTP/2: one connection each and worker, more when it is full.
//!
//! Room  connections and the places on them; what is sent is the engines' matter.
//! Holds a request that the backend's connection never took comes back whole and may go elsewhere, whatever its
//!       method (RFC 9113 section 8.7).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::backend::{Backend, Lease};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::LocalExecutor;
use super::body::OutBody;
use crate::attempts::Attempts;
use crate::backend::{BackendTls, Key, connect};
use crate::end::End;
use crate::site::UpstreamInForce;
use crate::timers::{Timer, later};
use crate::totals::Count;
use crate::waiting::{until, until_moving};
use crate::worker::Worker;

/// Streams of one connection. Sized: what servers allow by default (RFC 9113 section 6.5.2 recommends 100).
const STREAMS_MAX: u32 = 100;

/// Windows towards a backend, in bytes: what an answer may be ahead of a slow client.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How long a connection without streams is kept. Sized: a backend's own idle time is minutes in HTTP/2.
const KEEP: Duration = Duration::from_secs(30);

/// A connection to a backend.
#[derive(Debug)]
struct Conversation {
    sender: SendRequest<OutBody>,
    streams: Cell<u32>,
    idle_since: Cell<u64>,
    // Held, so that the key's addresses stay this backend's and these settings'.
    _backend: Arc<Backend>,
    _tls: Option<Arc<BackendTls>>,
}

/// The HTTP/2 connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Http2Pool {
    open: RefCell<HashMap<Key, Vec<Rc<Conversation>>>>,
}

impl Http2Pool {
    fn find(&self, key: Key) -> Option<Rc<Conversation>> {
        let open = self.open.borrow();
        let usable = |conversation: &&Rc<Conversation>| {
            !conversation.sender.is_closed() && conversation.streams.get() < STREAMS_MAX
        };
        open.get(&key)?.iter().find(usable).cloned()
    }

    fn add(&self, key: Key, conversation: Rc<Conversation>) {
        self.open
            .borrow_mut()
            .entry(key)
            .or_default()
            .push(conversation);
    }

    /// Lets go of what is closed or has been idle for too long.
    pub(crate) fn sweep(&self, now_ms: u64) {
        self.open.borrow_mut().retain(|_, list| {
            list.retain(|conversation| {
                let is_idle = conversation.streams.get() == 0
                    && later(conversation.idle_since.get(), KEEP) <= now_ms;
                !conversation.sender.is_closed() && !is_idle
            });
            !list.is_empty()
        });
    }
}

/// A stream's place at a backend and on its connection.
#[derive(Debug)]
pub(crate) struct StreamPlace {
    conversation: Rc<Conversation>,
    lease: Lease,
    worker: Rc<Worker>,
}

impl StreamPlace {
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    fn backend(&self) -> &Arc<Backend> {
        self.lease.backend()
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let streams = &self.conversation.streams;
        streams.set(streams.get().saturating_sub(1));
        let now = self.worker.timers.now_ms();
        self.conversation.idle_since.set(now);
    }
}

/// Sends a request, to another backend where it was not taken, and waits for the answer's head.
pub(crate) async fn send(
    worker: &Rc<Worker>,
    upstream: &UpstreamInForce,
    attempts: &mut Attempts<'_>,
    timer: &Timer,
    mut request: Request<OutBody>,
    due: impl Fn() -> u64,
) -> Result<(Response<Incoming>, StreamPlace), End> {
    loop {
        let place = place(worker, upstream, attempts, timer).await?;
        let mut sender = place.conversation.sender.clone();
        match until_moving(timer, &due, sender.try_send_request(request)).await {
            None => {
                attempts.broke(place.backend());
                return Err(End::BackendFirstByteTimeout);
            }
            Some(Ok(response)) => {
                attempts.answered(place.backend(), response.status().as_u16());
                return Ok((response, place));
            }
            Some(Err(mut error)) => {
                tracing::debug!(backend = place.backend().label(), error = %error.error(), "a request was not answered");
                match error.take_message() {
                    Some(untaken) if attempts.may_go_again() => request = untaken,
                    _ => {
                        attempts.broke(place.backend());
                        return Err(End::BackendClosed);
                    }
                }
            }
        }
    }
}

async fn place(
    worker: &Rc<Worker>,
    upstream: &UpstreamInForce,
    attempts: &mut Attempts<'_>,
    timer: &Timer,
) -> Result<StreamPlace, End> {
    loop {
        let lease = attempts.lease()?;
        let key = Key::new(lease.backend(), upstream.tls.as_ref());
        if let Some(conversation) = worker.http2_backends.find(key) {
            worker.counters.count(Count::BackendReuses);
            return Ok(taken(worker, conversation, lease));
        }
        let due = timer.in_ms(upstream.upstream.settings().connect_timeout);
        let end = match converse(worker, upstream, lease, timer, due).await {
            Ok((conversation, lease)) => {
                worker.counters.count(Count::BackendConnects);
                let now = Instant::now();
                upstream.upstream.connect_succeeded(lease.backend(), now);
                worker.http2_backends.add(key, Rc::clone(&conversation));
                return Ok(taken(worker, conversation, lease));
            }
            Err((lease, end)) => {
                attempts.failed(&lease, end);
                end
            }
        };
        if !attempts.may_go_again() {
            return Err(end);
        }
    }
}

fn taken(worker: &Rc<Worker>, conversation: Rc<Conversation>, lease: Lease) -> StreamPlace {
    conversation.streams.set(conversation.streams.get() + 1);
    StreamPlace {
        conversation,
        lease,
        worker: Rc::clone(worker),
    }
}

/// A new connection, its preface exchanged.
async fn converse(
    worker: &Rc<Worker>,
    upstream: &UpstreamInForce,
    lease: Lease,
    timer: &Timer,
    due: u64,
) -> Result<(Rc<Conversation>, Lease), (Lease, End)> {
    let tls = upstream.tls.as_ref();
    let connection = connect(lease, tls, timer, due).await?;
    let lease = connection.lease;
    let mut builder = Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let shaking = builder.handshake(TokioIo::new(connection.stream));
    let (sender, driver) = match until(timer, due, shaking).await {
        Some(Ok(both)) => both,
        Some(Err(_)) => return Err((lease, End::ConnectFailed)),
        None => return Err((lease, End::ConnectTimeout)),
    };
    let label = lease.backend().label().to_owned();
    tokio::task::spawn_local(async move {
        if let Err(error) = driver.await {
            tracing::debug!(backend = label, %error, "a connection to a backend ended");
        }
    });
    let conversation = Conversation {
        sender,
        streams: Cell::new(0),
        idle_since: Cell::new(worker.timers.now_ms()),
        _backend: Arc::clone(lease.backend()),
        _tls: tls.cloned(),
    };
    Ok((Rc::new(conversation), lease))
}
