//! Distribution, stability and limits of every algorithm; the measured disruption is printed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;

use super::{Algorithm, Chooser, Selection};
use crate::backend::{Backend, Lease};
use crate::upstream::BackendSpec;

fn backend(name: &str, weight: u32, limit: Option<usize>) -> Arc<Backend> {
    let spec = BackendSpec {
        id: Some(name.to_owned()),
        label: "127.0.0.1:9".to_owned(),
        weight,
        max_connections: limit,
        drain: false,
    };
    Arc::new(Backend::new(&spec, None))
}

fn backends(weights: &[u32]) -> Vec<Arc<Backend>> {
    weights
        .iter()
        .enumerate()
        .map(|(index, weight)| backend(&format!("b{index}"), *weight, None))
        .collect()
}

fn selection(algorithm: Algorithm, backends: &[Arc<Backend>], version: u64) -> Selection {
    Selection::new(algorithm, backends, 0, Instant::now(), version)
}

fn client(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number * 7919))
}

/// How many of `count` clients go where.
fn spread(
    algorithm: Algorithm,
    backends: &[Arc<Backend>],
    count: u32,
    keep: bool,
) -> BTreeMap<String, u32> {
    let selection = selection(algorithm, backends, 1);
    let mut chooser = Chooser::new(7);
    let mut kept: Vec<Lease> = Vec::new();
    let mut spread = BTreeMap::new();
    for number in 0..count {
        let lease = chooser
            .choose(&selection, client(number), &[])
            .expect("a backend");
        *spread.entry(lease.backend().id().to_owned()).or_default() += 1;
        if keep {
            kept.push(lease);
        }
    }
    spread
}

fn shares_are(spread: &BTreeMap<String, u32>, weights: &[u32], tolerance: f64) {
    let total: u32 = spread.values().sum();
    let heavy: u32 = weights.iter().sum();
    for (index, weight) in weights.iter().enumerate() {
        let got =
            f64::from(spread.get(&format!("b{index}")).copied().unwrap_or(0)) / f64::from(total);
        let due = f64::from(*weight) / f64::from(heavy);
        assert!(
            (got - due).abs() <= tolerance * due,
            "b{index}: {got:.4}, due {due:.4}: {spread:?}"
        );
    }
}

#[test]
fn round_robin_is_exact_and_smooth() {
    let all = backends(&[5, 1, 1]);
    let selection = selection(Algorithm::RoundRobin, &all, 1);
    let mut chooser = Chooser::new(0);
    let order: String = (0..14)
        .map(|number| {
            let lease = chooser
                .choose(&selection, client(number), &[])
                .expect("a backend");
            lease.backend().id().trim_start_matches('b').to_owned()
        })
        .collect();
    assert_eq!(
        order, "00102000010200",
        "the published sequence of the algorithm"
    );
}

#[test]
fn every_algorithm_keeps_to_the_weights() {
    let weights = [1, 2, 4];
    for algorithm in Algorithm::ALL {
        let all = backends(&weights);
        let keeps = matches!(
            algorithm,
            Algorithm::LeastConnections | Algorithm::RandomTwoChoices
        );
        let spread = spread(algorithm, &all, 21_000, keeps);
        let tolerance = match algorithm {
            Algorithm::RoundRobin | Algorithm::LeastConnections => 0.001,
            Algorithm::RandomTwoChoices => 0.02,
            Algorithm::IpHash | Algorithm::Maglev => 0.06,
        };
        shares_are(&spread, &weights, tolerance);
    }
}

#[test]
fn maglev_shares_of_the_table_are_even() {
    let all = backends(&[1; 7]);
    let table = super::maglev::Table::new(&all);
    let mut counts = [0_u32; 7];
    let owners = table.owners();
    for owner in &owners {
        counts[usize::from(*owner)] += 1;
    }
    let (least, most) = (
        counts.iter().min().expect("7"),
        counts.iter().max().expect("7"),
    );
    assert!(most - least <= 1, "{counts:?}");
    assert_eq!(owners.len(), super::maglev::TABLE_SIZE);
}

