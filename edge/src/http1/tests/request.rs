//! Request heads that are served, and what is understood of them.

use super::{LIMITS, request, request_refused};
use crate::http1::{HeadLimits, Refused, RequestBody, RequestTarget, Version, parse_request};

#[test]
fn everything_that_a_head_says() {
    let bytes =
        b"\r\nPOST /a?b HTTP/1.1\r\nhost: Example.org:8080\r\nX-Empty:\r\nX-Pad: \t v w \t\r\n\
        Content-Length: 00012\r\nExpect: 100-Continue\r\n\r\nrest";
    let head = request(bytes);
    assert_eq!(head.method, "POST");
    assert_eq!(
        head.target,
        RequestTarget::Origin {
            path_and_query: "/a?b"
        }
    );
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.authority, "Example.org:8080");
    assert_eq!(head.body, RequestBody::Length(12));
    assert!(head.keep_alive && head.expect_continue);
    assert_eq!(head.upgrade, None);
    assert_eq!(&bytes[head.len..], b"rest");
    let fields: Vec<_> = head.fields().iter().map(|f| (f.name, f.value)).collect();
    let first: [(&[u8], &[u8]); 3] = [
        (b"host", b"Example.org:8080"),
        (b"X-Empty", b""),
        (b"X-Pad", b"v w"),
    ];
    assert_eq!(fields[..3], first);
    assert_eq!(fields.len(), 5);
}

#[test]
fn all_fields_are_there_in_order_also_when_there_are_many() {
    for count in [1, 31, 32, 33, 99] {
        let lines: String = (1..count).map(|n| format!("X-{n}: {n}\r\n")).collect();
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let head = request(bytes.as_bytes());
        assert_eq!(head.fields().len(), count);
        for (n, field) in head.fields().iter().enumerate().skip(1) {
            assert_eq!(field.value, n.to_string().as_bytes());
        }
    }
}

#[test]
fn targets() {
    let absolute = |path_and_query| RequestTarget::Absolute {
        scheme: "http",
        path_and_query,
    };
    for (line, expected, authority) in [
        ("GET http://A/x?y", absolute("/x?y"), "A"),
        ("GET http://a", absolute("/"), "a"),
        ("OPTIONS *", RequestTarget::Asterisk, "a"),
        ("CONNECT a:443", RequestTarget::Authority("a:443"), "a:443"),
        (
            "CONNECT [::1]:443",
            RequestTarget::Authority("[::1]:443"),
            "[::1]:443",
        ),
    ] {
        let host = if line.starts_with("CONNECT") {
            authority
        } else {
            "a"
        };
        let bytes = format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let head = request(bytes.as_bytes());
        assert_eq!(
            (head.target, head.authority),
            (expected, authority),
            "{line}"
        );
    }
    for line in [
        "CONNECT a",
        "CONNECT a:",
        "CONNECT [::1]",
        "CONNECT /",
        "GET a:443",
        "GET http://a?x",
    ] {
        let bytes = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(request_refused(bytes.as_bytes()), Refused::Target, "{line}");
    }
}

#[test]
fn hosts_that_are_served() {
    for host in [
        "a",
        "a.b-c_d",
        "192.0.2.1:80",
        "[2001:db8::1]",
        "[::1]:8443",
        "a:",
    ] {
        let bytes = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(request(bytes.as_bytes()).authority, host);
    }
}

#[test]
fn whether_the_connection_goes_on() {
    for (version, lines, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, Close\r\n", false),
        ("1.1", "Connection: x\r\nConnection: close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(
            request(bytes.as_bytes()).keep_alive,
            expected,
            "{version} {lines}"
        );
    }
}

#[test]
fn upgrades() {
    for (version, lines, expected) in [
        (
            "1.1",
            "Connection: upgrade\r\nUpgrade: websocket\r\n",
            Some("websocket"),
        ),
        (
            "1.1",
            "Connection: keep-alive, Upgrade\r\nUpgrade: foo/2\r\n",
            Some("foo/2"),
        ),
        ("1.1", "Upgrade: websocket\r\n", None),
        ("1.1", "Connection: upgrade\r\n", None),
        ("1.1", "Connection: upgrade\r\nUpgrade: a, b\r\n", None),
        (
            "1.1",
            "Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n",
            None,
        ),
        (
            "1.1",
            "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n",
            None,
        ),
        ("1.0", "Connection: upgrade\r\nUpgrade: websocket\r\n", None),
    ] {
        let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(
            request(bytes.as_bytes()).upgrade,
            expected,
            "{version} {lines}"
        );
    }
}

#[test]
fn bodies_and_http_1_0() {
    let head = request(b"GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!((head.version, head.authority), (Version::Http10, ""));
    assert!(!head.expect_continue);
    let none = request(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(none.body, RequestBody::None);
    let most =
        request(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n");
    assert_eq!(most.body, RequestBody::Length(u64::MAX));
    let chunked = request(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n");
    assert_eq!(chunked.body, RequestBody::Chunked);
}

#[test]
fn request_lines_that_are_none() {
    for line in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET /",
        "GET / http/1.1",
        "GET / HTTP/1",
        "GET\t/\tHTTP/1.1",
        "G(T / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET / HTTP/11.1",
    ] {
        let bytes = format!("{line}\r\nHost: a\r\n\r\n");
        assert_eq!(request_refused(bytes.as_bytes()).status(), 400, "{line}");
    }
    let method = "M".repeat(33);
    let bytes = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(request_refused(bytes.as_bytes()), Refused::RequestLine);
    let bytes = format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", &method[1..]);
    assert_eq!(request(bytes.as_bytes()).method, &method[1..]);
    assert_eq!(
        request_refused(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").status(),
        400
    );
}

#[test]
fn what_can_never_become_a_request_is_refused_early() {
    for start in [
        &b"\x16\x03\x01"[..],
        b" ",
        b"G\0",
        b"\n",
        b"GET / HTTP/1.1\n",
        b"\rG",
        b"\r\n\r\n",
        b"G\r\n",
        b"MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM",
    ] {
        assert_eq!(
            request_refused(start).status(),
            400,
            "{}",
            start.escape_ascii()
        );
    }
    for start in [
        &b""[..],
        b"\r",
        b"\r\n",
        b"\r\n\r",
        b"G",
        b"GET",
        b"GET ",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r",
    ] {
        assert!(
            matches!(parse_request(start, &LIMITS), Ok(None)),
            "{}",
            start.escape_ascii()
        );
    }
}

#[test]
fn sizes() {
    let limits = |bytes| HeadLimits { bytes, lines: 100 };
    let head = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let of =
        |length: usize, most| parse_request(&head[..length], &limits(most)).map(|h| h.is_some());
    assert_eq!(of(head.len(), head.len()), Ok(true));
    assert_eq!(of(head.len(), head.len() - 1), Err(Refused::HeadTooLarge));
    assert_eq!(
        of(head.len() - 1, head.len() - 1),
        Err(Refused::HeadTooLarge)
    );
    assert_eq!(of(head.len() - 2, head.len() - 1), Ok(false));
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(300));
    for length in [256, 300, long.len()] {
        let refused =
            parse_request(&long.as_bytes()[..length], &limits(256)).expect_err("too long");
        assert_eq!((refused, refused.status()), (Refused::TargetTooLong, 414));
    }
}
