//! Choosing a backend.
//!
//! Room  pure apart from the place it takes (a [`Lease`]): no clock, no socket.
//! In    a [`Selection`] (who may be chosen) and the client's address. Out  a lease.
//! Holds choosing neither locks nor allocates; the same client meets the same backend in every process
//!       and generation where the algorithm promises it (ip-hash, maglev).

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::backend::{Backend, Lease};

mod ip_hash;
mod least_connections;
mod maglev;
mod random_two_choices;
mod round_robin;
#[cfg(test)]
mod tests;

/// How a backend is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// In turn, smoothly by weight.
    #[default]
    RoundRobin,
    /// Fewest connections for its weight.
    LeastConnections,
    /// By the client's address: a backend that leaves moves only its own clients.
    IpHash,
    /// The less loaded of two random ones.
    RandomTwoChoices,
    /// By the client's address through a table of fixed size: constant time with many backends.
    Maglev,
}

impl Algorithm {
    /// Every algorithm, in the order of the documentation.
    pub const ALL: [Self; 5] = [
        Self::RoundRobin,
        Self::LeastConnections,
        Self::IpHash,
        Self::RandomTwoChoices,
        Self::Maglev,
    ];

    /// The name in configuration files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastConnections => "least-connections",
            Self::IpHash => "ip-hash",
            Self::RandomTwoChoices => "random-two-choices",
            Self::Maglev => "maglev",
        }
    }
}

/// No such algorithm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown algorithm {0:?}")]
pub struct UnknownAlgorithm(pub String);

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == text)
            .ok_or_else(|| UnknownAlgorithm(text.to_owned()))
    }
}

/// Who may be chosen right now.
#[derive(Debug)]
pub struct Selection {
    algorithm: Algorithm,
    eligible: Vec<Arc<Backend>>,
    maglev: Option<maglev::Table>,
    fail_open: bool,
    version: u64,
}

impl Selection {
    /// The healthy backends; when there is none, or less than `panic_percent` of those that are not draining, all
    /// of these (fail open: a wrong health check must not cause an outage of its own).
    pub fn new(
        algorithm: Algorithm,
        backends: &[Arc<Backend>],
        panic_percent: u32,
        now: Instant,
        version: u64,
    ) -> Self {
        let willing = || backends.iter().filter(|backend| !backend.is_draining());
        let mut eligible: Vec<_> = willing()
            .filter(|backend| backend.is_healthy(now) && backend.address().is_some())
            .cloned()
            .collect();
        let all = willing().count();
        let share = usize::try_from(panic_percent).unwrap_or(100);
        let too_few = eligible.is_empty() || eligible.len() * 100 < all * share;
        let fail_open = too_few && all > eligible.len();
        if fail_open {
            eligible = willing().cloned().collect();
        }
        let maglev = (algorithm == Algorithm::Maglev).then(|| maglev::Table::new(&eligible));
        Self {
            algorithm,
            eligible,
            maglev,
            fail_open,
            version,
        }
    }

    /// The backends that may be chosen.
    pub fn eligible(&self) -> &[Arc<Backend>] {
        &self.eligible
    }

    /// True when no backend is healthy and all are tried nevertheless.
    pub fn is_fail_open(&self) -> bool {
        self.fail_open
    }
}

/// A shard's own memory for one upstream.
#[derive(Debug)]
pub struct Chooser {
    /// Of which selection `turns` speaks.
    version: Option<u64>,
    turns: round_robin::Turns,
    random: fastrand::Rng,
}

impl Chooser {
    /// `seed` keeps the shards' random choices apart.
    pub fn new(seed: u64) -> Self {
        Self {
            version: None,
            turns: round_robin::Turns::default(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// A place at a backend. Those in `tried`, those without an address and those at their limit are
    /// passed over; `None`: nobody is left.
    pub fn choose(
        &mut self,
        selection: &Selection,
        client: IpAddr,
        tried: &[Arc<Backend>],
    ) -> Option<Lease> {
        if self.version != Some(selection.version) {
            self.version = Some(selection.version);
            self.turns.adapt(&selection.eligible);
        }
        let eligible = &selection.eligible;
        let first = match selection.algorithm {
            Algorithm::RoundRobin => self.turns.next(eligible, |backend| is_open(backend, tried)),
            Algorithm::LeastConnections => {
                let offset = self.random.usize(..eligible.len().max(1));
                least_connections::choose(eligible, offset, |backend| is_open(backend, tried))
            }
            Algorithm::IpHash => {
                ip_hash::choose(eligible, client, |backend| is_open(backend, tried))
            }
            Algorithm::RandomTwoChoices => {
                random_two_choices::choose(eligible, &mut self.random, |backend| {
                    is_open(backend, tried)
                })
            }
            Algorithm::Maglev => selection.maglev.as_ref().and_then(|table| {
                table.choose(eligible, client, |backend| is_open(backend, tried))
            }),
        };
        // Between the look and the taking another shard may have taken the last place.
        first.and_then(Backend::try_acquire).or_else(|| {
            eligible
                .iter()
                .filter(|backend| is_open(backend, tried))
                .find_map(Backend::try_acquire)
        })
    }
}

fn is_open(backend: &Arc<Backend>, tried: &[Arc<Backend>]) -> bool {
    backend.address().is_some()
        && !backend.is_full()
        && !tried.iter().any(|other| Arc::ptr_eq(other, backend))
}

/// A client's key: IPv4 whole, IPv6 by its /64 (one customer), mapped IPv4 as IPv4.
fn client_key(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => {
            // The upper half; the lower one is the customer's to choose.
            u64::try_from(u128::from(address) >> 64).unwrap_or(u64::MAX) | (1 << 63)
        }
    }
}

/// Equal in every process and generation; the keys are arbitrary and must never change.
fn stable_hash(id: &str, key: u64) -> u64 {
    use std::hash::Hasher as _;
    let mut hasher =
        siphasher::sip::SipHasher13::new_with_keys(0x7a65_6974_776f_726b, 0x6461_7461_706c_616e);
    hasher.write_u64(key);
    hasher.write(id.as_bytes());
    hasher.finish()
}
