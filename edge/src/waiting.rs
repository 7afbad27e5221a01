//! Waiting for something, but not for ever.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use crate::timers::Timer;

/// The output of `future`, or `None` once `due` (milliseconds of the worker's clock) has passed.
pub(crate) async fn until<F: Future>(timer: &Timer, due: u64, future: F) -> Option<F::Output> {
    until_moving(timer, || due, future).await
}

/// As [`until`], with a deadline that is asked for at every turn.
pub(crate) async fn until_moving<F: Future>(
    timer: &Timer,
    due: impl Fn() -> u64,
    future: F,
) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        let due = due();
        if timer.is_past(due) {
            return Poll::Ready(None);
        }
        timer.arm(due, cx);
        Poll::Pending
    })
    .await
}
