//! The side that takes connections.
//!
//! Holds nothing that arrived is served before [`Taker::take`] returned `Ok`; after an error it is dropped, unread.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::Arrived;
#[cfg(debug_assertions)]
use super::faults::{Step, strike};
use super::message::{Entry, Offer, Refusal, ToGiver, ToTaker};
use crate::link::{Channel, Link, LinkError};
use crate::sealed::Sealed;

/// How long a giver may say nothing. Sized: it looks for connections that become free to move for a few seconds.
const SILENCE_DEADLINE: Duration = Duration::from_secs(30);

/// One batch.
#[derive(Debug)]
pub struct Delivery {
    batch: u64,
    /// In the giver's order.
    pub connections: Vec<Arrived>,
}

/// See the module.
#[derive(Debug)]
pub struct Taker {
    link: Link,
    last: u64,
}

impl Taker {
    /// Says that so many descriptors may come.
    ///
    /// # Errors
    /// See [`LinkError`]: the giver is gone.
    pub async fn open(channel: Channel, room: u32) -> Result<Self, LinkError> {
        let mut link = Link::new(channel)?;
        link.send(&ToGiver::Ready { room }, &[]).await?;
        Ok(Self { link, last: 0 })
    }

    /// The next batch; `None`: nothing more will come.
    ///
    /// # Errors
    /// See [`LinkError`]: the giver is gone, or broke the protocol; what it still offers is its own.
    pub async fn next(&mut self) -> Result<Option<Delivery>, LinkError> {
        loop {
            let received = self
                .link
                .receive_within(SILENCE_DEADLINE, "offer connections");
            let (said, descriptors) = received.await?;
            let ToTaker { offer, over } = said;
            if over {
                return Ok(None);
            }
            let Some(offer) = offer else {
                continue;
            };
            if offer.batch != self.last + 1 {
                return Err(wrong("a batch of connections is missing or doubled"));
            }
            self.last = offer.batch;
            #[cfg(debug_assertions)]
            strike(Step::Arrived, offer.batch);
            return unpack(offer, descriptors).map(Some);
        }
    }

    /// Acknowledges the batch: all of it but `refused` (places and reasons) is ours from now on; so many descriptors may come next.
    ///
    /// # Errors
    /// See [`LinkError`]: the giver did not wait and serves them itself. They must be dropped.
    pub async fn take(
        &mut self,
        batch: Batch,
        refused: Vec<(usize, String)>,
        room: u32,
    ) -> Result<(), LinkError> {
        let refused = refused.into_iter().map(|(place, reason)| Refusal {
            place: u32::try_from(place).unwrap_or(u32::MAX),
            reason,
        });
        let answer = ToGiver::Taken {
            batch: batch.0,
            refused: refused.collect(),
            room,
        };
        self.link.send(&answer, &[]).await?;
        #[cfg(debug_assertions)]
        strike(Step::Acknowledged, batch.0);
        Ok(())
    }
}

/// Which batch is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch(u64);

impl Delivery {
    /// What [`Taker::take`] is told.
    pub fn batch(&self) -> Batch {
        Batch(self.batch)
    }
}

fn unpack(offer: Offer, mut descriptors: Vec<OwnedFd>) -> Result<Delivery, LinkError> {
    let mut held = match offer.bytes {
        0 => Vec::new(),
        bytes => {
            let memory = descriptors.pop().into_iter().collect();
            let sealed = Sealed::adopt(bytes, memory).map_err(std::io::Error::other)?;
            sealed.read()?
        }
    };
    let mut connections = Vec::with_capacity(offer.connections.len());
    for Entry { fds, bytes, record } in offer.connections {
        let (fds, bytes) = (usize::try_from(fds), usize::try_from(bytes));
        let (Ok(fds), Ok(bytes)) = (fds, bytes) else {
            return Err(wrong("a connection announces more than there can be"));
        };
        if fds > descriptors.len() || bytes > held.len() {
            return Err(wrong("a connection announces more than has arrived"));
        }
        let rest = descriptors.split_off(fds);
        let later = held.split_off(bytes);
        connections.push(Arrived {
            record,
            descriptors: std::mem::replace(&mut descriptors, rest),
            held: std::mem::replace(&mut held, later),
        });
    }
    if !descriptors.is_empty() || !held.is_empty() {
        return Err(wrong("more has arrived than its connections announce"));
    }
    Ok(Delivery {
        batch: offer.batch,
        connections,
    })
}

fn wrong(what: &str) -> LinkError {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what).into()
}
