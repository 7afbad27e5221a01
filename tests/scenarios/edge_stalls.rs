//! No stalled client survives its default deadline, in clear and over TLS; all wait at the same time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::edge::Site;
use harness::raw::{Raw, Seen};
use rustls::ClientConfig;

/// What a busy machine may add to a deadline, and what a farewell may take.
const SLACK: Duration = Duration::from_secs(6);

/// The connection preface of HTTP/2, an empty SETTINGS and the acknowledgement of the other one.
const PREFACE: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";

/// HEADERS of stream 1, `:method: GET`, without END_HEADERS.
const HEADERS_WITHOUT_END: &[u8] = b"\0\0\x01\x01\0\0\0\0\x01\x82";

/// What a client does before it stalls, how long it may, and what it must be told.
struct Stall {
    name: &'static str,
    /// Sent as one piece.
    sends: Vec<u8>,
    /// Read before the clock starts.
    first: fn(&[u8]) -> bool,
    /// Sent again and again, a byte every four seconds.
    drips: bool,
    deadline: u64,
    goaway: bool,
    protocol: &'static str,
}

fn stall(name: &'static str, sends: &[u8], deadline: u64) -> Stall {
    Stall {
        name,
        sends: sends.to_vec(),
        first: |_| true,
        drips: false,
        deadline,
        goaway: false,
        protocol: "http/1.1",
    }
}

fn stalls() -> Vec<Stall> {
    let post = b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nhalf";
    let mut headers = PREFACE.to_vec();
    headers.extend(HEADERS_WITHOUT_END);
    vec![
        stall("silent", b"", 10),
        stall("PRI", b"PRI", 10),
        stall("half a request line", b"GET /ha", 10),
        stall(
            "half a head",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX-",
            10,
        ),
        stall("a body stalls", post, 30),
        Stall {
            drips: true,
            ..stall("a body drips", post, 30)
        },
        Stall {
            first: |seen| seen.ends_with(b"}"),
            ..stall(
                "idle keep-alive",
                b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
                60,
            )
        },
        Stall {
            goaway: true,
            protocol: "h2",
            ..stall("HTTP/2 without streams", PREFACE, 60)
        },
        Stall {
            goaway: true,
            protocol: "h2",
            ..stall("HTTP/2 HEADERS without an end", &headers, 10)
        },
    ]
}

/// Types of the frames in these bytes.
fn frame_types(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        types.push(head[3]);
        bytes = rest.get(length..).unwrap_or_default();
    }
    types
}

/// What is wrong with how a stalled connection ended.
fn judge(
    row: &Stall,
    way: &str,
    address: SocketAddr,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<(), String> {
    let mut raw = Raw::open(address, tls);
    raw.send(&row.sends);
    if !(row.first)(b"") {
        raw.read_until(Duration::from_secs(20), row.first);
    }
    let start = Instant::now();
    let deadline = Duration::from_secs(row.deadline);
    let mut bytes = Vec::new();
    let ended = loop {
        let patience = if row.drips {
            Duration::from_secs(4)
        } else {
            deadline + SLACK
        };
        let Seen {
            bytes: came,
            closed_after,
        } = raw.read_to_end(patience);
        bytes.extend(came);
        if closed_after.is_some() || start.elapsed() > deadline + SLACK {
            break closed_after.is_some();
        }
        raw.send(b"x");
    };
    let took = start.elapsed();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let wrong = |what: &str| {
        Err(format!(
            "{} ({way}): {what} after {took:?}; it was sent {text:?}",
            row.name
        ))
    };
    if !ended {
        return wrong("still open");
    }
    if took + Duration::from_secs(1) < deadline || took > deadline + SLACK {
        return wrong(&format!("closed, but not about {deadline:?}"));
    }
    if row.goaway && !frame_types(&bytes).contains(&7) {
        return wrong("no GOAWAY");
    }
    Ok(())
}

#[test]
fn every_stall_ends_at_its_default_deadline_in_clear_and_over_tls() {
    let site = Site::start();
    let mut edge = site.edge("", "");
    let (http, https) = (edge.address("http"), edge.address("https"));
    let mut threads = Vec::new();
    for row in stalls() {
        threads.push(std::thread::spawn(move || judge(&row, "clear", http, None)));
    }
    for row in stalls() {
        let config = site.authority.client(&[row.protocol]);
        threads.push(std::thread::spawn(move || {
            judge(&row, "TLS", https, Some(&config))
        }));
    }
    // No ClientHello, and half of one: 22 is a handshake record, 512 bytes are promised.
    for (name, sends) in [
        ("no ClientHello", &b""[..]),
        ("half a ClientHello", b"\x16\x03\x01\x02\x00\x01"),
    ] {
        let row = stall(name, sends, 10);
        threads.push(std::thread::spawn(move || judge(&row, "TLS", https, None)));
    }
    let failures: Vec<String> = threads
        .into_iter()
        .filter_map(|thread| thread.join().expect("joins").err())
        .collect();
    assert!(
        failures.is_empty(),
        "{} stalls:\n{}",
        failures.len(),
        failures.join("\n")
    );
    // The next client is served.
    let (status, _) = harness::edge::get(http, "/");
    assert_eq!(status, 200);
}
