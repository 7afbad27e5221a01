//! What a connection costs that waits for its next request: resident memory, weighed on many of them.

use std::net::SocketAddr;
use std::time::Duration;

use harness::edge::Site;
use harness::proc::resident_kib;
use harness::raw::Raw;

const REQUEST: &[u8] = b"GET /bytes/16 HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// So many connections, each with one answer.
fn kept(
    address: SocketAddr,
    tls: Option<&std::sync::Arc<rustls::ClientConfig>>,
    count: usize,
) -> Vec<Raw> {
    (0..count)
        .map(|_| {
            let mut client = Raw::open(address, tls);
            client.send(REQUEST);
            let seen = client.read_until(Duration::from_secs(20), |bytes| {
                bytes.windows(4).any(|end| end == b"\r\n\r\n")
            });
            assert!(seen.bytes.starts_with(b"HTTP/1.1 200"), "{:?}", seen.bytes);
            client
        })
        .collect()
}

/// Bytes of each of `count`, beside what the first few hundred have filled.
fn weigh(pid: u32, count: usize, mut open: impl FnMut(usize) -> Vec<Raw>) -> u64 {
    let _first = open(300);
    let before = resident_kib(pid).expect("it lives");
    let _held = open(count);
    let after = resident_kib(pid).expect("it lives");
    after.saturating_sub(before) * 1024 / u64::try_from(count).expect("few")
}

#[test]
fn an_idle_connection_is_small_in_clear_and_over_tls() {
    let site = Site::start();
    let mut edge = site.edge("workers = 1\n", "");
    let (clear, tls) = (edge.address("http"), edge.address("https"));
    let in_clear = weigh(edge.pid(), 2000, |count| kept(clear, None, count));
    // 1.3 KiB today; HAProxy 1.1, measured in the same way.
    assert!(in_clear < 1700, "{in_clear} bytes in clear");
    let config = site.authority.client(&["http/1.1"]);
    let over_tls = weigh(edge.pid(), 600, |count| kept(tls, Some(&config), count));
    // 8 KiB today, nearly all of it rustls's; HAProxy 14.5, nginx 15.1.
    assert!(over_tls < 10_500, "{over_tls} bytes over TLS");
    println!("{in_clear} bytes in clear, {over_tls} over TLS");
}
