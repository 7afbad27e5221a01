//! Deadlines of one worker's connections: one entry each, looked at ten times a second.
//!
//! ```text
//!   connection ──arm(due)──▶ entry ──tick: due has passed──▶ wakes the connection's task, which looks at its clock
//! ```
//!
//! Room  one thread's; a request moves its deadline several times, so that is a store and no timer-wheel work.
//! Holds a task is woken at most [`TICK`] after its deadline, never before it; an entry that is dropped wakes
//!       nobody.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use dataplane::moving::NOT_ASKED;
use handoff::held::Held;
use slab::Slab;

/// How often deadlines are looked at, and how coarse the workers' clock is.
///
/// Sized: a tenth of the shortest sensible timeout; 15,000 idle connections cost 0.1 ms each time.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A PROXY header, a TLS handshake, the first request.
    Beginning,
    /// At a boundary between requests: a drain may end it.
    NextRequest,
    Request,
    Answer,
    Streams,
    Tunnel,
    Close,
}

impl Wait {
    /// As people read it after "waits for".
    fn words(self) -> &'static str {
        match self {
            Self::Beginning => "a beginning",
            Self::NextRequest => "the next request",
            Self::Request => "a request",
            Self::Answer => "an answer",
            Self::Streams => "HTTP/2 streams",
            Self::Tunnel => "a tunnel's bytes",
            Self::Close => "the client to close",
        }
    }
}

/// All deadlines of a worker, and its coarse clock.
#[derive(Debug)]
pub(crate) struct Timers {
    entries: RefCell<Slab<Entry>>,
    begun: Instant,
    now_ms: Cell<u64>,
}

#[derive(Debug)]
struct Entry {
    /// In milliseconds of the worker's clock.
    due: u64,
    /// What its connection waits for; `None`: it belongs to a part of one.
    wait: Option<Wait>,
    /// When its connection began, in milliseconds of the worker's clock.
    since: u64,
    waker: Option<Waker>,
    /// Somebody waits for it to leave.
    asked: bool,
    /// Why it cannot move to another process, whatever it waits for.
    stays: Option<Box<str>>,
}

impl Entry {
    /// At a point where its connection is a plain value, or would be at the next byte.
    fn may_move(&self) -> bool {
        self.stays.is_none() && matches!(self.wait, Some(Wait::NextRequest | Wait::Tunnel))
    }
}

impl Timers {
    pub(crate) fn new(now: Instant) -> Rc<Self> {
        Rc::new(Self {
            entries: RefCell::new(Slab::new()),
            begun: now,
            now_ms: Cell::new(0),
        })
    }

    /// Milliseconds since the worker began, as of the last tick.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// A deadline of its own for a connection.
    pub(crate) fn register_connection(self: &Rc<Self>) -> Timer {
        self.insert(Some(Wait::Beginning))
    }

    /// As [`Timers::register_connection`], of one that began elsewhere; `stays`: it was offered already, in vain.
    pub(crate) fn register_resumed(
        self: &Rc<Self>,
        began: Instant,
        stays: Option<Box<str>>,
    ) -> Timer {
        let timer = self.register_connection();
        let age = u64::try_from(began.elapsed().as_millis()).unwrap_or(NEVER);
        if let Some(entry) = self.entries.borrow_mut().get_mut(timer.key) {
            entry.since = entry.since.saturating_sub(age);
            entry.stays = stays.map(|why| format!("refused: {why}").into_boxed_str());
        }
        timer
    }

