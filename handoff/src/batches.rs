//! A set of sockets cut into batches that one frame can carry, and put together again.
//!
//! Room  pure: works on any `T` that stands for a descriptor.
//! Holds a set is complete only when every batch arrived once, in order, with one descriptor for each entry.

use std::collections::BTreeMap;

use crate::listeners::ListenerName;
use crate::message::{Batch, Member};

/// Most descriptors of one frame: the kernel's SCM_MAX_FD (unix(7)); 254 is EINVAL.
pub const BATCH_SOCKETS_MAX: usize = 253;

/// Most batches of one set: 64 Ki sockets, more than any descriptor limit met so far.
const BATCHES_MAX: u32 = 260;

/// Most members of one listener's group.
const GROUP_MEMBERS_MAX: usize = 4096;

/// A batch that is refused; the peer is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("batch {got} of {of} arrived, batch {expected} was due")]
    OutOfOrder { expected: u32, got: u32, of: u32 },
    #[error("the number of batches changed from {before} to {now}")]
    CountChanged { before: u32, now: u32 },
    #[error("a batch names {named} sockets and brought {arrived}")]
    Short { named: usize, arrived: usize },
    #[error("a set of {0} batches is too large")]
    TooMany(u32),
    #[error("listener {name} arrived with member {got}, member {expected} was due")]
    Member {
        name: ListenerName,
        expected: usize,
        got: u16,
    },
}

/// Cuts the sockets of all groups into batches of at most [`BATCH_SOCKETS_MAX`].
pub fn batches<T>(
    groups: impl IntoIterator<Item = (ListenerName, Vec<T>)>,
) -> Vec<(Batch, Vec<T>)> {
    let mut cut: Vec<(Vec<Member>, Vec<T>)> = Vec::new();
    for (name, members) in groups {
        for (index, socket) in members.into_iter().enumerate() {
            if cut
                .last()
                .is_none_or(|(named, _)| named.len() == BATCH_SOCKETS_MAX)
            {
                cut.push((Vec::new(), Vec::new()));
            }
            if let Some((named, sockets)) = cut.last_mut() {
                named.push(Member {
                    name: name.clone(),
                    member: u16::try_from(index).unwrap_or(u16::MAX),
                });
                sockets.push(socket);
            }
        }
    }
    let of = u32::try_from(cut.len()).unwrap_or(u32::MAX);
    (1..)
        .zip(cut)
        .map(|(batch, (sockets, fds))| (Batch { batch, of, sockets }, fds))
        .collect()
}

/// Puts batches together.
#[derive(Debug)]
pub struct Collector<T> {
    of: Option<u32>,
    last: u32,
    groups: BTreeMap<ListenerName, Vec<T>>,
}

impl<T> Default for Collector<T> {
    fn default() -> Self {
        Self {
            of: None,
            last: 0,
            groups: BTreeMap::new(),
        }
    }
}

impl<T> Collector<T> {
    /// Takes the next batch; true when the set is complete.
    ///
    /// # Errors
    /// See [`BatchError`]; what the refused batch brought is dropped (closed).
    pub fn accept(&mut self, batch: Batch, sockets: Vec<T>) -> Result<bool, BatchError> {
        let before = *self.of.get_or_insert(batch.of);
        if batch.of > BATCHES_MAX {
            return Err(BatchError::TooMany(batch.of));
        }
        if before != batch.of {
            return Err(BatchError::CountChanged {
                before,
                now: batch.of,
            });
        }
        if batch.batch != self.last + 1 || batch.batch > batch.of {
            return Err(BatchError::OutOfOrder {
                expected: self.last + 1,
                got: batch.batch,
                of: batch.of,
            });
        }
        if batch.sockets.len() != sockets.len() || sockets.len() > BATCH_SOCKETS_MAX {
            return Err(BatchError::Short {
                named: batch.sockets.len(),
                arrived: sockets.len(),
            });
        }
        for (entry, socket) in batch.sockets.into_iter().zip(sockets) {
            self.push(entry, socket)?;
        }
        self.last = batch.batch;
        Ok(self.last == batch.of)
    }

    /// The complete set.
    pub fn into_groups(self) -> BTreeMap<ListenerName, Vec<T>> {
        self.groups
    }

    fn push(&mut self, entry: Member, socket: T) -> Result<(), BatchError> {
        let group = self.groups.entry(entry.name.clone()).or_default();
        if usize::from(entry.member) != group.len() || group.len() >= GROUP_MEMBERS_MAX {
            return Err(BatchError::Member {
                name: entry.name,
                expected: group.len(),
                got: entry.member,
            });
        }
        group.push(socket);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BATCH_SOCKETS_MAX, BatchError, Collector, batches};
    use crate::listeners::ListenerName;

    fn name(text: &str) -> ListenerName {
        text.parse().expect("valid name")
    }

    fn collect(cut: Vec<(crate::message::Batch, Vec<u32>)>) -> Collector<u32> {
        let mut collector = Collector::default();
        let total = cut.len();
        for (index, (batch, sockets)) in cut.into_iter().enumerate() {
            let complete = collector.accept(batch, sockets).expect("accepted");
            assert_eq!(complete, index + 1 == total);
        }
        collector
    }

    #[test]
    fn every_count_of_sockets_arrives_whole_and_in_order() {
        for count in [1u32, 32, 33, 252, 253, 254, 506, 507, 600, 2000] {
            let groups = vec![(name("a"), (0..count).collect()), (name("b"), vec![7, 8])];
            let cut = batches(groups.clone());
            assert!(cut.iter().all(|(_, fds)| fds.len() <= BATCH_SOCKETS_MAX));
            let whole: Vec<_> = collect(cut).into_groups().into_iter().collect();
            assert_eq!(whole, groups, "{count}");
        }
    }

    #[test]
    fn a_missing_doubled_short_or_growing_batch_is_refused() {
        let cut = || batches(vec![(name("a"), (0..600u32).collect::<Vec<_>>())]);
        let mut skipping = Collector::default();
        let second = cut().remove(1);
        assert!(matches!(
            skipping.accept(second.0, second.1),
            Err(BatchError::OutOfOrder { expected: 1, .. })
        ));
        let mut doubled = Collector::default();
        let first = cut().remove(0);
        assert_eq!(doubled.accept(first.0.clone(), first.1.clone()), Ok(false));
        assert!(doubled.accept(first.0.clone(), first.1).is_err());
        let mut short = Collector::default();
        assert!(matches!(
            short.accept(first.0.clone(), vec![1, 2]),
            Err(BatchError::Short {
                named: 253,
                arrived: 2
            })
        ));
        let mut growing = Collector::default();
        let first = cut().remove(0);
        assert_eq!(growing.accept(first.0, first.1), Ok(false));
        let mut second = cut().remove(1);
        second.0.of = 9;
        assert!(matches!(
            growing.accept(second.0, second.1),
            Err(BatchError::CountChanged { before: 3, now: 9 })
        ));
    }

    proptest! {
        #[test]
        fn whatever_arrives_a_collector_never_panics(
            frames in proptest::collection::vec((0u32..5, 0u32..5, proptest::collection::vec(0u16..4, 0..4), 0usize..5), 0..8)
        ) {
            let mut collector = Collector::default();
            for (batch, of, members, arrived) in frames {
                let sockets = members.into_iter().map(|member| crate::message::Member { name: name("a"), member }).collect();
                let _ = collector.accept(crate::message::Batch { batch, of, sockets }, vec![0u32; arrived]);
            }
        }
    }
}