#[test]
fn maglev_shares_of_the_table_follow_the_weights() {
    let weights = [1, 16, 256];
    let owners = super::maglev::Table::new(&backends(&weights)).owners();
    let (entries, heavy) = (owners.len(), weights.iter().sum::<u32>());
    for (index, weight) in (0_u16..).zip(weights) {
        let owned = owners.iter().filter(|owner| **owner == index).count();
        let due = entries * usize::try_from(weight).expect("small")
            / usize::try_from(heavy).expect("small");
        assert!(
            owned.abs_diff(due) <= 1 + due / 100,
            "b{index} owns {owned}, due {due}"
        );
    }
}

#[test]
fn clients_keep_their_backend_in_whatever_order_the_backends_are_listed() {
    for algorithm in [Algorithm::IpHash, Algorithm::Maglev] {
        let all = backends(&[1, 2, 3, 1, 5]);
        let turned: Vec<_> = all.iter().rev().cloned().collect();
        let (one, other) = (
            selection(algorithm, &all, 1),
            selection(algorithm, &turned, 2),
        );
        let mut chooser = Chooser::new(1);
        for number in 0..500 {
            let home = chooser
                .choose(&one, client(number), &[])
                .expect("a backend");
            let same = chooser
                .choose(&other, client(number), &[])
                .expect("a backend");
            assert!(Arc::ptr_eq(home.backend(), same.backend()), "{algorithm:?}");
        }
    }
}

#[test]
fn round_robin_stays_exact_when_the_selection_changes() {
    let all = backends(&[3, 2, 1, 4]);
    let (whole, fewer) = (
        selection(Algorithm::RoundRobin, &all, 1),
        selection(Algorithm::RoundRobin, &all[..3], 2),
    );
    let mut chooser = Chooser::new(0);
    let mut count = |selection: &Selection, times: u32| {
        let mut spread = BTreeMap::<String, u32>::new();
        for number in 0..times {
            let lease = chooser
                .choose(selection, client(number), &[])
                .expect("a backend");
            *spread.entry(lease.backend().id().to_owned()).or_default() += 1;
        }
        spread.into_values().collect::<Vec<_>>()
    };
    assert_eq!(count(&whole, 10), [3, 2, 1, 4]);
    count(&whole, 3);
    // In the middle of a round one leaves: the wealth it takes along is a fraction of one round, once.
    let after = count(&fewer, 600);
    for (got, due) in after.iter().zip([300, 200, 100]) {
        assert!(got.abs_diff(due) <= 4, "{after:?}");
    }
}

/// Of 20,000 clients of ten backends: (whose backend left, of the others those that moved).
fn disruption(algorithm: Algorithm) -> (u32, u32) {
    let all = backends(&[1; 10]);
    let fewer: Vec<_> = all
        .iter()
        .filter(|backend| backend.id() != "b3")
        .cloned()
        .collect();
    let (before, after) = (
        selection(algorithm, &all, 1),
        selection(algorithm, &fewer, 2),
    );
    let mut chooser = Chooser::new(1);
    let (mut orphans, mut moved) = (0, 0);
    for number in 0..20_000 {
        let first = chooser
            .choose(&before, client(number), &[])
            .expect("a backend")
            .backend()
            .id()
            .to_owned();
        let second = chooser
            .choose(&after, client(number), &[])
            .expect("a backend")
            .backend()
            .id()
            .to_owned();
        if first == "b3" {
            orphans += 1;
        } else if first != second {
            moved += 1;
        }
    }
    (orphans, moved)
}

#[test]
fn ip_hash_moves_only_the_clients_of_a_backend_that_leaves() {
    let (orphans, moved) = disruption(Algorithm::IpHash);
    println!("ip-hash: {orphans} of 20000 clients had the lost backend, {moved} others moved");
    assert!((1_800..2_200).contains(&orphans));
    assert_eq!(moved, 0);
}