    /// Asks so many connections that could move to do so, and wakes them.
    pub(crate) fn ask_to_move(&self, most: usize) {
        let mut wakers = Vec::new();
        for (_, entry) in self.entries.borrow_mut().iter_mut() {
            if wakers.len() >= most {
                break;
            }
            if entry.may_move()
                && let Some(waker) = entry.waker.take()
            {
                entry.asked = true;
                wakers.push(waker);
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Connections that were asked and have not looked yet.
    pub(crate) fn asked(&self) -> usize {
        let entries = self.entries.borrow();
        entries.iter().filter(|(_, entry)| entry.asked).count()
    }

    /// Nobody waits for those that have not looked.
    pub(crate) fn withdraw(&self) {
        for (_, entry) in self.entries.borrow_mut().iter_mut() {
            entry.asked = false;
        }
    }

    /// True when connections are here that cannot move now and may soon.
    pub(crate) fn others_wait(&self) -> bool {
        let entries = self.entries.borrow();
        let mut connections = entries.iter().filter(|(_, entry)| entry.wait.is_some());
        connections.any(|(_, entry)| entry.stays.is_none() && !entry.may_move())
    }

    /// Why connections are still here, by reason.
    pub(crate) fn kept(&self) -> BTreeMap<String, u64> {
        let mut kept = BTreeMap::new();
        for (_, entry) in self.entries.borrow().iter() {
            let Some(wait) = entry.wait else {
                continue;
            };
            let why = match &entry.stays {
                Some(why) => why.to_string(),
                None if entry.may_move() => NOT_ASKED.to_owned(),
                None => format!("waits for {}", wait.words()),
            };
            *kept.entry(why).or_default() += 1;
        }
        kept
    }

    /// A deadline of its own for a part of a connection: a stream, a body.
    pub(crate) fn register(self: &Rc<Self>) -> Timer {
        self.insert(None)
    }

    /// Every connection, by age and by what it waits for.
    pub(crate) fn survey(&self) -> Held {
        let mut held = Held::default();
        let now = self.now_ms();
        for (_, entry) in self.entries.borrow().iter() {
            if let Some(wait) = entry.wait {
                let age = Duration::from_millis(now.saturating_sub(entry.since));
                held.note(age, wait.words());
            }
        }
        held
    }

    fn insert(self: &Rc<Self>, wait: Option<Wait>) -> Timer {
        let entry = Entry {
            due: NEVER,
            wait,
            since: self.now_ms(),
            waker: None,
            asked: false,
            stays: None,
        };
        Timer {
            key: self.entries.borrow_mut().insert(entry),
            timers: Rc::clone(self),
        }
    }

    /// Moves the clock and wakes whoever is due.
    pub(crate) fn tick(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.begun).as_millis();
        let now_ms = u64::try_from(elapsed).unwrap_or(NEVER - 1);
        self.now_ms.set(now_ms);
        let due: Vec<Waker> = self
            .entries
            .borrow_mut()
            .iter_mut()
            .filter(|(_, entry)| entry.due <= now_ms)
            .filter_map(|(_, entry)| entry.waker.take())
            .collect();
        // Outside of the borrow: a waker's last reference may drop a task and its timer.
        due.into_iter().for_each(Waker::wake);
    }

    /// Brings forward the deadlines of idle connections when a drain has `left` to go; see [`farewell`].
    pub(crate) fn expire_idle(&self, left: Duration) {
        let now = self.now_ms();
        for (_, entry) in self.entries.borrow_mut().iter_mut() {
            if entry.wait == Some(Wait::NextRequest) {
                entry.due = entry.due.min(farewell(now, left));
            }
        }
    }

    /// Wakes everybody now: the deadline of a drain has passed.
    pub(crate) fn expire_all(&self) {
        let all: Vec<Waker> = self
            .entries
            .borrow_mut()
            .iter_mut()
            .filter_map(|(_, entry)| entry.waker.take())
            .collect();
        all.into_iter().for_each(Waker::wake);
    }
}

/// How long an idle client may still ask and be answered with the close. Sized: a client that keeps a connection
/// to use it asks again within a second; its request must not cross our close on the way.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// When an idle connection of a drain that has `left` to go is closed: at a random moment of the first half, so that
/// clients come back one by one, and not before those who use it have asked again.
fn farewell(now_ms: u64, left: Duration) -> u64 {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 4);
    let pause = ASK_AGAIN.min(left / 4);
    now_ms + millis(pause) + fastrand::u64(0..=millis(left / 2 - pause))
}

/// One connection's deadline.
#[derive(Debug)]
pub(crate) struct Timer {
    timers: Rc<Timers>,
    key: usize,
}

impl Timer {
    /// When to close, where this connection became idle in a drain that has `left` to go.
    pub(crate) fn farewell(&self, left: Duration) -> u64 {
        farewell(self.now_ms(), left)
    }

    /// See [`Timers::now_ms`].
    pub(crate) fn now_ms(&self) -> u64 {
        self.timers.now_ms()
    }

    /// True when somebody waits for this connection to leave; asked once.
    pub(crate) fn take_ask(&self) -> bool {
        let mut entries = self.timers.entries.borrow_mut();
        entries
            .get_mut(self.key)
            .is_some_and(|entry| std::mem::take(&mut entry.asked))
    }

    /// This connection never moves to another process, and why.
    pub(crate) fn stay(&self, why: &str) {
        if let Some(entry) = self.timers.entries.borrow_mut().get_mut(self.key) {
            entry.stays = Some(why.into());
        }
    }

