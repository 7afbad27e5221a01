//! Ports for configurations.

use std::net::TcpListener;

/// Ports that were free a moment ago, all different.
///
/// # Panics
/// When the host has none.
pub fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    held.iter()
        .map(|listener| listener.local_addr().expect("bound").port())
        .collect()
}
