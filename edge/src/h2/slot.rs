//! A place for one frame between two tasks of a worker: a body that one connection reads and another sends.
//!
//! Room  one thread's. Holds at most one frame waits: the reader of the source waits for the sender.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::body::Frame;

use super::body::Broken;

#[derive(Debug, Default)]
struct Slot {
    frame: Option<Result<Frame<Bytes>, Broken>>,
    ended: bool,
    abandoned: bool,
    waits: Option<Waker>,
}

/// Where frames are put.
#[derive(Debug)]
pub(crate) struct Feed(Rc<RefCell<Slot>>);

/// Where frames are taken.
#[derive(Debug)]
pub(crate) struct Fed(Rc<RefCell<Slot>>);

/// Both ends.
pub(crate) fn slot() -> (Feed, Fed) {
    let slot = Rc::new(RefCell::new(Slot::default()));
    (Feed(Rc::clone(&slot)), Fed(slot))
}

impl Feed {
    /// Ready when a frame may be put; false: nobody takes any more.
    pub(crate) fn poll_room(&self, cx: &Context<'_>) -> Poll<bool> {
        let mut slot = self.0.borrow_mut();
        if slot.abandoned {
            return Poll::Ready(false);
        }
        if slot.frame.is_none() {
            return Poll::Ready(true);
        }
        slot.waits = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn put(&self, frame: Result<Frame<Bytes>, Broken>) {
        self.change(|slot| slot.frame = Some(frame));
    }

    /// The body is whole.
    pub(crate) fn end(&self) {
        self.change(|slot| slot.ended = true);
    }

    fn change(&self, change: impl FnOnce(&mut Slot)) {
        let waker = {
            let mut slot = self.0.borrow_mut();
            change(&mut slot);
            slot.waits.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // A source that goes away in the middle breaks the body: it must not look whole.
        self.change(|slot| {
            if !slot.ended && slot.frame.is_none() {
                slot.frame = Some(Err(Broken(crate::end::End::ClientClosed)));
            }
        });
    }
}

impl Fed {
    pub(crate) fn poll_take(&self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let (taken, waker) = {
            let mut slot = self.0.borrow_mut();
            let taken = match slot.frame.take() {
                Some(frame) => Poll::Ready(Some(frame)),
                None if slot.ended => Poll::Ready(None),
                None => Poll::Pending,
            };
            let waker = if taken.is_pending() {
                slot.waits.replace(cx.waker().clone())
            } else {
                slot.waits.take()
            };
            (taken, waker)
        };
        if taken.is_ready() {
            waker.into_iter().for_each(Waker::wake);
        }
        taken
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        let waker = {
            let mut slot = self.0.borrow_mut();
            slot.abandoned = true;
            slot.waits.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;
    use hyper::body::Frame;

    use super::slot;

    #[test]
    fn one_frame_waits_and_a_lost_source_is_no_end() {
        let cx = Context::from_waker(Waker::noop());
        let (feed, fed) = slot();
        assert!(fed.poll_take(&cx).is_pending());
        assert_eq!(feed.poll_room(&cx), Poll::Ready(true));
        feed.put(Ok(Frame::data(Bytes::from_static(b"x"))));
        assert!(feed.poll_room(&cx).is_pending());
        assert!(matches!(fed.poll_take(&cx), Poll::Ready(Some(Ok(_)))));
        drop(feed);
        assert!(matches!(fed.poll_take(&cx), Poll::Ready(Some(Err(_)))));
        let (feed, fed) = slot();
        feed.end();
        drop(feed);
        assert!(matches!(fed.poll_take(&cx), Poll::Ready(None)));
        let (feed, fed) = slot();
        drop(fed);
        assert_eq!(feed.poll_room(&cx), Poll::Ready(false));
    }
}
