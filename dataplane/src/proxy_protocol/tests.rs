//! What is a header, what is none, and that bytes of strangers do no harm.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;

use super::{Bad, HEADER_BYTES_MAX, Header, Parsed, ProxyVersion, encode, parse, v1, v2};

fn complete(bytes: &[u8]) -> (Header, usize) {
    match parse(bytes) {
        Ok(Parsed::Complete { header, length }) => (header, length),
        other => panic!("{other:?}: {bytes:?}"),
    }
}

fn between(source: &str, destination: &str) -> Header {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    Header {
        addresses: Some((address(source), address(destination))),
    }
}

/// A version 2 header with anything in it.
fn binary(version_and_command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).expect("a short block");
    let fixed = [
        &[version_and_command, family],
        length.to_be_bytes().as_slice(),
    ]
    .concat();
    [v2::SIGNATURE, fixed.as_slice(), block].concat()
}

const INET_BLOCK: [u8; 12] = [10, 0, 0, 1, 10, 0, 0, 2, 0x1F, 0x90, 0, 80];

#[test]
fn a_line_names_the_client() {
    for (line, source, destination) in [
        (
            "PROXY TCP4 192.0.2.1 198.51.100.7 51000 443\r\n",
            "192.0.2.1:51000",
            "198.51.100.7:443",
        ),
        (
            "PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n",
            "255.255.255.255:65535",
            "0.0.0.0:0",
        ),
        (
            "PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
            "[2001:db8::1]:1",
            "[::1]:2",
        ),
        (
            "PROXY TCP6 2001:DB8:0:0:0:0:0:1 ::1 1 2\r\n",
            "[2001:db8::1]:1",
            "[::1]:2",
        ),
        (
            "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n",
            "192.0.2.1:1",
            "[::1]:2",
        ),
    ] {
        let bytes = format!("{line}GET / HTTP/1.1\r\n");
        assert_eq!(
            complete(bytes.as_bytes()),
            (between(source, destination), line.len()),
            "{line}"
        );
    }
}

#[test]
fn a_line_may_name_nobody() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(v1::LINE_BYTES_MAX - 16));
    assert_eq!(longest.len(), v1::LINE_BYTES_MAX);
    for line in [
        "PROXY UNKNOWN\r\n",
        "PROXY UNKNOWN ::1 ::1 1 2\r\n",
        "PROXY UNKNOWN \u{e9}\r\n",
        &longest,
    ] {
        assert_eq!(
            complete(line.as_bytes()),
            (Header { addresses: None }, line.len()),
            "{line}"
        );
    }
}

#[test]
fn a_line_that_is_not_to_the_letter_is_refused() {
    let endless = format!("PROXY UNKNOWN {}", "f".repeat(v1::LINE_BYTES_MAX));
    let one_too_long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(v1::LINE_BYTES_MAX - 15));
    for (line, why) in [
        ("GET / HTTP/1.1\r\n\r\n", Bad::NotAHeader),
        ("proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n", Bad::NotAHeader),
        (" PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", Bad::NotAHeader),
        ("PROXY\r\n", Bad::NotAHeader),
        ("PROXY \r\n", Bad::LineGrammar),
        ("PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n", Bad::LineGrammar),
        ("PROXY UNKNOWNS\r\n", Bad::LineGrammar),
        ("PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n", Bad::LineGrammar),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", Bad::LineGrammar),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", Bad::LineGrammar),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n", Bad::LineGrammar),
        ("PROXY TCP4 \u{663}.1.1.1 2.2.2.2 1 2\r\n", Bad::Address),
        ("PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n", Bad::Address),
        ("PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n", Bad::Address),
        ("PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n", Bad::Address),
        ("PROXY TCP4 1.1.1.1 ::1 1 2\r\n", Bad::Address),
        ("PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n", Bad::Address),
        ("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", Bad::Address),
        ("PROXY TCP6 [::1] ::1 1 2\r\n", Bad::Address),
        ("PROXY TCP4  1.1.1.1 2.2.2.2 1\r\n", Bad::Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", Bad::Port),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n", Bad::Port),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n", Bad::Port),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n", Bad::Port),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 0x2\r\n", Bad::Port),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 \r\n", Bad::Port),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", Bad::LineEnd),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\r\n", Bad::LineEnd),
        ("PROXY UNKNOWN \n\r\n", Bad::LineEnd),
        (&endless, Bad::LineTooLong),
        (&one_too_long, Bad::LineTooLong),
    ] {
        assert_eq!(parse(line.as_bytes()), Err(why), "{line:?}");
    }
}

