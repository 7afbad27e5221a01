//! The laws of the parsers on generated input: the bodies of the fuzz targets, run on stable.

use proptest::prelude::*;

#[path = "../fuzz/laws/chunked.rs"]
mod chunked;
#[path = "../fuzz/laws/request_head.rs"]
mod request_head;
#[path = "../fuzz/laws/response_head.rs"]
mod response_head;
#[path = "../fuzz/laws/target.rs"]
mod target;

/// Pieces that heads are made of, right and wrong ones: glued at random they reach further than random bytes do.
const PIECES: [&[u8]; 34] = [
    b"GET ",
    b"POST ",
    b"CONNECT ",
    b"/",
    b"/a?b",
    b"http://a/",
    b"*",
    b"a:1",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 204\r\n",
    b"HTTP/1.0 304 X\r\n",
    b"HTTP/1.1 101 S\r\n",
    b"Host: a\r\n",
    b"host: b@c\r\n",
    b"Content-Length: 5\r\n",
    b"content-length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: ,chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\n",
    b"Upgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"X: 1\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b":",
    b"\x80",
    b"x",
];

/// Pieces of the chunked coding.
const CHUNKS: [&[u8]; 14] = [
    b"1\r\nx\r\n",
    b"3;a=b\r\nxyz\r\n",
    b"A\r\n0123456789\r\n",
    b"0\r\n",
    b"0;e\r\n",
    b"\r\n",
    b"X: 1\r\n",
    b"Y:\r\n",
    b"\n",
    b"\r",
    b";",
    b"f",
    b"x",
    b"\x0c",
];

/// Messages that are served, to be spoilt.
const SEEDS: [&[u8]; 6] = [
    b"POST /a?b HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"\r\nGET http://[::1]/ HTTP/1.1\r\nHost: [::1]\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
];

fn glued(pieces: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(pieces), 0..12).prop_map(|all| all.concat())
}

/// A seed with some bytes replaced, removed or put in.
fn spoilt() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), prop::sample::select(&b"\r\n \t:,;\0/#@"[..]),];
    let change = (any::<prop::sample::Index>(), byte, 0..3_u8);
    let changes = prop::collection::vec(change, 0..4);
    (prop::sample::select(&SEEDS[..]), changes).prop_map(|(seed, changes)| {
        let mut bytes = seed.to_vec();
        for (place, byte, kind) in changes {
            let at = place.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

/// Start lines (four of requests, then of responses) and field lines, for whole heads: most of them are complete, many say something twice.
const STARTS: [&str; 7] = [
    "GET / HTTP/1.1",
    "POST /a?b HTTP/1.1",
    "GET http://a/ HTTP/1.1",
    "POST / HTTP/1.0",
    "HTTP/1.1 200 OK",
    "HTTP/1.1 204 No Content",
    "HTTP/1.0 200 OK",
];
const LINES: [&str; 9] = [
    "Host: a",
    "host: b",
    "Content-Length: 5",
    "Content-Length: 0",
    "Transfer-Encoding: chunked",
    "Connection: upgrade, keep-alive",
    "Upgrade: websocket",
    "X: 1",
    "X:\r\n folded",
];

fn assembled(starts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::collection::vec(prop::sample::select(&LINES[..]), 0..5);
    (prop::sample::select(starts), any::<bool>(), lines).prop_map(|(start, host, lines)| {
        let host = if host { "Host: a\r\n" } else { "" };
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        format!("{start}\r\n{host}{lines}\r\nrest").into_bytes()
    })
}

fn heads(starts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let arbitrary = prop::collection::vec(any::<u8>(), 0..80);
    let long = (spoilt(), 0..600_usize).prop_map(|(mut bytes, count)| {
        let at = bytes.iter().position(|byte| *byte == b'/').unwrap_or(0);
        bytes.splice(at..at, std::iter::repeat_n(b'/', count));
        bytes
    });
    prop_oneof![1 => arbitrary, 4 => glued(&PIECES), 4 => spoilt(), 6 => assembled(starts), 1 => long]
}

/// Whole chunked bodies with trailers and bytes after them, at times with a piece too many.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let chunks = prop::collection::vec(prop::sample::select(&CHUNKS[..3]), 0..4);
    let trailers = prop::collection::vec(prop::sample::select(&CHUNKS[6..8]), 0..3);
    let odd = prop::option::weighted(0.3, prop::sample::select(&CHUNKS[..]));
    (chunks, trailers, odd, any::<prop::sample::Index>()).prop_map(
        |(chunks, trailers, odd, place)| {
            let mut pieces =
                [chunks, vec![CHUNKS[3]], trailers, vec![CHUNKS[5], b"GET /"]].concat();
            if let Some(odd) = odd {
                pieces.insert(place.index(pieces.len()), odd);
            }
            pieces.concat()
        },
    )
}

/// Paths that are mostly served, of what normalising is about; and texts that mostly are not.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "/(/|a|\\.|\\.\\.|/\\.|/\\.\\./){0,8}(\\?x/\\.\\./%2f)?",
        3 => "/(/|a|\\.|%2[eE]|%25|%7e|%61|;|%e2|a/){0,8}(\\?)?",
        1 => "/[a.%/~\\\\?0-9A-Fa-f;#]{0,40}",
        1 => "/a(%2[fF]|%5[cC]|%0[0aA]|%7f|%25|%[0-9A-Fa-f]{2}){0,3}",
        1 => "\\PC{0,60}",
    ]
}

proptest! {
    #[test]
    fn request_heads(bytes in heads(&STARTS[..4])) {
        request_head::check(&bytes);
    }

    #[test]
    fn response_heads(bytes in heads(&STARTS[4..])) {
        response_head::check(&bytes);
    }

    #[test]
    fn chunked_bodies(
        bytes in prop_oneof![3 => bodies(), 2 => glued(&CHUNKS), 1 => prop::collection::vec(any::<u8>(), 0..80)],
    ) {
        chunked::check(&bytes);
    }

    #[test]
    fn targets(text in texts()) {
        target::check(text.as_bytes());
    }
}

#[test]
fn the_seeds_are_served() {
    use edge::http1::{HeadLimits, ResponseTo, parse_request, parse_response};
    let limits = HeadLimits {
        bytes: 512,
        lines: 12,
    };
    let to = ResponseTo {
        is_head: false,
        is_connect: false,
    };
    for seed in SEEDS {
        let served = if seed.starts_with(b"HTTP") {
            parse_response(seed, &limits, to).map(|head| head.is_some())
        } else {
            parse_request(seed, &limits).map(|head| head.is_some())
        };
        assert_eq!(served, Ok(true), "{}", seed.escape_ascii());
    }
}