    /// When its connection began.
    pub(crate) fn began(&self) -> Instant {
        let entries = self.timers.entries.borrow();
        let since = entries.get(self.key).map_or(0, |entry| entry.since);
        let age = Duration::from_millis(self.now_ms().saturating_sub(since));
        Instant::now().checked_sub(age).unwrap_or(self.timers.begun)
    }

    /// The moment `after` from now.
    pub(crate) fn in_ms(&self, after: Duration) -> u64 {
        later(self.now_ms(), after)
    }

    /// True when the moment has come.
    pub(crate) fn is_past(&self, due: u64) -> bool {
        due <= self.now_ms()
    }

    /// Wakes the task of `cx` once `due` has passed; replaces what was armed before.
    pub(crate) fn arm(&self, due: u64, cx: &Context<'_>) {
        self.set(due, None, cx);
    }

    /// As [`Timer::arm`], and says what the connection waits for.
    pub(crate) fn arm_for(&self, wait: Wait, due: u64, cx: &Context<'_>) {
        self.set(due, Some(wait), cx);
    }

    /// As [`Timer::arm`], for a connection between two requests; returns the deadline in force, which a drain
    /// may have brought forward.
    pub(crate) fn arm_idle(&self, due: u64, cx: &Context<'_>) {
        self.set(due, Some(Wait::NextRequest), cx);
    }

    /// The deadline in force.
    pub(crate) fn due(&self) -> u64 {
        let entries = self.timers.entries.borrow();
        entries.get(self.key).map_or(NEVER, |entry| entry.due)
    }

    fn set(&self, due: u64, wait: Option<Wait>, cx: &Context<'_>) {
        let mut entries = self.timers.entries.borrow_mut();
        let Some(entry) = entries.get_mut(self.key) else {
            return;
        };
        entry.due = due;
        // Whoever does not say leaves the boundary between requests, and nothing else is known.
        match (entry.wait, wait) {
            (None, _) => {}
            (Some(_), Some(wait)) => entry.wait = Some(wait),
            (Some(Wait::NextRequest), None) => entry.wait = Some(Wait::Request),
            (Some(_), None) => {}
        }
        let is_same = entry
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()));
        if !is_same {
            entry.waker = Some(cx.waker().clone());
        }
    }

    /// Wakes nobody any more.
    pub(crate) fn disarm(&self) {
        if let Some(entry) = self.timers.entries.borrow_mut().get_mut(self.key) {
            entry.due = NEVER;
            if entry.wait == Some(Wait::NextRequest) {
                entry.wait = Some(Wait::Request);
            }
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let removed = self.timers.entries.borrow_mut().try_remove(self.key);
        drop(removed);
    }
}

/// `after` later than `from`, in milliseconds, rounded up by one tick: never early.
pub(crate) fn later(from: u64, after: Duration) -> u64 {
    let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX / 2);
    from.saturating_add(after).saturating_add(100)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Wake, Waker};
    use std::time::{Duration, Instant};

    use super::{NEVER, Timers};

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_task_is_woken_after_its_deadline_and_once() {
        let begun = Instant::now();
        let timers = Timers::new(begun);
        let timer = timers.register_connection();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        timer.arm(
            timer.in_ms(Duration::from_secs(1)),
            &Context::from_waker(&waker),
        );
        timers.tick(begun + Duration::from_millis(1050));
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "never early");
        timers.tick(begun + Duration::from_millis(1200));
        timers.tick(begun + Duration::from_millis(1300));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(timer.is_past(timer.due()));
    }

    #[test]
    fn a_drain_brings_idle_deadlines_forward_and_no_others() {
        let begun = Instant::now();
        let timers = Timers::new(begun);
        let (idle, busy, dropped) = (
            timers.register_connection(),
            timers.register_connection(),
            timers.register_connection(),
        );
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&waker);
        let minute = idle.in_ms(Duration::from_secs(60));
        idle.arm_idle(minute, &cx);
        busy.arm(minute, &cx);
        dropped.arm_idle(minute, &cx);
        drop(dropped);
        timers.expire_idle(Duration::from_secs(4));
        timers.tick(begun + Duration::from_millis(900));
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "the pause");
        timers.tick(begun + Duration::from_secs(3));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(busy.due(), minute);
        busy.disarm();
        assert_eq!(busy.due(), NEVER);
    }
}
