//! HTTP/2 with sockets, tasks and deadlines: clients through `http2`, backends through hyper (RFC 9113).
//!
//! ```text
//!   Front   one client connection: its loop, its deadlines, GOAWAY at a drain
//!     └─ stream   one request: policy, a backend, an answer
//!          ├─ over_http1   a backend that speaks HTTP/1.1
//!          └─ back         a backend that speaks HTTP/2
//! ```
//!
//! Room  everything outside sees `Front::serve`; frames and windows are `http2`'s (docs/adr/0013-own-http2-front.md).

pub(crate) mod back;
pub(crate) mod body;
mod deliver;
mod forward;
mod front;
mod over_http1;
mod session;
pub(crate) mod slot;
mod stream;
mod tasks;
mod watchman;

pub(crate) use front::Front;
pub(crate) use stream::translated;

use std::future::Future;

/// Runs hyper's tasks on the worker they belong to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
