//! The less loaded of two random backends (Mitzenmacher 2001): nearly as even as least-connections, at
//! constant cost and without herding.

use std::sync::Arc;

use crate::backend::Backend;
use crate::balance::least_connections::weighted_load;

/// Random draws before giving up on luck: with half of the backends closed, one in a thousand misses.
const DRAWS: usize = 10;

pub(super) fn choose<'s>(
    eligible: &'s [Arc<Backend>],
    random: &mut fastrand::Rng,
    is_open: impl Fn(&Arc<Backend>) -> bool,
) -> Option<&'s Arc<Backend>> {
    let mut first: Option<&Arc<Backend>> = None;
    for _ in 0..DRAWS {
        if eligible.is_empty() {
            return None;
        }
        let drawn = eligible.get(random.usize(..eligible.len()))?;
        if !is_open(drawn) {
            continue;
        }
        match first {
            None => first = Some(drawn),
            // The same one twice is no second choice, unless there is only one.
            Some(other) if Arc::ptr_eq(other, drawn) && eligible.len() > 1 => {}
            Some(other) => {
                let lighter = weighted_load(drawn) < weighted_load(other);
                return Some(if lighter { drawn } else { other });
            }
        }
    }
    first.or_else(|| eligible.iter().find(|backend| is_open(backend)))
}
