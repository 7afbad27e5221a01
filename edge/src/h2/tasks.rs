//! The futures of a connection's streams, polled within the connection's own task.
//!
//! ```text
//!   backend is ready ──wakes──▶ place is noted ──first one wakes──▶ connection's task ──polls──▶ the noted places
//! ```
//!
//! Room  no policy and no protocol: which future is to be polled, and the memory they live in.
//! Holds a place is polled only when it was woken. Its future serves one job after the other and is never moved: a
//!       request on a busy connection neither allocates nor copies a task. A panic ends one stream, not its neighbours.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// See the module. `J` is a job, `F` the future that serves jobs, `M` makes one.
pub(super) struct Tasks<J, F, M> {
    make: M,
    places: Vec<Place<J, F>>,
    free: Vec<usize>,
    woken: Arc<Woken>,
    /// Places that are polled in this turn; kept for its memory.
    turn: Vec<usize>,
}

struct Place<J, F> {
    /// `None` after a panic.
    future: Pin<Box<Option<F>>>,
    desk: Rc<Desk<J>>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// Where a place's future finds its next job.
pub(super) struct Desk<J> {
    next: Cell<Option<J>>,
    is_busy: Cell<bool>,
}

impl<J> Desk<J> {
    /// Waits for a job; the last one is done.
    pub(super) async fn next(&self) -> J {
        self.is_busy.set(false);
        poll_fn(|_| match self.next.take() {
            // Whoever puts a job there rings.
            None => Poll::Pending,
            Some(job) => {
                self.is_busy.set(true);
                Poll::Ready(job)
            }
        })
        .await
    }
}

/// Which places are to be polled.
#[derive(Default)]
struct Woken {
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    places: Vec<usize>,
    /// The connection's task.
    owner: Option<Waker>,
}

/// One place's waker.
struct Bell {
    place: usize,
    /// It is noted already.
    rang: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.rang.swap(true, Ordering::AcqRel) {
            return;
        }
        let owner = self.woken.note(self.place);
        owner.into_iter().for_each(Waker::wake);
    }
}

impl Woken {
    fn lock(&self) -> std::sync::MutexGuard<'_, List> {
        // Nothing panics while it is held.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner, where it does not know yet.
    fn note(&self, place: usize) -> Option<Waker> {
        let mut list = self.lock();
        list.places.push(place);
        (list.places.len() == 1)
            .then(|| list.owner.clone())
            .flatten()
    }
}

