//! The less loaded of two random backends (Mitzenmacher 2001): nearly as even as least-connections, at
//! constant cost and without herding.

use std::sync::Arc;

use crate::backend::Backend;
use crate::balance::Candidates;
use crate::balance::least_connections::weighted_load;

/// Random draws before giving up on luck: with half of the backends closed, one in a thousand misses.
const DRAWS: usize = 10;

pub(super) fn choose<'s>(
    candidates: Candidates<'s>,
    random: &mut fastrand::Rng,
    is_open: impl Fn(&Arc<Backend>) -> bool,
) -> Option<&'s Arc<Backend>> {
    let mut first: Option<(&Arc<Backend>, u32)> = None;
    for _ in 0..DRAWS {
        if candidates.len() == 0 {
            return None;
        }
        let (drawn, weight) = candidates.get(random.usize(..candidates.len()))?;
        if !is_open(drawn) {
            continue;
        }
        match first {
            None => first = Some((drawn, weight)),
            // The same one twice is no second choice, unless there is only one.
            Some((other, _)) if Arc::ptr_eq(other, drawn) && candidates.len() > 1 => {}
            Some((other, other_weight)) => {
                let lighter = weighted_load(drawn, weight) < weighted_load(other, other_weight);
                return Some(if lighter { drawn } else { other });
            }
        }
    }
    let found = first.or_else(|| candidates.iter().find(|(backend, _)| is_open(backend)));
    found.map(|(backend, _)| backend)
}
