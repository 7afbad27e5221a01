//! What a client gets of a backend's head, and what the proxy adds.

use std::time::Duration;

use crate::policy::tests::{client, fields, policy, route, settings};
use crate::policy::{Client, RequestId};
use crate::settings::{Cors, SecurityHeaders, Settings};

fn head(settings: &Settings, is_tls: bool, origin: Option<&str>, pairs: &[(&str, &str)]) -> String {
    let policy = policy(settings);
    let client = Client {
        is_tls,
        ..client("192.0.2.1")
    };
    let id = RequestId::given(b"id").expect("is good");
    let mut head = Vec::new();
    policy.write_response_fields(
        &policy.routes()[0],
        &client,
        origin,
        &id,
        &fields(pairs),
        &mut head,
    );
    String::from_utf8(head).expect("is text")
}

#[test]
fn only_end_to_end_fields_pass() {
    let plain = settings(vec![route("all")]);
    let head = head(
        &plain,
        true,
        None,
        &[
            ("Server", "backend/1"),
            ("Content-Length", "5"),
            ("Content-Type", "text/html"),
            ("Connection", "close, X-Hop, Set-Cookie"),
            ("X-Hop", "1"),
            ("Set-Cookie", "a=b"),
            ("Set-Cookie", "c=d"),
            ("Transfer-Encoding", "chunked"),
            ("Keep-Alive", "timeout=5"),
            ("X-Request-Id", "backend's"),
            ("Strict-Transport-Security", "max-age=1"),
        ],
    );
    assert_eq!(
        head,
        "Server: backend/1\r\nContent-Type: text/html\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n\
         Strict-Transport-Security: max-age=1\r\nx-request-id: id\r\n"
    );
}

#[test]
fn security_headers_are_added_where_the_backend_says_none() {
    let mut secure = settings(vec![route("all")]);
    secure.security_headers = Some(SecurityHeaders::default());
    assert_eq!(
        head(&secure, true, None, &[("X-Frame-Options", "SAMEORIGIN")]),
        "X-Frame-Options: SAMEORIGIN\r\nstrict-transport-security: max-age=31536000\r\n\
         x-content-type-options: nosniff\r\nreferrer-policy: strict-origin-when-cross-origin\r\n\
         x-request-id: id\r\n"
    );
    let clear = head(
        &secure,
        false,
        None,
        &[("Strict-Transport-Security", "max-age=1"), ("a", "b")],
    );
    assert!(
        !clear.to_ascii_lowercase().contains("strict-transport"),
        "{clear}"
    );
    assert!(
        clear.starts_with("a: b\r\nx-frame-options: DENY\r\n"),
        "{clear}"
    );
    let own = head(
        &secure,
        true,
        None,
        &[("Strict-Transport-Security", "max-age=1")],
    );
    assert_eq!(
        own.to_ascii_lowercase().matches("strict-transport").count(),
        1,
        "{own}"
    );
}

#[test]
fn changes_win_over_everything() {
    let mut changed = settings(vec![route("all")]);
    changed.security_headers = Some(SecurityHeaders::default());
    let changes = &mut changed.routes[0].response_headers;
    changes.remove = vec!["server".to_owned(), "referrer-policy".to_owned()];
    changes.set = vec![("x-frame-options".to_owned(), "ALLOW".to_owned())];
    changes.add = vec![("x-b".to_owned(), "2".to_owned())];
    assert_eq!(
        head(
            &changed,
            false,
            None,
            &[("Server", "s"), ("X-B", "1"), ("X-Frame-Options", "DENY")]
        ),
        "X-B: 1\r\nx-content-type-options: nosniff\r\nx-request-id: id\r\nx-frame-options: ALLOW\r\nx-b: 2\r\n"
    );
}

#[test]
fn cors_is_the_proxys_word() {
    let mut shared = settings(vec![route("all")]);
    shared.cors = Some(Cors {
        origins: vec!["https://a.example".to_owned()],
        methods: Vec::new(),
        headers: Vec::new(),
        expose: Vec::new(),
        credentials: false,
        max_age: Duration::from_secs(1),
    });
    let backend = [("Access-Control-Allow-Origin", "*"), ("Vary", "accept")];
    assert_eq!(
        head(&shared, false, Some("https://a.example"), &backend),
        "Vary: accept\r\nvary: origin\r\naccess-control-allow-origin: https://a.example\r\nx-request-id: id\r\n"
    );
    assert_eq!(
        head(&shared, false, Some("https://b.example"), &backend),
        "Vary: accept\r\nvary: origin\r\nx-request-id: id\r\n"
    );
}
