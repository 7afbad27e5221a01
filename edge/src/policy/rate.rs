//! Who asks too often: a generic cell rate algorithm in a table that cannot grow.
//!
//! Room  pure but for small locks, one for each eight entries, held for a few comparisons.
//! In    a [`Rate`], an address, the time. Out  allowed, or how long to wait.
//! Holds a check looks at eight entries, whatever the number of addresses; memory is fixed when the table is made;
//!       a full set gives up the entry that is nearest to being forgotten, so those who are limited stay limited
//!       while a flood of new addresses displaces itself. Times travel to another process as what remains of them.

use std::hash::Hasher as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use siphasher::sip::SipHasher13;

use crate::settings::{RateKey, RateLimit};

mod snapshot;
#[cfg(test)]
mod tests;

/// A [`RateLimit`], made ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Which limit: equal in every process and generation for the same route name.
    scope: u64,
    pub(super) by: RateKey,
    pub(super) per_minute: u32,
    /// Nanoseconds that one request takes up.
    interval: u64,
    /// Nanoseconds that one may be ahead.
    tolerance: u64,
}

impl Rate {
    /// `route` is its name, empty for the limit over all routes.
    pub(super) fn new(limit: RateLimit, route: &str) -> Self {
        const MINUTE: u64 = 60_000_000_000;
        let mut hasher = SipHasher13::new();
        hasher.write(route.as_bytes());
        let interval = MINUTE / u64::from(limit.requests_per_minute.max(1));
        Self {
            scope: hasher.finish(),
            by: limit.by,
            per_minute: limit.requests_per_minute,
            interval,
            tolerance: interval.saturating_mul(u64::from(limit.burst)),
        }
    }

    pub(super) fn burst(&self) -> u64 {
        self.tolerance / self.interval
    }
}

/// What a check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allowed,
    /// Seconds until a request would be allowed, rounded up, at least 1.
    Limited {
        retry_after: u64,
    },
}

/// What has a bucket of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Key {
    scope: u64,
    /// An IPv4 address, or an IPv6 one's first 64 bits.
    address: u64,
    family: Family,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Family {
    #[default]
    All,
    V4,
    V6,
}

impl Key {
    fn new(rate: &Rate, address: IpAddr) -> Self {
        let (family, address) = match (rate.by, address.to_canonical()) {
            (RateKey::All, _) => (Family::All, 0),
            (RateKey::Ip, IpAddr::V4(v4)) => (Family::V4, u64::from(v4.to_bits())),
            (RateKey::Ip, IpAddr::V6(v6)) => {
                let prefix = u64::try_from(v6.to_bits() >> 64).unwrap_or(0);
                (Family::V6, prefix)
            }
        };
        Self {
            scope: rate.scope,
            address,
            family,
        }
    }

    /// As people read it.
    fn network(self) -> String {
        match self.family {
            Family::All => "all".to_owned(),
            Family::V4 => u32::try_from(self.address).map_or_else(
                |_| "?".to_owned(),
                |bits| Ipv4Addr::from_bits(bits).to_string(),
            ),
            Family::V6 => {
                let prefix = Ipv6Addr::from_bits(u128::from(self.address) << 64);
                format!("{prefix}/64")
            }
        }
    }
}

const WAYS: usize = 8;

/// One key's bucket. Free when `until` is over: such an entry says nothing that an absent one would not say.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    key: Key,
    /// The theoretical arrival time: until when the requests so far take up the steady rate; nanoseconds.
    until: u64,
    /// Refused requests in a row of windows that touch each other.
    limited: u32,
}

#[derive(Debug, Default)]
struct Set {
    entries: [Entry; WAYS],
    allowed: u64,
    limited: u64,
}

/// Buckets of every limit and client.
#[derive(Debug)]
pub struct RateTable {
    sets: Box<[Mutex<Set>]>,
    seed: (u64, u64),
}

