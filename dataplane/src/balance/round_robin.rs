//! Smooth weighted round-robin (the algorithm of nginx, 2012): each turn every backend gains its weight,
//! the richest is chosen and pays the sum. Heavy backends are spread, not bunched.

use std::sync::Arc;

use crate::backend::Backend;

/// The current wealth of each backend, in the order of the selection.
#[derive(Debug, Default)]
pub(super) struct Turns {
    wealth: Vec<(Arc<Backend>, i64)>,
}

impl Turns {
    /// A new selection: whoever stays keeps its wealth.
    pub(super) fn adapt(&mut self, eligible: &[Arc<Backend>]) {
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
        eligible: &'s [Arc<Backend>],
        is_open: impl Fn(&Arc<Backend>) -> bool,
    ) -> Option<&'s Arc<Backend>> {
        let mut sum = 0;
        let mut richest: Option<(usize, i64)> = None;
        for (index, (backend, wealth)) in self.wealth.iter_mut().enumerate() {
            if !is_open(backend) {
                continue;
            }
            let weight = i64::from(backend.weight());
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
        eligible.get(index)
    }
}
