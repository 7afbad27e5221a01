//! Fewest connections for its weight; among equals, the first from a random place, so that shards that
//! start together do not all run to the same backend.

use std::sync::Arc;

use crate::backend::Backend;

pub(super) fn choose(
    eligible: &[Arc<Backend>],
    offset: usize,
    is_open: impl Fn(&Arc<Backend>) -> bool,
) -> Option<&Arc<Backend>> {
    let (before, after) = eligible.split_at_checked(offset)?;
    let mut best: Option<(&Arc<Backend>, u64)> = None;
    for backend in after
        .iter()
        .chain(before)
        .filter(|backend| is_open(backend))
    {
        let load = weighted_load(backend);
        if best.is_none_or(|(_, least)| load < least) {
            best = Some((backend, load));
        }
    }
    best.map(|(backend, _)| backend)
}

/// Load with one connection more, per weight, in fixed point.
pub(super) fn weighted_load(backend: &Backend) -> u64 {
    let active = u64::try_from(backend.active()).unwrap_or(u64::MAX);
    active.saturating_add(1).saturating_mul(1 << 16) / u64::from(backend.weight())
}
