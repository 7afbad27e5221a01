//! Fewest connections for its weight; among equals, the first from a random place, so that shards that
//! start together do not all run to the same backend.

use std::sync::Arc;

use crate::backend::Backend;
use crate::balance::Candidates;

pub(super) fn choose(
    candidates: Candidates<'_>,
    offset: usize,
    is_open: impl Fn(&Arc<Backend>) -> bool,
) -> Option<&Arc<Backend>> {
    let mut best: Option<(&Arc<Backend>, u64)> = None;
    let from_offset = candidates.iter().skip(offset);
    for (backend, weight) in from_offset
        .chain(candidates.iter().take(offset))
        .filter(|(backend, _)| is_open(backend))
    {
        let load = weighted_load(backend, weight);
        if best.is_none_or(|(_, least)| load < least) {
            best = Some((backend, load));
        }
    }
    best.map(|(backend, _)| backend)
}

/// Load with one connection more, per weight (in hundredths), in fixed point: fine enough for the heaviest weight.
pub(super) fn weighted_load(backend: &Backend, weight: u32) -> u64 {
    let active = u64::try_from(backend.active()).unwrap_or(u64::MAX);
    active.saturating_add(1).saturating_mul(1 << 24) / u64::from(weight.max(1))
}
