//! Choosing a backend.
//!
//! Room  pure apart from the place it takes (a [`Lease`]): no clock, no socket.
//! In    a [`Selection`] (who may be chosen) and the client's address. Out  a lease.
//! Holds choosing neither locks nor allocates; the same client meets the same backend in every process
//!       and generation where the algorithm promises it (ip-hash, maglev).

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::backend::{Backend, Lease};
use crate::upstream::UpstreamSettings;

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
    /// How heavy each of them is, in the same order, in hundredths of a weight: slow start is decided when a
    /// selection is made, so that choosing only reads.
    weights: Vec<u32>,
    maglev: Option<maglev::Table>,
    fail_open: bool,
    /// How many of all backends are ejected.
    ejected: usize,
    version: u64,
}

impl Selection {
    /// The healthy backends; when there is none, or less than [`UpstreamSettings::panic_threshold_percent`] of those
    /// that are not draining, all of these (fail open: a wrong health check must not cause an outage of its own).
    pub fn new(
        settings: &UpstreamSettings,
        backends: &[Arc<Backend>],
        now: Instant,
        version: u64,
    ) -> Self {
        let willing = || backends.iter().filter(|backend| !backend.is_draining());
        let mut eligible: Vec<_> = willing()
            .filter(|backend| backend.is_healthy(now) && backend.address().is_some())
            .cloned()
            .collect();
        let all = willing().count();
        let share = usize::try_from(settings.panic_threshold_percent).unwrap_or(100);
        let too_few = eligible.is_empty() || eligible.len() * 100 < all * share;
        let fail_open = too_few && all > eligible.len();
        if fail_open {
            eligible = willing().cloned().collect();
        }
        let ramp = ramp_of(settings, fail_open);
        let weights: Vec<u32> = eligible
            .iter()
            .map(|backend| backend.weight_hundredths(ramp, now))
            .collect();
        let candidates = Candidates::new(&eligible, &weights);
        let maglev =
            (settings.algorithm == Algorithm::Maglev).then(|| maglev::Table::new(candidates));
        Self {
            algorithm: settings.algorithm,
            eligible,
            weights,
            maglev,
            fail_open,
            ejected: backends
                .iter()
                .filter(|backend| backend.condition().is_ejected(now))
                .count(),
            version,
        }
    }

    /// The backends that may be chosen.
    pub fn eligible(&self) -> &[Arc<Backend>] {
        &self.eligible
    }

    /// How heavy each eligible backend is, in the same order, in hundredths of a configured weight.
    pub fn weights(&self) -> &[u32] {
        &self.weights
    }

    /// True when too few backends are healthy, or none, and all are tried nevertheless.
    pub fn is_fail_open(&self) -> bool {
        self.fail_open
    }

    /// How many backends were ejected when this was made.
    pub(crate) fn ejected(&self) -> usize {
        self.ejected
    }

    /// True when slow start has made a backend heavier since.
    pub(crate) fn is_outgrown(&self, settings: &UpstreamSettings, now: Instant) -> bool {
        let ramp = ramp_of(settings, self.fail_open);
        ramp.is_some()
            && self
                .candidates()
                .iter()
                .any(|(backend, weight)| backend.weight_hundredths(ramp, now) != weight)
    }

    fn candidates(&self) -> Candidates<'_> {
        Candidates::new(&self.eligible, &self.weights)
    }
}

/// The slow start in force: none in a fail-open, where one that has just recovered is better than most.
fn ramp_of(settings: &UpstreamSettings, fail_open: bool) -> Option<Duration> {
    settings.slow_start.filter(|_| !fail_open)
}

/// Whom an algorithm chooses from: the eligible backends and how heavy each is, in the same order.
#[derive(Clone, Copy, Debug)]
struct Candidates<'s> {
    backends: &'s [Arc<Backend>],
    weights: &'s [u32],
}

impl<'s> Candidates<'s> {
    fn new(backends: &'s [Arc<Backend>], weights: &'s [u32]) -> Self {
        Self { backends, weights }
    }

    fn len(self) -> usize {
        self.backends.len()
    }

    fn get(self, index: usize) -> Option<(&'s Arc<Backend>, u32)> {
        Some((self.backends.get(index)?, *self.weights.get(index)?))
    }

    fn iter(self) -> impl Iterator<Item = (&'s Arc<Backend>, u32)> {
        self.backends.iter().zip(self.weights.iter().copied())
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
        let (eligible, candidates) = (&selection.eligible, selection.candidates());
        let is_open = |backend: &Arc<Backend>| is_open(backend, tried);
        let first = match selection.algorithm {
            Algorithm::RoundRobin => self.turns.next(candidates, is_open),
            Algorithm::LeastConnections => {
                let offset = self.random.usize(..eligible.len().max(1));
                least_connections::choose(candidates, offset, is_open)
            }
            Algorithm::IpHash => ip_hash::choose(candidates, client, is_open),
            Algorithm::RandomTwoChoices => {
                random_two_choices::choose(candidates, &mut self.random, is_open)
            }
            Algorithm::Maglev => {
                let table = selection.maglev.as_ref();
                table.and_then(|table| table.choose(eligible, client, is_open))
            }
        };
        // Between the look and the taking another shard may have taken the last place.
        first.and_then(Backend::try_acquire).or_else(|| {
            eligible
                .iter()
                .filter(|backend| is_open(backend))
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