/// A table's state for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RateStatus {
    /// Buckets in use right now.
    pub entries: usize,
    pub capacity: usize,
    /// Checks since the process started.
    pub allowed: u64,
    pub limited: u64,
    /// Clients (IPv6 by /64) refused most while their present buckets last, at most ten, the most refused one first.
    pub most_limited: Vec<(String, u32)>,
}

impl RateTable {
    /// For at least `capacity` buckets, rounded up to a multiple of 8. Who knows `seed` can aim at the buckets
    /// of others.
    pub fn new(capacity: usize, seed: u128) -> Self {
        let [high, low] = [seed >> 64, seed & u128::from(u64::MAX)]
            .map(|half| u64::try_from(half).unwrap_or_default());
        Self {
            sets: (0..capacity.div_ceil(WAYS).max(1))
                .map(|_| Mutex::default())
                .collect(),
            seed: (high, low),
        }
    }

    /// Takes a request into account and judges it. `now` is the time of a steady clock.
    pub(super) fn check(&self, rate: &Rate, address: IpAddr, now: Duration) -> Verdict {
        let now = nanoseconds(now);
        let key = Key::new(rate, address);
        let mut set = self.set(key);
        let entry = set.place(key, now);
        let until = entry.until.max(now);
        let ahead = until - now;
        if ahead > rate.tolerance {
            entry.limited = entry.limited.saturating_add(1);
            set.limited += 1;
            let wait = ahead - rate.tolerance;
            return Verdict::Limited {
                retry_after: wait.div_ceil(1_000_000_000).max(1),
            };
        }
        entry.until = until.saturating_add(rate.interval);
        set.allowed += 1;
        Verdict::Allowed
    }

    /// Looks at every entry: for people and metrics, not for requests.
    pub fn status(&self, now: Duration) -> RateStatus {
        let now = nanoseconds(now);
        let mut status = RateStatus {
            entries: 0,
            capacity: self.sets.len() * WAYS,
            allowed: 0,
            limited: 0,
            most_limited: Vec::new(),
        };
        for set in &self.sets {
            let set = lock(set);
            status.allowed += set.allowed;
            status.limited += set.limited;
            for entry in set.entries.iter().filter(|entry| entry.until > now) {
                status.entries += 1;
                if entry.limited > 0 {
                    status.note_limited(entry);
                }
            }
        }
        status
    }

    fn set(&self, key: Key) -> MutexGuard<'_, Set> {
        let mut hasher = SipHasher13::new_with_keys(self.seed.0, self.seed.1);
        hasher.write_u64(key.scope);
        hasher.write_u64(key.address);
        hasher.write_u8(key.family.code());
        // The hash as a fraction of the sets.
        let sets = self.sets.len() as u128;
        let index = (u128::from(hasher.finish()) * sets) >> 64;
        lock(&self.sets[usize::try_from(index).unwrap_or(0)])
    }
}

impl RateStatus {
    fn note_limited(&mut self, entry: &Entry) {
        const SHOWN: usize = 10;
        let at = self
            .most_limited
            .partition_point(|(_, limited)| *limited >= entry.limited);
        if at < SHOWN {
            self.most_limited
                .insert(at, (entry.key.network(), entry.limited));
            self.most_limited.truncate(SHOWN);
        }
    }
}

impl Set {
    /// The key's entry, else a free one, else the one that is forgotten soonest.
    fn place(&mut self, key: Key, now: u64) -> &mut Entry {
        let mut best = 0;
        for (index, entry) in self.entries.iter().enumerate() {
            if entry.until > now && entry.key == key {
                best = index;
                break;
            }
            if entry.until < self.entries[best].until {
                best = index;
            }
        }
        let entry = &mut self.entries[best];
        if entry.until <= now || entry.key != key {
            *entry = Entry {
                key,
                ..Entry::default()
            };
        }
        entry
    }
}

impl Family {
    fn code(self) -> u8 {
        match self {
            Self::All => 0,
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }
}

/// A panic while a set was locked cannot have left it half written in a way that matters.
fn lock(set: &Mutex<Set>) -> MutexGuard<'_, Set> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