#[test]
fn a_binary_header_names_the_client() {
    let v4 = between("10.0.0.1:8080", "10.0.0.2:80");
    for family in [0x11, 0x12] {
        let bytes = binary(0x21, family, &INET_BLOCK);
        assert_eq!(complete(&bytes), (v4, 28));
        assert_eq!(
            complete(&[&bytes[..], b"and more"].concat()),
            (v4, 28),
            "what follows is the client's"
        );
    }
    let block = [
        &Ipv6Addr::LOCALHOST.octets()[..],
        &Ipv6Addr::LOCALHOST.octets(),
        &[0, 1, 0, 2],
    ]
    .concat();
    for family in [0x21, 0x22] {
        assert_eq!(
            complete(&binary(0x21, family, &block)),
            (between("[::1]:1", "[::1]:2"), 52)
        );
    }
}

#[test]
fn a_binary_header_may_name_nobody() {
    let nobody = Header { addresses: None };
    for (bytes, length) in [
        (binary(0x20, 0x00, &[]), 16),
        (binary(0x20, 0x11, &INET_BLOCK), 28),
        (binary(0x20, 0xFF, b"ignored with its family"), 39),
        (binary(0x21, 0x00, &[]), 16),
        (binary(0x21, 0x00, b"anything"), 24),
        (binary(0x21, 0x31, &[7; 216]), 232),
        (
            binary(0x21, 0x32, &[&[7; 216][..], &[4, 0, 1, 0]].concat()),
            236,
        ),
    ] {
        assert_eq!(complete(&bytes), (nobody, length), "{bytes:?}");
    }
}

#[test]
fn tlvs_are_skipped_but_must_add_up() {
    let with = |tlvs: &[u8]| binary(0x21, 0x11, &[&INET_BLOCK, tlvs].concat());
    for tlvs in [
        &[][..],
        &[4, 0, 0],
        &[4, 0, 2, 9, 9],
        &[4, 0, 0, 0xEA, 0, 1, 7],
    ] {
        assert_eq!(complete(&with(tlvs)).1, 28 + tlvs.len(), "{tlvs:?}");
    }
    for tlvs in [
        &[4][..],
        &[4, 0],
        &[4, 0, 1],
        &[4, 0xFF, 0xFF, 1],
        &[4, 0, 0, 4, 0],
    ] {
        assert_eq!(parse(&with(tlvs)), Err(Bad::Tlv), "{tlvs:?}");
    }
}

#[test]
fn a_binary_header_that_makes_no_sense_is_refused() {
    for (bytes, why) in [
        (binary(0x11, 0x11, &INET_BLOCK), Bad::Version(1)),
        (binary(0x31, 0x11, &INET_BLOCK), Bad::Version(3)),
        (binary(0x22, 0x11, &INET_BLOCK), Bad::Command(2)),
        (binary(0x21, 0x10, &INET_BLOCK), Bad::Family(0x10)),
        (binary(0x21, 0x13, &INET_BLOCK), Bad::Family(0x13)),
        (binary(0x21, 0x41, &INET_BLOCK), Bad::Family(0x41)),
        (binary(0x21, 0x01, &INET_BLOCK), Bad::Family(0x01)),
        (binary(0x21, 0x11, &INET_BLOCK[..11]), Bad::AddressBlock),
        (binary(0x21, 0x11, &[]), Bad::AddressBlock),
        (binary(0x21, 0x21, &[0; 35]), Bad::AddressBlock),
        (binary(0x21, 0x31, &[0; 215]), Bad::AddressBlock),
        (
            binary(0x21, 0x00, &[0; HEADER_BYTES_MAX - 15]),
            Bad::TooLong(HEADER_BYTES_MAX + 1),
        ),
        (binary(0x20, 0x00, &[0; 65_535]), Bad::TooLong(65_551)),
    ] {
        assert_eq!(parse(&bytes), Err(why));
    }
    let longest = binary(0x21, 0x00, &[0; HEADER_BYTES_MAX - 16]);
    assert_eq!(complete(&longest).1, HEADER_BYTES_MAX);
    let too_long = binary(0x21, 0x11, &[0; 600]);
    assert_eq!(
        parse(&too_long[..16]),
        Err(Bad::TooLong(616)),
        "known before it has arrived"
    );
}

