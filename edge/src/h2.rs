//! HTTP/2, by hyper and h2 behind deadlines, caps and budgets of our own (RFC 9113).
//!
//! ```text
//!   Front   one client connection: its loop, its deadlines, GOAWAY at a drain
//!     └─ stream   one request: policy, a backend, an answer
//!          ├─ over_http1   a backend that speaks HTTP/1.1
//!          └─ back         a backend that speaks HTTP/2
//! ```
//!
//! Room  the seam behind which a front of our own may take hyper's place: everything outside sees `Front::serve`.

pub(crate) mod back;
pub(crate) mod body;
mod forward;
mod front;
mod over_http1;
pub(crate) mod slot;
mod stream;
mod watch;
mod wire;

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
