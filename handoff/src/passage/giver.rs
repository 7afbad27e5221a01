//! The side that gives connections away.
//!
//! Holds a connection is given away when its acknowledgement has arrived, and never twice; until then it is the giver's.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use serde_json::value::RawValue;

#[cfg(debug_assertions)]
use super::faults::{Step, strike};
use super::message::{Entry, Offer, Refusal, ToGiver, ToTaker};
use crate::batches::BATCH_SOCKETS_MAX;
use crate::codec::FrameError;
use crate::link::{Channel, Link, LinkError};
use crate::sealed::Sealed;

/// How long a taker may take for its first word.
///
/// Covers: a taker that is busy with a reload or a slow configuration. If passed: nothing moves.
const READY_DEADLINE: Duration = Duration::from_secs(2);

/// How long the connections of one batch may be without anybody who serves them.
///
/// Covers: a taker that stands still. If passed: the passage ends and the giver serves on. Sized: a healthy one answers
/// within a few milliseconds; clients of a sick one notice a second's pause and no more.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);

/// A connection on its way out; nobody reads its sockets now.
#[derive(Debug)]
pub struct Item<'a> {
    /// In a form of the service's own.
    pub record: Box<RawValue>,
    /// Duplicated by the kernel; the giver keeps its own.
    pub descriptors: Vec<BorrowedFd<'a>>,
    /// Bytes that were read and not written yet.
    pub held: Vec<u8>,
}

/// What became of an offered connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The other process serves it: what is left here is to be closed, without a word to the peers.
    Taken,
    /// It stays, and why.
    Refused(String),
    /// It stays; the passage is over.
    Unanswered,
}

/// See the module.
#[derive(Debug)]
pub struct Giver {
    link: Link,
    batch: u64,
    room: usize,
    broken: Option<String>,
}

impl Giver {
    /// Waits for the taker's first word.
    ///
    /// # Errors
    /// See [`LinkError`]: nothing can be given.
    pub async fn open(channel: Channel) -> Result<Self, LinkError> {
        let mut link = Link::new(channel)?;
        loop {
            let expected = "say how many descriptors it has room for";
            match link.receive_within(READY_DEADLINE, expected).await?.0 {
                ToGiver::Ready { room } => {
                    return Ok(Self {
                        link,
                        batch: 0,
                        room: usize::try_from(room).unwrap_or(usize::MAX),
                        broken: None,
                    });
                }
                ToGiver::Taken { .. } | ToGiver::Unknown => {}
            }
        }
    }

    /// Most descriptors of the next offer; one more is kept for held bytes.
    pub fn room(&self) -> usize {
        self.room.min(BATCH_SOCKETS_MAX).saturating_sub(1)
    }

    /// Why nothing can be given any more.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Offers them, at most [`Self::room`] descriptors; what became of each, in their order.
    pub async fn offer(&mut self, items: &[Item<'_>]) -> Vec<Fate> {
        if self.broken.is_some() || items.is_empty() {
            return vec![Fate::Unanswered; items.len()];
        }
        #[cfg(debug_assertions)]
        strike(Step::Offering, self.batch + 1);
        match self.send(items).await {
            Ok(()) => self.answer(items.len()).await,
            Err(LinkError::Frame(FrameError::TooLong(bytes))) => {
                match items.split_at(items.len() / 2) {
                    ([], _) => vec![Fate::Refused(format!(
                        "its record of {bytes} bytes is too long"
                    ))],
                    (first, second) => {
                        let mut fates = Box::pin(self.offer(first)).await;
                        fates.extend(Box::pin(self.offer(second)).await);
                        fates
                    }
                }
            }
            // Nothing arrives of a frame that was not sent.
            Err(error) => self.give_up(error.to_string(), items.len()),
        }
    }

    /// Nothing more will come; the taker need not wait.
    pub async fn over(mut self) {
        if self.broken.is_none() {
            let over = ToTaker {
                over: true,
                ..ToTaker::default()
            };
            // Who does not read it sees the end of the conversation instead.
            let _ = self.link.send(&over, &[]).await;
        }
    }

    async fn send(&mut self, items: &[Item<'_>]) -> Result<(), LinkError> {
        let held: Vec<u8> = items.iter().flat_map(|item| &item.held).copied().collect();
        let sealed = match held.is_empty() {
            true => None,
            false => Some(Sealed::seal(&held).map_err(std::io::Error::other)?),
        };
        let descriptors = items.iter().flat_map(|item| &item.descriptors).copied();
        let memory = sealed.iter().map(|sealed| sealed.as_fd());
        let descriptors: Vec<BorrowedFd<'_>> = descriptors.chain(memory).collect();
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        let offer = ToTaker {
            offer: Some(Offer {
                batch: self.batch + 1,
                connections: items
                    .iter()
                    .map(|item| Entry {
                        fds: u32::try_from(item.descriptors.len()).unwrap_or(u32::MAX),
                        bytes: count(item.held.len()),
                        record: item.record.clone(),
                    })
                    .collect(),
                bytes: count(held.len()),
            }),
            over: false,
        };
        self.link.send(&offer, &descriptors).await?;
        self.batch += 1;
        Ok(())
    }

    async fn answer(&mut self, offered: usize) -> Vec<Fate> {
        #[cfg(debug_assertions)]
        strike(Step::Offered, self.batch);
        let deadline = tokio::time::Instant::now() + ANSWER_DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let expected = "acknowledge connections";
            let error = match self.link.receive_within(left, expected).await {
                Ok((
                    ToGiver::Taken {
                        batch,
                        refused,
                        room,
                    },
                    _,
                )) if batch == self.batch => {
                    self.room = usize::try_from(room).unwrap_or(usize::MAX);
                    #[cfg(debug_assertions)]
                    strike(Step::Answered, batch);
                    return fates(offered, &refused);
                }
                Ok((ToGiver::Unknown | ToGiver::Ready { .. }, _)) => continue,
                Ok((ToGiver::Taken { batch, .. }, _)) => {
                    format!(
                        "the peer acknowledged batch {batch}, {} was due",
                        self.batch
                    )
                }
                Err(error) => error.to_string(),
            };
            return self.settle(error, offered);
        }
    }

    /// The answer is late, or the conversation is broken: from one moment on none can come, and one that came before
    /// it counts.
    fn settle(&mut self, error: String, offered: usize) -> Vec<Fate> {
        let batch = self.batch;
        for answer in self.link.end::<ToGiver>() {
            if let ToGiver::Taken {
                batch: of, refused, ..
            } = answer
                && of == batch
            {
                self.broken = Some(error);
                return fates(offered, &refused);
            }
        }
        self.give_up(error, offered)
    }

    fn give_up(&mut self, error: String, offered: usize) -> Vec<Fate> {
        // Also after a frame that did not leave: the taker must not wait.
        let _ = self.link.end::<ToGiver>();
        self.broken = Some(error);
        vec![Fate::Unanswered; offered]
    }
}

fn fates(offered: usize, refused: &[Refusal]) -> Vec<Fate> {
    let mut fates = vec![Fate::Taken; offered];
    for Refusal { place, reason } in refused {
        let place = usize::try_from(*place).ok();
        if let Some(fate) = place.and_then(|place| fates.get_mut(place)) {
            *fate = Fate::Refused(reason.clone());
        }
    }
    fates
}