#[test]
fn mixed_families_travel_as_ipv6_and_mapped_ones_as_ipv4() {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let v4 = address("192.0.2.1:1000");
    let v6 = address("[2001:db8::1]:80");
    let mapped = address("[::ffff:198.51.100.7]:443");
    let line = encode(ProxyVersion::V1, v4, v6);
    assert_eq!(line, b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 1000 80\r\n");
    let line = encode(ProxyVersion::V1, v4, mapped);
    assert_eq!(line, b"PROXY TCP4 192.0.2.1 198.51.100.7 1000 443\r\n");
    let bytes = encode(ProxyVersion::V2, v6, v4);
    assert_eq!((bytes[13], bytes.len()), (0x21, 52));
    assert_eq!(
        bytes[32..48],
        Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets()
    );
    let bytes = encode(ProxyVersion::V2, v4, mapped);
    assert_eq!((bytes[13], bytes.len()), (0x11, 28));
}

#[test]
fn versions_are_written_as_words() {
    for (version, word) in [(ProxyVersion::V1, "v1"), (ProxyVersion::V2, "v2")] {
        assert_eq!(version.as_str(), word);
        assert_eq!(word.parse(), Ok(version));
        assert_eq!(serde_json::to_value(version).expect("serialises"), word);
        assert_eq!(
            serde_json::from_value::<ProxyVersion>(word.into()).expect("reads"),
            version
        );
    }
    assert!("V1".parse::<ProxyVersion>().is_err());
}

fn version() -> impl Strategy<Value = ProxyVersion> {
    prop_oneof![Just(ProxyVersion::V1), Just(ProxyVersion::V2)]
}

fn address() -> impl Strategy<Value = SocketAddr> {
    any::<(std::net::IpAddr, u16)>().prop_map(SocketAddr::from)
}

/// Headers of both versions as others may write them, TLVs and nameless ones included.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let block = proptest::collection::vec(any::<u8>(), 0..=64);
    let tlvs = proptest::collection::vec(
        (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..=40)),
        0..=8,
    );
    let with_tlvs = tlvs.prop_map(|tlvs| {
        let mut whole = INET_BLOCK.to_vec();
        for (kind, value) in tlvs {
            whole.extend([kind, 0, u8::try_from(value.len()).expect("short")]);
            whole.extend(value);
        }
        binary(0x21, 0x11, &whole)
    });
    prop_oneof![
        (version(), address(), address()).prop_map(|(version, from, to)| encode(version, from, to)),
        with_tlvs,
        block.prop_map(|block| binary(0x20, 0x00, &block)),
        "PROXY UNKNOWN( [0-9a-f: ]{0,60})?\r\n".prop_map(String::into_bytes),
    ]
}

/// Bytes that get further than noise does.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let noise = || proptest::collection::vec(any::<u8>(), 0..700);
    prop_oneof![
        noise(),
        noise().prop_map(|noise| [v2::SIGNATURE, noise.as_slice()].concat()),
        noise().prop_map(|noise| [&v2::SIGNATURE[..], &[0x21, 0x11, 0, 200], &noise].concat()),
        noise().prop_map(|noise| [v1::OPENING, noise.as_slice()].concat()),
        "PROXY TCP[46] [0-9a-f.: ]{0,80}\r?\n?.{0,20}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(version in version(), from in address(), to in address(), rest: Vec<u8>) {
        let written = encode(version, from, to);
        prop_assert!(written.len() <= HEADER_BYTES_MAX);
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let header = Header { addresses: Some((canonical(from), canonical(to))) };
        let parsed = parse(&[&written[..], &rest[..]].concat());
        prop_assert_eq!(parsed, Ok(Parsed::Complete { header, length: written.len() }));
    }

    #[test]
    fn every_proper_prefix_of_a_header_is_incomplete(header in header()) {
        for length in 0..header.len() {
            prop_assert_eq!(parse(&header[..length]), Ok(Parsed::Incomplete), "{} bytes", length);
        }
        prop_assert_eq!(complete(&header).1, header.len());
    }

    #[test]
    fn any_bytes_are_judged_without_harm(bytes in nearly()) {
        match parse(&bytes) {
            Ok(Parsed::Complete { length, .. }) => prop_assert!(length <= bytes.len().min(HEADER_BYTES_MAX)),
            // However many bytes come, there is an answer.
            Ok(Parsed::Incomplete) => prop_assert!(bytes.len() < HEADER_BYTES_MAX),
            Err(_) => {}
        }
    }

    #[test]
    fn a_damaged_header_is_never_taken_for_a_longer_or_shorter_one(
        header in header(),
        place: proptest::sample::Index,
        damage in 1_u8..,
        rest in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut bytes = header.clone();
        bytes[place.index(header.len())] ^= damage;
        bytes.extend(rest);
        if let Ok(Parsed::Complete { length, .. }) = parse(&bytes) {
            let announced = if bytes.starts_with(v2::SIGNATURE) {
                16 + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]))
            } else {
                bytes.windows(2).position(|pair| pair == b"\r\n").expect("a line") + 2
            };
            prop_assert_eq!(length, announced);
        }
    }
}