#[test]
fn maglev_moves_few_others_when_a_backend_leaves() {
    let (orphans, moved) = disruption(Algorithm::Maglev);
    println!("maglev: {orphans} of 20000 clients had the lost backend, {moved} others moved");
    assert!((1_700..2_300).contains(&orphans));
    assert!(moved < 180, "{moved} of 18000 others moved: more than 1 %");
}

#[test]
fn an_ipv6_customer_meets_one_backend_and_a_mapped_address_is_ipv4() {
    for algorithm in [Algorithm::IpHash, Algorithm::Maglev] {
        let all = backends(&[1; 9]);
        let selection = selection(algorithm, &all, 1);
        let mut chooser = Chooser::new(1);
        let mut choose = |client: IpAddr| {
            chooser
                .choose(&selection, client, &[])
                .expect("a backend")
                .backend()
                .id()
                .to_owned()
        };
        let customer = 0x2001_0db8_0001_0002_u128 << 64;
        let home = choose(IpAddr::V6(Ipv6Addr::from(customer)));
        for host in [1_u128, 77, u128::from(u64::MAX)] {
            assert_eq!(choose(IpAddr::V6(Ipv6Addr::from(customer | host))), home);
        }
        let plain = Ipv4Addr::new(192, 0, 2, 77);
        assert_eq!(
            choose(IpAddr::V6(plain.to_ipv6_mapped())),
            choose(IpAddr::V4(plain))
        );
    }
}

#[test]
fn hashes_are_the_same_in_every_process_and_release() {
    assert_eq!(
        super::stable_hash("10.0.0.1:80", 42),
        1_769_821_557_246_640_907
    );
}

#[test]
fn tried_and_full_backends_are_passed_over_by_every_algorithm() {
    for algorithm in Algorithm::ALL {
        let all = vec![
            backend("b0", 1, Some(1)),
            backend("b1", 1, Some(1)),
            backend("b2", 1, None),
        ];
        let selection = selection(algorithm, &all, 1);
        let mut chooser = Chooser::new(3);
        let first = chooser
            .choose(&selection, client(1), &[all[2].clone()])
            .expect("one");
        let second = chooser
            .choose(&selection, client(1), &[all[2].clone()])
            .expect("the other");
        assert!(
            !Arc::ptr_eq(first.backend(), second.backend()),
            "{algorithm:?}"
        );
        assert!(
            chooser
                .choose(&selection, client(1), &[all[2].clone()])
                .is_none(),
            "{algorithm:?}"
        );
        assert_eq!(all[0].active(), 1);
        drop(first);
        assert!(
            chooser
                .choose(&selection, client(1), &[all[2].clone()])
                .is_some(),
            "{algorithm:?}"
        );
        drop(second);
        assert_eq!(all.iter().map(|backend| backend.active()).sum::<usize>(), 0);
    }
}

#[test]
fn an_empty_selection_chooses_nobody() {
    for algorithm in Algorithm::ALL {
        let selection = selection(algorithm, &[], 1);
        assert!(Chooser::new(1).choose(&selection, client(1), &[]).is_none());
    }
}

proptest! {
    #[test]
    fn a_lease_is_always_of_an_eligible_untried_backend(
        weights in proptest::collection::vec(1_u32..20, 1..12),
        tried in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        number in any::<u16>(), seed in any::<u64>(),
    ) {
        let all = backends(&weights);
        let tried: Vec<_> = tried.iter().map(|index| index.get(&all).clone()).collect();
        for algorithm in Algorithm::ALL {
            let selection = selection(algorithm, &all, 1);
            let lease = Chooser::new(seed).choose(&selection, client(u32::from(number)), &tried);
            let open = all.iter().any(|one| !tried.iter().any(|other| Arc::ptr_eq(one, other)));
            prop_assert_eq!(lease.is_some(), open);
            if let Some(lease) = lease {
                prop_assert!(!tried.iter().any(|other| Arc::ptr_eq(lease.backend(), other)));
            }
        }
    }
}
