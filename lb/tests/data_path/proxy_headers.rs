//! PROXY protocol: believed from trusted networks only, sent before the client's first byte.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::harness::{PATIENCE, Plan, Rig, assert_echoes, echo_origin, is_reset, origin, upstream};
use dataplane::proxy_protocol::ProxyVersion;
use dataplane::upstream::UpstreamSettings;
use lb::shard::Timeouts;
use lb::totals::End;

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.9 5555 443\r\n";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A v2 header for the same parties, with a TLV of four bytes behind the addresses.
fn v2() -> Vec<u8> {
    let mut header = V2_SIGNATURE.to_vec();
    header.extend([0x21, 0x11, 0, 12 + 7, 192, 0, 2, 7, 198, 51, 100, 9]);
    header.extend(5555_u16.to_be_bytes());
    header.extend(443_u16.to_be_bytes());
    header.extend([0x04, 0, 4, 1, 2, 3, 4]);
    header
}

fn trusting() -> Plan {
    Plan {
        proxy_protocol_in: true,
        trusted: vec!["127.0.0.0/8"],
        ..Plan::default()
    }
}

/// A rig that sends a v1 header to an origin which returns every byte, that header too.
fn reporting(plan: &Plan) -> Rig {
    let settings = UpstreamSettings {
        proxy_protocol_out: Some(ProxyVersion::V1),
        ..UpstreamSettings::default()
    };
    Rig::start(plan, upstream(&[echo_origin()], settings))
}

fn all_that_comes(client: &mut TcpStream) -> String {
    client.shutdown(Shutdown::Write).unwrap();
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_header_names_the_client_and_is_not_part_of_the_stream() {
    let rig = reporting(&trusting());
    for header in [V1.to_vec(), v2()] {
        let mut client = rig.client();
        client
            .write_all(&[&header, &b"payload"[..]].concat())
            .unwrap();
        let expected = format!("{}payload", String::from_utf8_lossy(V1));
        assert_eq!(all_that_comes(&mut client), expected);
    }
    rig.until_ended(End::Finished, 2);
    rig.until_empty();
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let rig = reporting(&trusting());
    for header in [V1.to_vec(), v2()] {
        let mut client = rig.client();
        for byte in header.iter().chain(b"payload") {
            client.write_all(&[*byte]).unwrap();
            std::thread::yield_now();
        }
        assert!(all_that_comes(&mut client).ends_with("443\r\npayload"));
    }
    rig.until_empty();
}

#[test]
fn a_header_that_names_nobody_leaves_the_peer_as_the_client() {
    let rig = reporting(&trusting());
    let mut local = V2_SIGNATURE.to_vec();
    local.extend([0x20, 0, 0, 0]);
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), local] {
        let mut client = rig.client();
        let (from, to) = (client.local_addr().unwrap().port(), rig.address.port());
        client.write_all(&header).unwrap();
        client.write_all(b"check").unwrap();
        let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\ncheck");
        assert_eq!(all_that_comes(&mut client), expected);
    }
}

#[test]
fn a_peer_outside_the_trusted_networks_is_refused_whatever_it_says() {
    let plan = Plan {
        trusted: vec!["192.0.2.0/24", "2001:db8::/32"],
        ..trusting()
    };
    let rig = reporting(&plan);
    let mut client = rig.client();
    // The reset may be there before the write.
    assert!(client.write_all(V1).is_err() || is_reset(&mut client));
    rig.until_ended(End::UntrustedPeer, 1);
    assert_eq!(rig.totals().bytes_to_backends, 0);
}

#[test]
fn what_is_not_a_header_is_refused() {
    let rig = reporting(&trusting());
    let mut endless = b"PROXY TCP4 ".to_vec();
    endless.resize(2000, b'1');
    let bad: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.9 99999 443\r\n",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\xff\xff\xff\xff",
        &endless,
    ];
    for (count, bytes) in (1..).zip(bad) {
        let mut client = rig.client();
        let _ = client.write_all(bytes);
        assert!(
            is_reset(&mut client),
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
        rig.until_ended(End::BadProxyHeader, count);
    }
    // An end of file in the middle is no header either.
    let mut client = rig.client();
    client.write_all(&V1[..20]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(is_reset(&mut client));
    rig.until_ended(End::BadProxyHeader, 6);
    rig.until_empty();
    assert_eq!(rig.totals().bytes_to_backends, 0);
}

#[test]
fn a_header_that_does_not_come_in_time_is_not_waited_for() {
    let timeouts = Timeouts {
        proxy_header: Duration::from_millis(300),
        ..Timeouts::default()
    };
    let rig = reporting(&Plan {
        timeouts,
        ..trusting()
    });
    let mut client = rig.client();
    client.write_all(&V1[..20]).unwrap();
    assert!(is_reset(&mut client));
    rig.until_ended(End::ProxyHeaderTimeout, 1);
    rig.until_empty();
}

#[test]
fn backends_are_told_the_client_before_its_first_byte_and_once() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let (tell, told) = channel();
        let origin = origin(move |mut socket| {
            // The client says nothing until it has heard something.
            let mut start = [0; 12];
            socket.read_exact(&mut start).unwrap();
            socket.write_all(b"speak").unwrap();
            let mut rest = Vec::new();
            socket.read_to_end(&mut rest).unwrap();
            tell.send([&start[..], &rest].concat()).unwrap();
        });
        let settings = UpstreamSettings {
            proxy_protocol_out: Some(version),
            ..UpstreamSettings::default()
        };
        let rig = Rig::start(&Plan::default(), upstream(&[origin], settings));
        let mut client = rig.client();
        client.read_exact(&mut [0; 5]).unwrap();
        client.write_all(b"payload").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let got = told.recv_timeout(PATIENCE).unwrap();
        assert!(got.ends_with(b"payload"));
        let header = &got[..got.len() - 7];
        assert_eq!(
            header,
            expected(version, client.local_addr().unwrap(), rig.address)
        );
    }
}

fn expected(version: ProxyVersion, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    if matches!(version, ProxyVersion::V1) {
        return format!(
            "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n",
            from.port(),
            to.port()
        )
        .into_bytes();
    }
    let mut header = V2_SIGNATURE.to_vec();
    header.extend([0x21, 0x11, 0, 12, 127, 0, 0, 1, 127, 0, 0, 1]);
    header.extend(from.port().to_be_bytes());
    header.extend(to.port().to_be_bytes());
    header
}

#[test]
fn without_the_setting_a_header_is_ordinary_bytes() {
    let rig = Rig::before(echo_origin());
    let mut client = rig.client();
    client.write_all(V1).unwrap();
    assert_eq!(all_that_comes(&mut client).as_bytes(), V1);
    assert_echoes(&mut rig.client());
}
