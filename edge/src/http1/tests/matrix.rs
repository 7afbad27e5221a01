//! The framing matrix (proxy-features study, 3.4): one row for each case, refused with its reason.

use super::{LIMITS, decode, request, show};
use crate::http1::{BodyDecoder, HeadLimits, Refused, parse_request};

/// Reads a request as the engine does: the head, then its body.
fn judge(bytes: &[u8], limits: &HeadLimits) -> Result<(), Refused> {
    let Some(head) = parse_request(bytes, limits)? else {
        panic!("incomplete: {}", show(bytes));
    };
    let (_, body, _) = decode(BodyDecoder::request(&head.body), &bytes[head.len..])?;
    assert!(body.is_end(), "the body is incomplete: {}", show(bytes));
    Ok(())
}

/// A POST with these lines after Host, and what follows the head.
fn post(lines: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn get(target: &str, host_lines: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\n{host_lines}\r\n").into_bytes()
}

fn check(rows: &[(&str, Vec<u8>, Refused, u16)]) {
    for (name, bytes, why, status) in rows {
        assert_eq!(judge(bytes, &LIMITS), Err(*why), "{name}");
        assert_eq!(why.status(), *status, "{name}");
    }
}

#[test]
fn what_the_rows_are_made_of_is_served_without_the_fault() {
    for bytes in [
        post("Content-Length: 1\r\n", "x"),
        chunked("1\r\nx\r\n0\r\n\r\n"),
        chunked("1;a=b\r\nx\r\n0\r\nX-T: 1\r\n\r\n"),
        post("X: a b\r\n", ""),
        post("Expect: 100-continue\r\nContent-Length: 1\r\n", "x"),
        get("/", "Host: a\r\n"),
        get("http://a/", "Host: A\r\n"),
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
    ] {
        assert_eq!(judge(&bytes, &LIMITS), Ok(()), "{}", show(&bytes));
    }
}

#[test]
fn rows_about_content_length_and_transfer_encoding() {
    let te = "Transfer-Encoding: chunked\r\n";
    let empty = "0\r\n\r\n";
    let twice = format!("{te}{te}");
    let both = format!("Content-Length: 5\r\n{te}");
    let both_turned = format!("{te}Content-Length: 5\r\n");
    check(&[
        ("CL + TE", post(&both, empty), Refused::LengthAndCoding, 400),
        (
            "TE + CL",
            post(&both_turned, empty),
            Refused::LengthAndCoding,
            400,
        ),
        (
            "TE: chunked twice",
            post(&twice, empty),
            Refused::TransferEncoding,
            400,
        ),
        (
            "TE: ,chunked",
            post("Transfer-Encoding: ,chunked\r\n", empty),
            Refused::TransferEncoding,
            400,
        ),
        (
            "TE: chunked, chunked",
            post("Transfer-Encoding: chunked, chunked\r\n", empty),
            Refused::TransferEncoding,
            400,
        ),
        (
            "TE: xchunked",
            post("Transfer-Encoding: xchunked\r\n", empty),
            Refused::TransferEncoding,
            400,
        ),
        (
            "TE: identity",
            post("Transfer-Encoding: identity\r\n", ""),
            Refused::TransferEncoding,
            400,
        ),
        (
            "TE: gzip, chunked",
            post("Transfer-Encoding: gzip, chunked\r\n", empty),
            Refused::TransferEncoding,
            400,
        ),
        (
            "TE: chunked;q=1",
            post("Transfer-Encoding: chunked;q=1\r\n", empty),
            Refused::TransferEncoding,
            400,
        ),
        (
            "TE: \"chunked\"",
            post("Transfer-Encoding: \"chunked\"\r\n", empty),
            Refused::TransferEncoding,
            400,
        ),
        (
            "TE empty",
            post("Transfer-Encoding:\r\n", ""),
            Refused::TransferEncoding,
            400,
        ),
        (
            "CL twice, equal",
            post("Content-Length: 1\r\nContent-Length: 1\r\n", "x"),
            Refused::SeveralContentLengths,
            400,
        ),
        (
            "CL twice, differing",
            post("Content-Length: 1\r\nContent-Length: 2\r\n", "x"),
            Refused::SeveralContentLengths,
            400,
        ),
        (
            "CL: 1, 1",
            post("Content-Length: 1, 1\r\n", "x"),
            Refused::SeveralContentLengths,
            400,
        ),
        (
            "CL signed",
            post("Content-Length: +1\r\n", "x"),
            Refused::ContentLength,
            400,
        ),
        (
            "CL negative",
            post("Content-Length: -1\r\n", "x"),
            Refused::ContentLength,
            400,
        ),
        (
            "CL empty",
            post("Content-Length:\r\n", "x"),
            Refused::ContentLength,
            400,
        ),
        (
            "CL 0x1",
            post("Content-Length: 0x1\r\n", "x"),
            Refused::ContentLength,
            400,
        ),
        (
            "CL 1 1",
            post("Content-Length: 1 1\r\n", "x"),
            Refused::ContentLength,
            400,
        ),
        (
            "CL over u64",
            post("Content-Length: 18446744073709551616\r\n", "x"),
            Refused::ContentLength,
            400,
        ),
        (
            "TE: chunked on HTTP/1.0",
            b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            Refused::CodingInHttp10,
            400,
        ),
    ]);
}

#[test]
fn rows_about_chunks() {
    check(&[
        (
            "bare LF after a chunk size",
            chunked("1\nx\r\n0\r\n\r\n"),
            Refused::ChunkSize,
            400,
        ),
        (
            "bare CR after a chunk size",
            chunked("1\rx\r\n0\r\n\r\n"),
            Refused::ChunkSize,
            400,
        ),
        (
            "0x chunk size",
            chunked("0x1\r\nx\r\n0\r\n\r\n"),
            Refused::ChunkSize,
            400,
        ),
        (
            "empty chunk size",
            chunked("\r\nx\r\n0\r\n\r\n"),
            Refused::ChunkSize,
            400,
        ),
        (
            "signed chunk size",
            chunked("+1\r\nx\r\n0\r\n\r\n"),
            Refused::ChunkSize,
            400,
        ),
        (
            "space before a chunk size",
            chunked(" 1\r\nx\r\n0\r\n\r\n"),
            Refused::ChunkSize,
            400,
        ),
        (
            "space after a chunk size",
            chunked("1 \r\nx\r\n0\r\n\r\n"),
            Refused::ChunkSize,
            400,
        ),
        (
            "17 digits",
            chunked("00000000000000001\r\nx\r\n0\r\n\r\n"),
            Refused::ChunkSize,
            400,
        ),
        (
            "LF in a chunk extension",
            chunked("1;a\nb\r\nx\r\n0\r\n\r\n"),
            Refused::ChunkExtension,
            400,
        ),
        (
            "NUL in a chunk extension",
            chunked("1;a\0b\r\nx\r\n0\r\n\r\n"),
            Refused::ChunkExtension,
            400,
        ),
        (
            "CR in a chunk extension",
            chunked("1;a\rb\r\nx\r\n0\r\n\r\n"),
            Refused::ChunkSize,
            400,
        ),
        (
            "bad chunk end",
            chunked("1\r\nxy\r\n0\r\n\r\n"),
            Refused::ChunkEnd,
            400,
        ),
        (
            "chunk end of bare LF",
            chunked("1\r\nx\n0\r\n\r\n"),
            Refused::ChunkEnd,
            400,
        ),
        (
            "last chunk of bare LF",
            chunked("0\n\n"),
            Refused::ChunkSize,
            400,
        ),
        (
            "trailers end in bare LF",
            chunked("0\r\n\n"),
            Refused::Trailers,
            400,
        ),
        (
            "trailer of bare LF",
            chunked("0\r\nX: 1\n\r\n"),
            Refused::Trailers,
            400,
        ),
        (
            "bare CR at the end of a trailer",
            chunked("0\r\nX: 1\r\r\n\r\n"),
            Refused::Trailers,
            400,
        ),
        (
            "form feed in a trailer",
            chunked("0\r\nX:\u{c}1\r\n\r\n"),
            Refused::Trailers,
            400,
        ),
        (
            "folded trailer",
            chunked("0\r\nX: 1\r\n 2\r\n\r\n"),
            Refused::Trailers,
            400,
        ),
        (
            "trailer without a name",
            chunked("0\r\n: 1\r\n\r\n"),
            Refused::Trailers,
            400,
        ),
        (
            "space before a trailer's colon",
            chunked("0\r\nX : 1\r\n\r\n"),
            Refused::Trailers,
            400,
        ),
    ]);
}

#[test]
fn rows_about_lines() {
    check(&[
        (
            "bare LF header lines",
            b"GET / HTTP/1.1\nHost: a\n\n".to_vec(),
            Refused::BareLineEnd,
            400,
        ),
        (
            "one bare LF",
            b"GET / HTTP/1.1\r\nX: 1\nHost: a\r\n\r\n".to_vec(),
            Refused::BareLineEnd,
            400,
        ),
        (
            "bare LF at the end of the head",
            b"GET / HTTP/1.1\r\nHost: a\r\n\n".to_vec(),
            Refused::BareLineEnd,
            400,
        ),
        (
            "CR in a value",
            post("X: a\rb\r\n", ""),
            Refused::BareLineEnd,
            400,
        ),
        (
            "CR at the end of a value",
            post("X: a\r\r\n", ""),
            Refused::BareLineEnd,
            400,
        ),
        (
            "NUL in a value",
            post("X: a\0b\r\n", ""),
            Refused::FieldValue,
            400,
        ),
        (
            "DEL in a value",
            post("X: a\u{7f}b\r\n", ""),
            Refused::FieldValue,
            400,
        ),
        (
            "space before colon",
            post("Content-Length : 0\r\n", ""),
            Refused::FieldLine,
            400,
        ),
        (
            "tab before colon",
            post("X\t: 0\r\n", ""),
            Refused::FieldLine,
            400,
        ),
        ("empty name", post(": 1\r\n", ""), Refused::FieldLine, 400),
        ("no colon", post("X\r\n", ""), Refused::FieldLine, 400),
        ("obs-fold", post("X: 1\r\n 2\r\n", ""), Refused::Folded, 400),
        (
            "obs-fold by tab",
            post("X: 1\r\n\t2\r\n", ""),
            Refused::Folded,
            400,
        ),
        (
            "fold after the request line",
            b"GET / HTTP/1.1\r\n X: 1\r\nHost: a\r\n\r\n".to_vec(),
            Refused::Folded,
            400,
        ),
        (
            "HTTP/1.9",
            b"GET / HTTP/1.9\r\nHost: a\r\n\r\n".to_vec(),
            Refused::Version,
            505,
        ),
        (
            "HTTP/2.0",
            b"GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_vec(),
            Refused::Version,
            505,
        ),
        (
            "unknown Expect",
            post("Expect: 200-ok\r\n", ""),
            Refused::Expectation,
            417,
        ),
        (
            "empty Expect",
            post("Expect:\r\n", ""),
            Refused::Expectation,
            417,
        ),
        (
            "101 header lines",
            post(&"X: 1\r\n".repeat(100), ""),
            Refused::TooManyLines,
            431,
        ),
        (
            "1000 header lines",
            post(&"X: 1\r\n".repeat(999), ""),
            Refused::TooManyLines,
            431,
        ),
    ]);
    // One fewer is served.
    assert_eq!(judge(&post(&"X: 1\r\n".repeat(99), ""), &LIMITS), Ok(()));
}

#[test]
fn rows_about_target_and_host() {
    let host = "Host: a\r\n";
    check(&[
        ("no Host on 1.1", get("/", ""), Refused::NoHost, 400),
        (
            "two Hosts",
            get("/", "Host: a\r\nHost: b\r\n"),
            Refused::SeveralHosts,
            400,
        ),
        (
            "two equal Hosts",
            get("/", "Host: a\r\nhost: a\r\n"),
            Refused::SeveralHosts,
            400,
        ),
        (
            "absolute target ≠ Host",
            get("http://b/", host),
            Refused::HostDiffers,
            400,
        ),
        (
            "absolute target ≠ Host by port",
            get("http://a:81/", host),
            Refused::HostDiffers,
            400,
        ),
        (
            "absolute target without Host",
            get("http://a/", ""),
            Refused::NoHost,
            400,
        ),
        (
            "userinfo in an absolute target",
            get("http://u@a/", host),
            Refused::Target,
            400,
        ),
        (
            "unknown scheme",
            get("ftp://a/", host),
            Refused::Target,
            400,
        ),
        ("# in the target", get("/a#b", host), Refused::Target, 400),
        (
            "backslash in the path",
            get("/a\\b", host),
            Refused::Target,
            400,
        ),
        ("no slash", get("a", host), Refused::Target, 400),
        ("asterisk with GET", get("*", host), Refused::Target, 400),
        (
            "0x80 in the target",
            get("/\u{e9}", host),
            Refused::Target,
            400,
        ),
        (
            "userinfo in Host",
            get("/", "Host: u@a\r\n"),
            Refused::Host,
            400,
        ),
        ("empty Host", get("/", "Host:\r\n"), Refused::Host, 400),
        ("Host list", get("/", "Host: a, b\r\n"), Refused::Host, 400),
        (
            "path in Host",
            get("/", "Host: a/b\r\n"),
            Refused::Host,
            400,
        ),
        (
            "space in Host",
            get("/", "Host: a b\r\n"),
            Refused::Host,
            400,
        ),
        (
            "port that is none",
            get("/", "Host: a:b\r\n"),
            Refused::Host,
            400,
        ),
        (
            "port over 65535",
            get("/", "Host: a:65536\r\n"),
            Refused::Host,
            400,
        ),
        ("two ports", get("/", "Host: a:1:2\r\n"), Refused::Host, 400),
        (
            "open bracket",
            get("/", "Host: [::1\r\n"),
            Refused::Host,
            400,
        ),
        (
            "bracket and more",
            get("/", "Host: [::1]a\r\n"),
            Refused::Host,
            400,
        ),
        (
            "no address in brackets",
            get("/", "Host: [a]\r\n"),
            Refused::Host,
            400,
        ),
    ]);
}

#[test]
fn upgrade_to_h2c_is_ignored() {
    let ask = |protocol: &str| {
        let lines =
            format!("Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\n");
        let bytes = get("/", &lines);
        request(&bytes).upgrade.map(str::to_owned)
    };
    assert_eq!(ask("h2c"), None);
    assert_eq!(ask("H2C"), None);
    assert_eq!(ask("h2c, websocket"), None);
    assert_eq!(ask("websocket").as_deref(), Some("websocket"));
}
