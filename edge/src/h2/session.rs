//! What the loop of a client's HTTP/2 connection and its streams share.
//!
//! ```text
//!   stream ──frames──▶ Connection ◀──frames── loop      streams run within the loop's turn, so that their frames leave
//!                          ▲                            in one write; whoever leaves something outside of a turn
//!   another task ──────────┘                            (a backend's HTTP/2 connection takes a body) wakes the loop
//! ```
//!
//! Room  one thread's. Holds nobody is woken and nothing is dropped while the connection is borrowed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

use crate::http2::{Code, Connection};
use crate::policy::Client;
use crate::worker::{Covered, Worker};

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) worker: Rc<Worker>,
    pub(super) client: Client,
    pub(super) covered: Option<Covered>,
    connection: RefCell<Connection>,
    sender: RefCell<Option<Waker>>,
    /// The loop knows already that there is something to be sent.
    is_told: Cell<bool>,
    /// Streams whose answer has not ended.
    pub(super) open: Cell<u64>,
    /// When the last stream ended, in milliseconds.
    pub(super) idle_since: Cell<u64>,
    pub(super) served: Cell<u64>,
}

impl Session {
    pub(super) fn new(
        worker: &Rc<Worker>,
        client: Client,
        covered: Option<Covered>,
        connection: Connection,
    ) -> Rc<Self> {
        Rc::new(Self {
            worker: Rc::clone(worker),
            client,
            covered,
            connection: RefCell::new(connection),
            sender: RefCell::new(None),
            is_told: Cell::new(false),
            open: Cell::new(0),
            idle_since: Cell::new(worker.timers.now_ms()),
            served: Cell::new(0),
        })
    }

    /// For a stream: what it leaves to be sent outside of the loop's turn wakes the loop.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Connection) -> T) -> T {
        let (value, has_output) = {
            let mut connection = self.connection.borrow_mut();
            let value = change(&mut connection);
            (value, connection.queued() > 0)
        };
        if has_output && !self.is_told.replace(true) {
            let sender = self.sender.borrow().clone();
            sender.into_iter().for_each(Waker::wake);
        }
        self.wake_others();
        value
    }

    /// For the loop, which looks at the output itself.
    pub(super) fn in_loop<T>(&self, change: impl FnOnce(&mut Connection) -> T) -> T {
        let value = change(&mut self.connection.borrow_mut());
        self.wake_others();
        value
    }

    /// The loop's turn begins: what its streams leave is sent at its end.
    pub(super) fn begin_turn(&self, cx: &Context<'_>) {
        self.is_told.set(true);
        let mut sender = self.sender.borrow_mut();
        if !sender.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *sender = Some(cx.waker().clone());
        }
    }

    /// From now on the loop is to be woken for what is left to be sent.
    pub(super) fn end_turn(&self) {
        self.is_told.set(false);
    }

    fn wake_others(&self) {
        loop {
            let waker = self.connection.borrow_mut().wakes();
            match waker {
                Some(waker) => waker.wake(),
                None => return,
            }
        }
    }
}

/// A stream for as long as it is served.
#[derive(Debug)]
pub(super) struct OpenStream {
    pub(super) session: Rc<Session>,
    pub(super) id: u32,
    /// What the client is told where the answer is not whole.
    code: Cell<Code>,
}

impl OpenStream {
    pub(super) fn new(session: &Rc<Session>, id: u32) -> Self {
        session.open.set(session.open.get() + 1);
        session.served.set(session.served.get() + 1);
        Self {
            session: Rc::clone(session),
            id,
            code: Cell::new(Code::Internal),
        }
    }

    /// Says why the answer is not whole.
    pub(super) fn breaks_with(&self, code: Code) {
        self.code.set(code);
    }

    pub(super) fn is_gone(&self, cx: &Context<'_>) -> bool {
        let mut connection = self.session.connection.borrow_mut();
        connection.is_gone(self.id, cx.waker())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let session = &self.session;
        session.with(|connection| connection.close(self.id, self.code.get()));
        session.open.set(session.open.get().saturating_sub(1));
        session.idle_since.set(session.worker.timers.now_ms());
    }
}