impl<J, F, M> Tasks<J, F, M>
where
    F: Future<Output = Infallible>,
    M: Fn(Rc<Desk<J>>) -> F,
{
    /// `make` begins a future that serves what comes to its desk.
    pub(super) fn new(make: M) -> Self {
        Self {
            make,
            places: Vec::new(),
            free: Vec::new(),
            woken: Arc::default(),
            turn: Vec::new(),
        }
    }

    /// The task that polls; to be told whenever it may have changed.
    pub(super) fn belong_to(&self, cx: &Context<'_>) {
        let mut list = self.woken.lock();
        if !list.owner.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            list.owner = Some(cx.waker().clone());
        }
    }

    /// Takes a job; it is begun in the next turn.
    pub(super) fn insert(&mut self, job: J) {
        let at = self.free.pop().unwrap_or_else(|| self.add_place());
        if let Some(place) = self.places.get_mut(at) {
            if place.future.is_none() {
                let future = (self.make)(Rc::clone(&place.desk));
                place.future.set(Some(future));
            }
            place.desk.next.set(Some(job));
            place.desk.is_busy.set(true);
            place.waker.wake_by_ref();
        }
    }

    fn add_place(&mut self) -> usize {
        let place = self.places.len();
        let bell = Arc::new(Bell {
            place,
            rang: AtomicBool::new(false),
            woken: Arc::clone(&self.woken),
        });
        let desk = Desk {
            next: Cell::new(None),
            is_busy: Cell::new(false),
        };
        self.places.push(Place {
            future: Box::pin(None),
            desk: Rc::new(desk),
            waker: Waker::from(Arc::clone(&bell)),
            bell,
        });
        place
    }

    /// Polls every place that was woken, once. Those woken meanwhile have woken the owner: their turn comes.
    pub(super) fn poll(&mut self) {
        let mut turn = std::mem::take(&mut self.turn);
        std::mem::swap(&mut turn, &mut self.woken.lock().places);
        for at in turn.drain(..) {
            let Some(place) = self.places.get_mut(at) else {
                continue;
            };
            place.bell.rang.store(false, Ordering::Release);
            // An old waker may ring for a place that is free.
            if !place.desk.is_busy.get() {
                continue;
            }
            let cx = &mut Context::from_waker(&place.waker);
            let Some(future) = place.future.as_mut().as_pin_mut() else {
                continue;
            };
            if catch_unwind(AssertUnwindSafe(|| future.poll(cx))).is_err() {
                place.future.set(None);
                place.desk.is_busy.set(false);
            }
            if !place.desk.is_busy.get() {
                self.free.push(at);
            }
        }
        self.turn = turn;
    }

    /// Ends everything that is under way.
    pub(super) fn clear(&mut self) {
        self.woken.lock().places.clear();
        self.places = Vec::new();
        self.free = Vec::new();
    }

    /// Lets go of all memory; only right while nothing is held.
    pub(super) fn rest(&mut self) {
        if self.free.len() == self.places.len() && !self.places.is_empty() {
            self.clear();
            self.turn = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::convert::Infallible;
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    use super::{Desk, Tasks};

    #[derive(Default)]
    struct Owner(AtomicU32);

    impl Wake for Owner {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A job that waits until it is let go.
    #[derive(Default)]
    struct Job {
        polls: Cell<u32>,
        waker: RefCell<Option<Waker>>,
        may_end: Cell<bool>,
        panics: bool,
    }

    async fn work(desk: Rc<Desk<Rc<Job>>>) -> Infallible {
        loop {
            let job = desk.next().await;
            poll_fn(|cx| {
                job.polls.set(job.polls.get() + 1);
                assert!(!job.panics, "a bug");
                *job.waker.borrow_mut() = Some(cx.waker().clone());
                if job.may_end.get() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
    }

    fn ring(job: &Job) {
        let waker = job.waker.borrow().clone();
        waker.expect("was polled").wake();
    }

    #[test]
    fn only_the_woken_are_polled_and_their_memory_is_used_again() {
        let owner = Arc::new(Owner::default());
        let waker = Waker::from(Arc::clone(&owner));
        let mut tasks = Tasks::new(work);
        tasks.belong_to(&Context::from_waker(&waker));
        let jobs: Vec<Rc<Job>> = (0..3).map(|_| Rc::default()).collect();
        jobs.iter().for_each(|job| tasks.insert(Rc::clone(job)));
        assert_eq!(owner.0.load(Ordering::Relaxed), 1, "told once");
        tasks.poll();
        tasks.poll();
        let polls = || jobs.iter().map(|job| job.polls.get()).collect::<Vec<_>>();
        assert_eq!(polls(), [1, 1, 1]);
        jobs[1].may_end.set(true);
        ring(&jobs[1]);
        ring(&jobs[1]);
        assert_eq!(owner.0.load(Ordering::Relaxed), 2, "told once more");
        tasks.poll();
        assert_eq!(polls(), [1, 2, 1]);
        assert_eq!((tasks.places.len(), tasks.free.as_slice()), (3, &[1][..]));
        ring(&jobs[1]);
        tasks.poll();
        assert_eq!(polls(), [1, 2, 1], "an old waker polls nothing");
        let next = Rc::<Job>::default();
        tasks.insert(Rc::clone(&next));
        tasks.poll();
        assert_eq!((next.polls.get(), tasks.places.len()), (1, 3));
    }

    #[test]
    fn a_panic_ends_one_and_an_idle_owner_holds_nothing() {
        let mut tasks = Tasks::new(work);
        let jobs: Vec<Rc<Job>> = (0..3)
            .map(|number| {
                Rc::new(Job {
                    may_end: Cell::new(true),
                    panics: number == 1,
                    ..Job::default()
                })
            })
            .collect();
        for round in 1..3 {
            jobs.iter().for_each(|job| tasks.insert(Rc::clone(job)));
            tasks.poll();
            assert!(jobs.iter().all(|job| job.polls.get() == round));
            assert_eq!(tasks.free.len(), 3);
        }
        tasks.rest();
        assert!(tasks.places.is_empty());
    }
}
