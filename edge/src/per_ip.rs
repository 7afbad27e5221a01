//! How many connections each client address has open; looked at only where a limit is configured.
//!
//! Room  one lock for an accept and for a close of a limited listener, none for a request.
//! Holds an address is in the table only while it has connections.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct PerIp(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    table: PerIp,
    client: IpAddr,
}

impl PerIp {
    /// A place for this client, or `None` when it has `limit` already.
    #[must_use]
    pub fn enter(&self, client: IpAddr, limit: usize) -> Option<Place> {
        let client = customer(client);
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = table.entry(client).or_insert(0);
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Place {
            table: self.clone(),
            client,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.table.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = table.get_mut(&self.client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                table.remove(&self.client);
            }
        }
    }
}

/// IPv6 by its /64: one customer (RFC 6177).
fn customer(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let upper = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(upper))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PerIp;

    #[test]
    fn a_client_has_so_many_places_and_gives_them_back() {
        let table = PerIp::default();
        let v4 = "10.0.0.1".parse().expect("an address");
        let first = table.enter(v4, 1).expect("one is allowed");
        assert!(table.enter("::ffff:10.0.0.1".parse().expect("mapped"), 1).is_none());
        drop(first);
        assert!(table.enter(v4, 1).is_some());
        let one = table.enter("2001:db8::1".parse().expect("v6"), 1);
        assert!(table.enter("2001:db8::2".parse().expect("v6"), 1).is_none());
        assert!(table.enter("2001:db8:0:1::2".parse().expect("v6"), 1).is_some());
        drop(one);
        assert!(table.0.lock().expect("unpoisoned").is_empty());
    }
}
