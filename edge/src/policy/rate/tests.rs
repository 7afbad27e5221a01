//! Rates, the table's bounds, and the way to another process.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use proptest::prelude::*;

use super::{Rate, RateTable, Verdict};
use crate::settings::{RateKey, RateLimit};

fn rate(per_minute: u32, burst: u32, by: RateKey) -> Rate {
    let limit = RateLimit {
        requests_per_minute: per_minute,
        burst,
        by,
    };
    Rate::new(limit, "")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn bursts_then_the_steady_rate() {
    let table = RateTable::new(64, 1);
    let rate = rate(60, 4, RateKey::Ip);
    let client = ip("192.0.2.1");
    for _ in 0..5 {
        assert_eq!(table.check(&rate, client, at(10)), Verdict::Allowed);
    }
    assert_eq!(
        table.check(&rate, client, at(10)),
        Verdict::Limited { retry_after: 1 }
    );
    assert_eq!(table.check(&rate, client, at(11)), Verdict::Allowed);
    assert!(matches!(
        table.check(&rate, client, at(11)),
        Verdict::Limited { .. }
    ));
    assert_eq!(
        table.check(&rate, ip("192.0.2.2"), at(11)),
        Verdict::Allowed
    );
    for _ in 0..5 {
        assert_eq!(table.check(&rate, client, at(100)), Verdict::Allowed);
    }
    let status = table.status(at(100));
    assert_eq!((status.allowed, status.limited), (12, 2));
    assert_eq!(status.entries, 1, "the other one is forgotten: {status:?}");
}

#[test]
fn retry_after_is_when_it_would_be_allowed() {
    let table = RateTable::new(8, 1);
    let rate = rate(2, 0, RateKey::Ip);
    let client = ip("192.0.2.1");
    assert_eq!(table.check(&rate, client, at(0)), Verdict::Allowed);
    let early = Duration::from_millis(500);
    assert_eq!(
        table.check(&rate, client, early),
        Verdict::Limited { retry_after: 30 }
    );
    assert_eq!(table.check(&rate, client, at(30)), Verdict::Allowed);
}

#[test]
fn who_shares_a_bucket() {
    for (first, second, by, shared) in [
        ("192.0.2.1", "::ffff:192.0.2.1", RateKey::Ip, true),
        ("192.0.2.1", "192.0.2.2", RateKey::Ip, false),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", RateKey::Ip, true),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", RateKey::Ip, false),
        ("192.0.2.1", "0:0:c000:201::", RateKey::Ip, false),
        ("192.0.2.1", "2001:db8::1", RateKey::All, true),
    ] {
        let table = RateTable::new(64, 7);
        let rate = rate(1, 0, by);
        assert_eq!(table.check(&rate, ip(first), at(1)), Verdict::Allowed);
        let limited = table.check(&rate, ip(second), at(1)) != Verdict::Allowed;
        assert_eq!(limited, shared, "{first} {second}");
    }
}

#[test]
fn limits_of_different_routes_are_apart() {
    let table = RateTable::new(64, 7);
    let limit = RateLimit {
        requests_per_minute: 1,
        burst: 0,
        by: RateKey::Ip,
    };
    for name in ["a", "b", ""] {
        assert_eq!(
            table.check(&Rate::new(limit, name), ip("::1"), at(1)),
            Verdict::Allowed
        );
    }
}

/// A million addresses: the table keeps its size, and who is limited already stays limited.
#[test]
fn a_flood_of_addresses_displaces_itself() {
    let table = RateTable::new(1024, 0x1234_5678);
    let capacity = table.status(at(0)).capacity;
    assert_eq!(capacity, 1024);
    let rate = rate(60, 9, RateKey::Ip);
    let offender = ip("198.51.100.1");
    for _ in 0..10 {
        assert_eq!(table.check(&rate, offender, at(1)), Verdict::Allowed);
    }
    for n in 0..1_000_000_u32 {
        table.check(
            &rate,
            IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n)),
            at(1),
        );
    }
    assert!(matches!(
        table.check(&rate, offender, at(1)),
        Verdict::Limited { .. }
    ));
    let status = table.status(at(1));
    assert!(status.entries <= capacity);
    assert!(status.entries > capacity * 9 / 10, "{status:?}");
    assert_eq!(status.most_limited, [("198.51.100.1".to_owned(), 1)]);
}

#[test]
fn buckets_travel() {
    let old = RateTable::new(64, 1);
    let rate = rate(1, 1, RateKey::Ip);
    let clients = [ip("192.0.2.1"), ip("2001:db8::1")];
    for client in clients {
        for _ in 0..2 {
            assert_eq!(old.check(&rate, client, at(1000)), Verdict::Allowed);
        }
    }
    let bytes = old.export(at(1000), 5_000_000, 100);
    // Another process: other seed, other size, a clock that starts at 0; 30 s on the way.
    let new = RateTable::new(8, 2);
    assert_eq!(new.import(&bytes, at(1), 5_030_000), 2);
    for client in clients {
        assert_eq!(
            new.check(&rate, client, at(1)),
            Verdict::Limited { retry_after: 30 }
        );
    }
    let late = RateTable::new(8, 2);
    assert_eq!(late.import(&bytes, at(1), 5_120_000), 0);
    let clock_set_back = RateTable::new(8, 2);
    assert_eq!(clock_set_back.import(&bytes, at(1), 4_000_000), 2);
    assert_eq!(
        clock_set_back.check(&rate, clients[0], at(1)),
        Verdict::Limited { retry_after: 60 }
    );
}

#[test]
fn snapshots_are_bounded_and_the_fullest_go_first() {
    let table = RateTable::new(1024, 3);
    let rate = rate(60, 99, RateKey::Ip);
    for n in 0..100_u32 {
        for _ in 0..=n / 10 {
            table.check(&rate, IpAddr::V4(Ipv4Addr::from_bits(n)), at(1));
        }
    }
    let bytes = table.export(at(1), 0, 10);
    assert_eq!(bytes.len(), 13 + 10 * 25);
    let small = RateTable::new(1024, 4);
    assert_eq!(small.import(&bytes, at(1), 0), 10);
    let fullest = small.export(at(1), 0, 10);
    assert!(
        fullest[13..]
            .chunks(25)
            .all(|entry| entry[17..] == 10_000_000_000_u64.to_be_bytes())
    );
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), head in any::<bool>()) {
        let mut whole = if head { b"ZWRT\x01\0\0\0\0\0\0\0\0".to_vec() } else { Vec::new() };
        whole.extend_from_slice(&bytes);
        let table = RateTable::new(8, 1);
        table.import(&whole, Duration::MAX, u64::MAX);
        table.import(&whole, at(1), 0);
        prop_assert!(table.status(at(1)).entries <= 8);
    }

    /// No more than the burst and what the time allows, whenever requests come.
    #[test]
    fn the_rate_holds(gaps in prop::collection::vec(0_u64..3000, 1..200), per_minute in 1_u32..600, burst in 0_u32..20) {
        let table = RateTable::new(8, 1);
        let rate = rate(per_minute, burst, RateKey::Ip);
        let mut now = 0;
        let mut allowed = 0_u64;
        for gap in gaps {
            now += gap;
            if table.check(&rate, ip("192.0.2.1"), Duration::from_millis(now)) == Verdict::Allowed {
                allowed += 1;
            }
            // Rounding of the interval gives at most one more.
            let most = u64::from(burst) + 2 + now * u64::from(per_minute) / 60_000;
            prop_assert!(allowed <= most, "{} of {}", allowed, most);
        }
    }
}
