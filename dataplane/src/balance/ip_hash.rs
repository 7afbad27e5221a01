//! Weighted rendezvous hashing (Thaler and Ravishankar 1998): every backend bids for the client, the
//! highest bid wins. When a backend leaves, only its own clients move; when one joins, only those it wins.

use std::net::IpAddr;
use std::sync::Arc;

use crate::backend::Backend;
use crate::balance::{Candidates, client_key, stable_hash};

pub(super) fn choose(
    candidates: Candidates<'_>,
    client: IpAddr,
    is_open: impl Fn(&Arc<Backend>) -> bool,
) -> Option<&Arc<Backend>> {
    let key = client_key(client);
    let mut best: Option<(&Arc<Backend>, f64)> = None;
    for (backend, weight) in candidates.iter().filter(|(backend, _)| is_open(backend)) {
        let bid = bid(backend, weight, key);
        if best.is_none_or(|(_, highest)| bid > highest) {
            best = Some((backend, bid));
        }
    }
    best.map(|(backend, _)| backend)
}

/// -weight / ln(u) with u uniform in (0, 1): the winner's odds are proportional to the weights.
fn bid(backend: &Backend, weight: u32, key: u64) -> f64 {
    let bits = stable_hash(backend.id(), key) >> 12;
    // 52 bits fit a double exactly; the half keeps u away from 0 and 1.
    let uniform = (f64::from_bits(bits | 0x3ff0_0000_0000_0000) - 1.0) + f64::EPSILON / 2.0;
    f64::from(weight) / -uniform.ln()
}
