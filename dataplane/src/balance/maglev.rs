//! Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4): backends take turns to fill a table of prime
//! size, each along its own permutation; a lookup is one hash and one index.
//!
//! Holds  every backend's share of the table is its weight's share, within a few entries; when one leaves,
//!        its entries are filled by the others and few of theirs move (measured in the tests).

use std::net::IpAddr;
use std::sync::Arc;

use crate::backend::Backend;
use crate::balance::{Candidates, client_key, stable_hash};

/// Entries of a table: a prime, more than a hundred for each of 600 backends. 128 KiB as u16.
pub(super) const TABLE_SIZE: usize = 65_537;

/// An entry without an owner; also the number of backends that a table can tell apart, further ones get none.
const FREE: u16 = u16::MAX;

/// Keys of the two hashes that make a permutation.
const OFFSET_KEY: u64 = 0x6f66_6673_6574;
const SKIP_KEY: u64 = 0x736b_6970;

/// Which backend owns which entry.
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<u16>,
}

/// A backend while it fills the table.
struct Filler {
    /// Its place among the eligible.
    index: u16,
    next: usize,
    skip: usize,
    weight: u32,
    credit: u32,
}

impl Table {
    pub(super) fn new(candidates: Candidates<'_>) -> Self {
        let mut ordered: Vec<(u16, (&Arc<Backend>, u32))> =
            (0..FREE).zip(candidates.iter()).collect();
        // By id: whoever knows the same backends in another order fills the same table.
        ordered.sort_by(|(_, (one, _)), (_, (other, _))| one.id().cmp(other.id()));
        let fill = |(index, (backend, weight)): &(u16, (&Arc<Backend>, u32))| {
            Filler::new(*index, backend, *weight)
        };
        let mut fillers: Vec<Filler> = ordered.iter().map(fill).collect();
        let heaviest = fillers
            .iter()
            .map(|filler| filler.weight)
            .max()
            .unwrap_or(0);
        let mut entries = vec![FREE; TABLE_SIZE];
        let mut free = TABLE_SIZE;
        while free > 0 && heaviest > 0 {
            for filler in &mut fillers {
                // Each round the heaviest backend takes one entry, a lighter one now and then.
                filler.credit += filler.weight;
                if filler.credit < heaviest || free == 0 {
                    continue;
                }
                filler.credit -= heaviest;
                if let Some(entry) = filler.first_free(&mut entries) {
                    *entry = filler.index;
                    free -= 1;
                }
            }
        }
        Self { entries }
    }

    /// The owner of the client's entry; when it may not be chosen, the owners of the entries after it.
    pub(super) fn choose<'s>(
        &self,
        eligible: &'s [Arc<Backend>],
        client: IpAddr,
        is_open: impl Fn(&Arc<Backend>) -> bool,
    ) -> Option<&'s Arc<Backend>> {
        let size = u64::try_from(self.entries.len())
            .ok()
            .filter(|size| *size > 0)?;
        let start = usize::try_from(stable_hash("", client_key(client)) % size).ok()?;
        let (before, after) = self.entries.split_at_checked(start)?;
        let mut last = FREE;
        for entry in after.iter().chain(before) {
            if *entry == last {
                continue;
            }
            last = *entry;
            if let Some(backend) = eligible
                .get(usize::from(*entry))
                .filter(|backend| is_open(backend))
            {
                return Some(backend);
            }
        }
        None
    }
}

impl Filler {
    fn new(index: u16, backend: &Backend, weight: u32) -> Self {
        let size = u64::try_from(TABLE_SIZE).unwrap_or(1);
        let place = |hash: u64| usize::try_from(hash).unwrap_or(0);
        Self {
            index,
            next: place(stable_hash(backend.id(), OFFSET_KEY) % size),
            skip: place(stable_hash(backend.id(), SKIP_KEY) % (size - 1)) + 1,
            weight,
            credit: 0,
        }
    }

    /// Steps along the permutation to the next entry that nobody owns. The size is prime, so every entry
    /// is met within one round.
    fn first_free<'t>(&mut self, entries: &'t mut [u16]) -> Option<&'t mut u16> {
        for _ in 0..entries.len() {
            let place = self.next;
            self.next = (self.next + self.skip) % entries.len();
            if entries.get(place) == Some(&FREE) {
                return entries.get_mut(place);
            }
        }
        None
    }
}

#[cfg(test)]
impl Table {
    /// The owner of every entry.
    pub(super) fn owners(&self) -> Vec<u16> {
        self.entries.clone()
    }
}
