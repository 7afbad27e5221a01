//! Responses of backends, as strictly as requests.

use super::{TO_GET, response, response_refused};
use crate::http1::{HeadLimits, Refused, ResponseBody, ResponseTo, Version, parse_response};

const TO_HEAD: ResponseTo = ResponseTo {
    is_head: true,
    is_connect: false,
};
const TO_CONNECT: ResponseTo = ResponseTo {
    is_head: false,
    is_connect: true,
};

#[test]
fn where_a_body_ends() {
    let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    for (status, lines, to, expected) in [
        (200, length, TO_GET, ResponseBody::Length(5)),
        (
            200,
            "Content-Length: 0\r\n",
            TO_GET,
            ResponseBody::Length(0),
        ),
        (200, chunked, TO_GET, ResponseBody::Chunked),
        (200, "", TO_GET, ResponseBody::UntilClose),
        (200, length, TO_HEAD, ResponseBody::None),
        (200, chunked, TO_HEAD, ResponseBody::None),
        (200, "", TO_HEAD, ResponseBody::None),
        (304, length, TO_GET, ResponseBody::None),
        (204, "", TO_GET, ResponseBody::None),
        (204, "Content-Length: 0\r\n", TO_GET, ResponseBody::None),
        (100, "", TO_GET, ResponseBody::None),
        (103, "Link: x\r\n", TO_GET, ResponseBody::None),
        (200, "", TO_CONNECT, ResponseBody::None),
        (407, length, TO_CONNECT, ResponseBody::Length(5)),
    ] {
        let bytes = format!("HTTP/1.1 {status} X\r\n{lines}\r\n");
        let head = response(bytes.as_bytes(), to);
        assert_eq!(
            (head.status, head.body),
            (status, expected),
            "{status} {lines} {to:?}"
        );
        assert_eq!(head.len, bytes.len());
        assert_eq!(head.keep_alive, expected != ResponseBody::UntilClose);
    }
}

#[test]
fn whether_a_backend_connection_goes_on() {
    for (version, line, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let bytes = format!("HTTP/{version} 200 OK\r\nContent-Length: 0\r\n{line}\r\n");
        assert_eq!(
            response(bytes.as_bytes(), TO_GET).keep_alive,
            expected,
            "{version} {line}"
        );
    }
}

#[test]
fn status_lines() {
    for (line, reason) in [
        ("HTTP/1.0 200 A b", "A b"),
        ("HTTP/1.0 200 ", ""),
        ("HTTP/1.0 200", ""),
    ] {
        let bytes = format!("{line}\r\n\r\n");
        let head = response(bytes.as_bytes(), TO_GET);
        assert_eq!(
            (head.version, head.reason),
            (Version::Http10, reason.as_bytes()),
            "{line}"
        );
    }
    let upgraded = b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(response(upgraded, TO_GET).upgrade, Some("websocket"));
    let not_upgraded = b"HTTP/1.1 200 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(response(not_upgraded, TO_GET).upgrade, None);
}

#[test]
fn framing_that_is_refused() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (lines, why) in [
        (
            format!("Content-Length: 1\r\n{chunked}"),
            Refused::LengthAndCoding,
        ),
        (format!("{chunked}{chunked}"), Refused::TransferEncoding),
        (
            "Transfer-Encoding: gzip, chunked\r\n".to_owned(),
            Refused::TransferEncoding,
        ),
        (
            "Transfer-Encoding: gzip\r\n".to_owned(),
            Refused::TransferEncoding,
        ),
        (
            "Content-Length: 1\r\nContent-Length: 2\r\n".to_owned(),
            Refused::SeveralContentLengths,
        ),
        (
            "Content-Length: 1\r\nContent-Length: 1\r\n".to_owned(),
            Refused::SeveralContentLengths,
        ),
        ("Content-Length: +1\r\n".to_owned(), Refused::ContentLength),
        ("X: 1\r\n 2\r\n".to_owned(), Refused::Folded),
        ("X: a\0\r\n".to_owned(), Refused::FieldValue),
        ("X: a\rb\r\n".to_owned(), Refused::BareLineEnd),
        ("X: a\nY: b\r\n".to_owned(), Refused::BareLineEnd),
        ("X : a\r\n".to_owned(), Refused::FieldLine),
        (": a\r\n".to_owned(), Refused::FieldLine),
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        assert_eq!(response_refused(bytes.as_bytes()), why, "{lines:?}");
    }
    assert_eq!(
        response_refused(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Refused::CodingInHttp10
    );
}

#[test]
fn a_body_where_there_is_none_would_be_the_next_response() {
    for status in [100, 101, 199, 204] {
        for line in ["Content-Length: 1", "Transfer-Encoding: chunked"] {
            let bytes = format!("HTTP/1.1 {status} X\r\n{line}\r\n\r\n");
            assert_eq!(
                response_refused(bytes.as_bytes()),
                Refused::BodyNotAllowed,
                "{status} {line}"
            );
        }
    }
}

#[test]
fn what_is_no_response() {
    for (start, why) in [
        (&b"ICY 200 OK\r\n\r\n"[..], Refused::StatusLine),
        (b"S", Refused::StatusLine),
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", Refused::StatusLine),
        (b"HTTP/1.1 20 OK\r\n\r\n", Refused::StatusLine),
        (b"HTTP/1.1 099 OK\r\n\r\n", Refused::StatusLine),
        (b"HTTP/1.1 2000 OK\r\n\r\n", Refused::StatusLine),
        (b"HTTP/1.1 200 OK\n", Refused::BareLineEnd),
    ] {
        assert_eq!(response_refused(start), why, "{}", start.escape_ascii());
    }
    for start in [&b""[..], b"H", b"HTTP/1.1 200 OK\r\n"] {
        assert!(matches!(
            parse_response(start, &super::LIMITS, TO_GET),
            Ok(None)
        ));
    }
    let limits = HeadLimits {
        bytes: 16,
        lines: 1,
    };
    let long = b"HTTP/1.1 200 OK\r\n";
    assert_eq!(
        parse_response(long, &limits, TO_GET).expect_err("too large"),
        Refused::HeadTooLarge
    );
    let limits = HeadLimits {
        bytes: 100,
        lines: 1,
    };
    let two = b"HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\n\r\n";
    assert_eq!(
        parse_response(two, &limits, TO_GET).expect_err("two"),
        Refused::TooManyLines
    );
}
