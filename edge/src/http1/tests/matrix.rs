//! The framing matrix (proxy-features study, 3.4): one row for each case, refused with its reason.

use super::{LIMITS, decode, request, show};
use crate::http1::{BodyDecoder, Refused, parse_request};

/// Reads a request as the engine does: the head, then its body.
fn judge(bytes: &[u8]) -> Result<(), Refused> {
    let Some(head) = parse_request(bytes, &LIMITS)? else {
        panic!("incomplete: {}", show(bytes));
    };
    let (_, body, _) = decode(BodyDecoder::request(&head.body), &bytes[head.len..])?;
    assert!(body.is_end(), "the body is incomplete: {}", show(bytes));
    Ok(())
}

/// A POST with these lines after Host, and what follows the head.
fn post(lines: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn get(target: &str, host_lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\n{host_lines}\r\n")
}

/// Rows of a name and what `message` makes a request of.
fn refused(why: Refused, rows: &[(&str, &str)], message: impl Fn(&str) -> String) {
    let status = match why {
        Refused::Version => 505,
        Refused::Expectation => 417,
        Refused::TooManyLines => 431,
        _ => 400,
    };
    assert_eq!(why.status(), status, "{why}");
    for (name, text) in rows {
        assert_eq!(judge(message(text).as_bytes()), Err(why), "{name}");
    }
}

fn lines_refused(why: Refused, rows: &[(&str, &str)]) {
    refused(why, rows, |lines| post(lines, ""));
}

fn chunks_refused(why: Refused, rows: &[(&str, &str)]) {
    refused(why, rows, |start| {
        chunked(&format!("{start}x\r\n0\r\n\r\n"))
    });
}

#[test]
fn what_the_rows_are_made_of_is_served_without_the_fault() {
    for message in [
        post("Content-Length: 1\r\n", "x"),
        chunked("1\r\nx\r\n0\r\n\r\n"),
        chunked("1;a=b\r\nx\r\n0\r\nX-T: 1\r\n\r\n"),
        post("X: a b\r\n", ""),
        post("Expect: 100-continue\r\nContent-Length: 1\r\n", "x"),
        post(&"X: 1\r\n".repeat(99), ""),
        get("/", "Host: a\r\n"),
        get("http://a/", "Host: A\r\n"),
        "GET / HTTP/1.0\r\n\r\n".to_owned(),
    ] {
        assert_eq!(judge(message.as_bytes()), Ok(()), "{message:?}");
    }
}

#[test]
fn rows_about_transfer_encoding() {
    lines_refused(
        Refused::LengthAndCoding,
        &[
            (
                "CL + TE",
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            ),
            (
                "TE + CL",
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            ),
        ],
    );
    lines_refused(
        Refused::TransferEncoding,
        &[
            (
                "TE: chunked twice",
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            ),
            ("TE: ,chunked", "Transfer-Encoding: ,chunked\r\n"),
            (
                "TE: chunked, chunked",
                "Transfer-Encoding: chunked, chunked\r\n",
            ),
            ("TE: xchunked", "Transfer-Encoding: xchunked\r\n"),
            ("TE: identity", "Transfer-Encoding: identity\r\n"),
            ("TE: gzip, chunked", "Transfer-Encoding: gzip, chunked\r\n"),
            ("TE: chunked;q=1", "Transfer-Encoding: chunked;q=1\r\n"),
            ("TE: quoted", "Transfer-Encoding: \"chunked\"\r\n"),
            ("TE: empty", "Transfer-Encoding: \r\n"),
        ],
    );
    refused(
        Refused::CodingInHttp10,
        &[("TE: chunked on HTTP/1.0", "Transfer-Encoding: chunked\r\n")],
        |lines| post(lines, "").replacen("HTTP/1.1", "HTTP/1.0", 1),
    );
}

#[test]
fn rows_about_content_length() {
    lines_refused(
        Refused::SeveralContentLengths,
        &[
            (
                "CL twice, equal",
                "Content-Length: 1\r\nContent-Length: 1\r\n",
            ),
            (
                "CL twice, differing",
                "Content-Length: 1\r\nContent-Length: 2\r\n",
            ),
            ("CL: 1, 1", "Content-Length: 1, 1\r\n"),
        ],
    );
    lines_refused(
        Refused::ContentLength,
        &[
            ("CL signed", "Content-Length: +1\r\n"),
            ("CL negative", "Content-Length: -1\r\n"),
            ("CL empty", "Content-Length:\r\n"),
            ("CL 0x1", "Content-Length: 0x1\r\n"),
            ("CL 1 1", "Content-Length: 1 1\r\n"),
            ("CL over u64", "Content-Length: 18446744073709551616\r\n"),
        ],
    );
}

#[test]
fn rows_about_chunks() {
    chunks_refused(
        Refused::ChunkSize,
        &[
            ("bare LF after a chunk size", "1\n"),
            ("bare CR after a chunk size", "1\r"),
            ("0x chunk size", "0x1\r\n"),
            ("empty chunk size", "\r\n"),
            ("signed chunk size", "+1\r\n"),
            ("space before a chunk size", " 1\r\n"),
            ("space after a chunk size", "1 \r\n"),
            ("17 digits", "00000000000000001\r\n"),
            ("CR in a chunk extension", "1;a\rb\r\n"),
            ("last chunk of bare LF", "0\n\n"),
        ],
    );
    chunks_refused(
        Refused::ChunkExtension,
        &[
            ("LF in a chunk extension", "1;a\nb\r\n"),
            ("NUL in a chunk extension", "1;a\0b\r\n"),
        ],
    );
    chunks_refused(
        Refused::ChunkEnd,
        &[
            ("bad chunk end", "1\r\nx"),
            ("chunk end of bare LF", "1\r\nx\n"),
            ("chunk end of bare CR", "1\r\nx\r"),
        ],
    );
    refused(
        Refused::Trailers,
        &[
            ("trailers end in bare LF", "\n"),
            ("trailer of bare LF", "X: 1\n"),
            ("bare CR at the end of a trailer", "X: 1\r\r\n"),
            ("form feed in a trailer", "X:\u{c}1\r\n"),
            ("folded trailer", "X: 1\r\n 2\r\n"),
            ("trailer without a name", ": 1\r\n"),
            ("space before a trailer's colon", "X : 1\r\n"),
        ],
        |trailers| chunked(&format!("0\r\n{trailers}\r\n")),
    );
}

#[test]
fn rows_about_lines() {
    refused(
        Refused::BareLineEnd,
        &[
            ("bare LF header lines", "GET / HTTP/1.1\nHost: a\n\n"),
            ("one bare LF", "GET / HTTP/1.1\r\nX: 1\nHost: a\r\n\r\n"),
            (
                "bare LF at the end of the head",
                "GET / HTTP/1.1\r\nHost: a\r\n\n",
            ),
        ],
        str::to_owned,
    );
    lines_refused(
        Refused::BareLineEnd,
        &[
            ("CR in a value", "X: a\rb\r\n"),
            ("CR at the end of a value", "X: a\r\r\n"),
        ],
    );
    lines_refused(
        Refused::FieldValue,
        &[
            ("NUL in a value", "X: a\0b\r\n"),
            ("DEL in a value", "X: a\u{7f}b\r\n"),
            ("form feed in a value", "X: \u{c}\r\n"),
        ],
    );
    lines_refused(
        Refused::FieldLine,
        &[
            ("space before colon", "Content-Length : 0\r\n"),
            ("tab before colon", "X\t: 0\r\n"),
            ("empty name", ": 1\r\n"),
            ("no colon", "X\r\n"),
        ],
    );
    lines_refused(
        Refused::Folded,
        &[
            ("obs-fold", "X: 1\r\n 2\r\n"),
            ("obs-fold by tab", "X: 1\r\n\t2\r\n"),
        ],
    );
    refused(
        Refused::Folded,
        &[(
            "fold after the request line",
            "GET / HTTP/1.1\r\n X: 1\r\nHost: a\r\n\r\n",
        )],
        str::to_owned,
    );
}

#[test]
fn rows_with_answers_of_their_own() {
    refused(
        Refused::Version,
        &[
            ("HTTP/1.9", "1.9"),
            ("HTTP/2.0", "2.0"),
            ("HTTP/0.9", "0.9"),
        ],
        |version| format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"),
    );
    lines_refused(
        Refused::Expectation,
        &[
            ("unknown Expect", "Expect: 200-ok\r\n"),
            ("empty Expect", "Expect:\r\n"),
        ],
    );
    for count in [100, 999] {
        let lines = "X: 1\r\n".repeat(count);
        lines_refused(Refused::TooManyLines, &[("101 header lines", &lines)]);
    }
}

#[test]
fn rows_about_the_target() {
    refused(
        Refused::HostDiffers,
        &[
            ("absolute target ≠ Host", "http://b/"),
            ("absolute target ≠ Host by port", "http://a:81/"),
        ],
        |target| get(target, "Host: a\r\n"),
    );
    refused(
        Refused::Target,
        &[
            ("userinfo in an absolute target", "http://u@a/"),
            ("unknown scheme", "ftp://a/"),
            ("# in the target", "/a#b"),
            ("backslash in the path", "/a\\b"),
            ("no slash", "a"),
            ("asterisk with GET", "*"),
            ("0x80 in the target", "/\u{e9}"),
        ],
        |target| get(target, "Host: a\r\n"),
    );
    refused(
        Refused::NoHost,
        &[
            ("absolute target without Host", "http://a/"),
            ("no Host on 1.1", "/"),
        ],
        |target| get(target, ""),
    );
}

#[test]
fn rows_about_host() {
    refused(
        Refused::SeveralHosts,
        &[
            ("two Hosts", "Host: a\r\nHost: b\r\n"),
            ("two equal Hosts", "Host: a\r\nhost: a\r\n"),
        ],
        |hosts| get("/", hosts),
    );
    refused(
        Refused::Host,
        &[
            ("userinfo in Host", "u@a"),
            ("empty Host", ""),
            ("Host list", "a, b"),
            ("path in Host", "a/b"),
            ("space in Host", "a b"),
            ("port that is none", "a:b"),
            ("port over 65535", "a:65536"),
            ("two ports", "a:1:2"),
            ("open bracket", "[::1"),
            ("bracket and more", "[::1]a"),
            ("no address in brackets", "[a]"),
        ],
        |host| get("/", &format!("Host: {host}\r\n")),
    );
}

#[test]
fn upgrade_to_h2c_is_ignored() {
    let ask = |protocol: &str| {
        let lines =
            format!("Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\n");
        let bytes = get("/", &lines);
        request(bytes.as_bytes()).upgrade.map(str::to_owned)
    };
    assert_eq!(ask("h2c"), None);
    assert_eq!(ask("H2C"), None);
    assert_eq!(ask("h2c, websocket"), None);
    assert_eq!(ask("websocket").as_deref(), Some("websocket"));
}
