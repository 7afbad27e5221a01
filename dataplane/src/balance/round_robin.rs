//! Smooth weighted round-robin (the algorithm of nginx, 2012): each turn every backend gains its weight,
//! the richest is chosen and pays the sum. Heavy backends are spread, not bunched.

use std::sync::Arc;

use crate::backend::Backend;
use crate::balance::Candidates;

/// The current wealth of each backend, in the order of the selection.
#[derive(Debug, Default)]
pub(super) struct Turns {
    wealth: Vec<(Arc<Backend>, i64)>,
}

impl Turns {
    /// A new selection: whoever stays keeps its wealth.
    pub(super) fn adapt(&mut self, eligible: &[Arc<Backend>]) {
        // Slow start publishes the same backends again and again: then there is nothing to build.
        let is_same = |((known, _), backend): (&(Arc<Backend>, i64), &Arc<Backend>)| {
            Arc::ptr_eq(known, backend)
        };
        if self.wealth.len() == eligible.len() && self.wealth.iter().zip(eligible).all(is_same) {
            return;
        }
        let before = std::mem::take(&mut self.wealth);
        self.wealth = eligible
            .iter()
            .map(|backend| {
                let kept = before.iter().find(|(other, _)| Arc::ptr_eq(other, backend));
                (Arc::clone(backend), kept.map_or(0, |(_, wealth)| *wealth))
            })
            .collect();
    }

    pub(super) fn next<'s>(
        &mut self,
        candidates: Candidates<'s>,
        is_open: impl Fn(&Arc<Backend>) -> bool,
    ) -> Option<&'s Arc<Backend>> {
        let mut sum = 0;
        let mut richest: Option<(usize, i64)> = None;
        let both = self.wealth.iter_mut().zip(candidates.iter());
        for (index, ((_, wealth), (backend, weight))) in both.enumerate() {
            if !is_open(backend) {
                continue;
            }
            let weight = i64::from(weight);
            sum += weight;
            *wealth += weight;
            if richest.is_none_or(|(_, most)| *wealth > most) {
                richest = Some((index, *wealth));
            }
        }
        let (index, _) = richest?;
        if let Some((_, wealth)) = self.wealth.get_mut(index) {
            *wealth -= sum;
        }
        candidates.get(index).map(|(backend, _)| backend)
    }
}
