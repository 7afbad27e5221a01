//! Who is believed, and what a backend gets.

use proptest::prelude::*;

use super::{Refused, address, connection_options};
use crate::field::Field;
use crate::policy::names::{Kind, is_protected, kind};
use crate::policy::tests::{asked, client, fields, forwarded, policy, route, settings};
use crate::policy::{Asked, Client, HttpVersion, Policy};
use crate::settings::Settings;

fn behind(trusted: &[&str]) -> Settings {
    let mut settings = settings(vec![route("all")]);
    settings.trusted_proxies = trusted
        .iter()
        .map(|text| text.parse().expect("a network"))
        .collect();
    settings
}

fn head(policy: &Policy, client: &Client, host: &str, pairs: &[(&str, &str)]) -> String {
    let fields = fields(pairs);
    let request = asked("GET", host, "/", &fields);
    let mut head = Vec::new();
    policy.write_request_fields(
        &forwarded(policy, &request, client),
        &request,
        client,
        &mut head,
    );
    String::from_utf8(head).expect("is text")
}

#[test]
fn the_believed_client() {
    let settings = behind(&["10.0.0.0/8", "2001:db8:aaaa::/48"]);
    let policy = policy(&settings);
    let long = "10.0.0.1,".repeat(40);
    for (peer, chain, expected) in [
        ("192.0.2.1", &["198.51.100.1"][..], "192.0.2.1"),
        ("10.0.0.1", &[], "10.0.0.1"),
        ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
        ("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
        (
            "10.0.0.1",
            &["203.0.113.66, 198.51.100.1, 10.9.9.9"],
            "198.51.100.1",
        ),
        (
            "10.0.0.1",
            &["203.0.113.66", "198.51.100.1", "10.9.9.9"],
            "198.51.100.1",
        ),
        ("10.0.0.1", &["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
        ("10.0.0.1", &["198.51.100.1, garbage, 10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", &["198.51.100.1, , 10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", &["unknown"], "10.0.0.1"),
        ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", &["2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
        ("10.0.0.1", &["[2001:db8::1]:80"], "2001:db8::1"),
        ("2001:db8:aaaa::1", &["::ffff:198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", &[&*long], "10.0.0.1"),
    ] {
        let pairs: Vec<(&str, &str)> = chain
            .iter()
            .map(|value| ("X-Forwarded-For", *value))
            .collect();
        let fields = fields(&pairs);
        let forwarding = forwarded(&policy, &asked("GET", "a", "/", &fields), &client(peer));
        assert_eq!(
            forwarding.client_ip.to_string(),
            expected,
            "{peer} {chain:?}"
        );
    }
}

#[test]
fn addresses_with_too_much_are_none() {
    for text in [
        "",
        "1.2.3",
        "1.2.3.4:",
        "1.2.3.4:99999",
        "[1.2.3.4",
        "a.example",
        " 1.2.3.4",
        "01.2.3.4",
    ] {
        assert_eq!(address(text.as_bytes()), None, "{text}");
    }
    assert_eq!(address(&[b'1'; 4000]), None);
    assert_eq!(address(b"\xff"), None);
}

#[test]
fn a_stranger_says_nothing_about_itself() {
    let settings = behind(&[]);
    let policy = policy(&settings);
    let head = head(
        &policy,
        &client("192.0.2.1"),
        "example.org:8080",
        &[
            ("Host", "example.org:8080"),
            ("X-Forwarded-For", "1.1.1.1"),
            ("Accept", "*/*"),
            ("x_forwarded_for", "1.1.1.2"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Prefix", "/admin"),
            ("Forwarded", "for=1.1.1.3"),
            ("X-Real-IP", "1.1.1.4"),
            ("X_Real_IP", "1.1.1.5"),
            ("X-Request-Id", "forged"),
            ("Content-Length", "5"),
            ("Transfer_Encoding", "chunked"),
            (
                "traceparent",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ),
            ("tracestate", "a=b"),
            ("Connection", "keep-alive, X-Mine"),
            ("Keep-Alive", "timeout=5"),
            ("x-mine", "hop"),
            ("TE", "trailers"),
            ("Proxy-Authorization", "Basic eA=="),
            ("Cookie", "a=b"),
        ],
    );
    assert_eq!(
        head,
        "Host: example.org:8080\r\n\
         Accept: */*\r\n\
         traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
         tracestate: a=b\r\n\
         Cookie: a=b\r\n\
         X-Forwarded-For: 192.0.2.1\r\n\
         X-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: example.org:8080\r\n\
         X-Real-IP: 192.0.2.1\r\n\
         Forwarded: for=192.0.2.1;proto=http;host=\"example.org:8080\"\r\n\
         X-Request-Id: 00000000000000000000000000000000\r\n"
    );
}

#[test]
fn a_trusted_proxy_is_continued() {
    let settings = behind(&["2001:db8::/32"]);
    let policy = policy(&settings);
    let secure = Client {
        is_tls: true,
        ..client("2001:db8::9")
    };
    let head = head(
        &policy,
        &secure,
        "inner",
        &[
            ("X-Forwarded-For", "198.51.100.1"),
            ("X-Forwarded-For", "2001:db8::1"),
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Host", "outer.example"),
            ("X-Forwarded-Port", "80"),
            ("X_Forwarded_Port", "81"),
            ("Forwarded", "for=198.51.100.1"),
            ("X-Real-IP", "1.1.1.1"),
            ("X-Request-Id", "abc-1"),
        ],
    );
    assert_eq!(
        head,
        "Host: inner\r\n\
         X-Forwarded-Port: 80\r\n\
         X-Forwarded-For: 198.51.100.1, 2001:db8::1, 2001:db8::9\r\n\
         X-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: outer.example\r\n\
         X-Real-IP: 198.51.100.1\r\n\
         Forwarded: for=198.51.100.1, for=\"[2001:db8::9]\";proto=https;host=inner\r\n\
         X-Request-Id: abc-1\r\n"
    );
}

#[test]
fn changes_of_a_route() {
    let mut settings = behind(&[]);
    let route = &mut settings.routes[0];
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    route.rewrite.host = Some("backend.internal".to_owned());
    route.request_headers.set = vec![
        pair("x-a", "new"),
        pair("x-forwarded-proto", "https"),
        pair("host", "never"),
        pair("content-length", "7"),
    ];
    route.request_headers.add = vec![pair("x-b", "2")];
    route.request_headers.remove = vec!["x-c".to_owned(), "forwarded".to_owned()];
    let policy = policy(&settings);
    let head = head(
        &policy,
        &client("192.0.2.1"),
        "a",
        &[("X-A", "old"), ("X-B", "1"), ("X-C", "3"), ("x-d", "4")],
    );
    assert_eq!(
        head,
        "Host: backend.internal\r\n\
         X-B: 1\r\n\
         x-d: 4\r\n\
         X-Forwarded-For: 192.0.2.1\r\n\
         X-Forwarded-Host: a\r\n\
         X-Real-IP: 192.0.2.1\r\n\
         X-Request-Id: 00000000000000000000000000000000\r\n\
         x-a: new\r\n\
         x-forwarded-proto: https\r\n\
         x-b: 2\r\n"
    );
}

#[test]
fn connection_lists() {
    let many = |count: usize| {
        (0..count)
            .map(|n| format!("x-{n}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    for (value, expected) in [
        ("close", Ok(false)),
        ("Keep-Alive, Upgrade, TE, ,", Ok(false)),
        ("HTTP2-Settings", Ok(false)),
        ("x-mine", Ok(true)),
        (&*many(16), Ok(true)),
        (&*many(17), Err(Refused)),
        (&*"te,".repeat(63), Ok(false)),
        (&*"te,".repeat(64), Err(Refused)),
        ("close, HOST", Err(Refused)),
        ("x-forwarded-for", Err(Refused)),
        ("X_Forwarded_For", Err(Refused)),
        ("content-length", Err(Refused)),
        ("Cookie", Err(Refused)),
        ("traceparent", Err(Refused)),
    ] {
        let fields = [
            Field {
                name: b"Connection",
                value: b"keep-alive",
            },
            Field {
                name: b"connection",
                value: value.as_bytes(),
            },
        ];
        let options = connection_options(&fields).map(|options| options.lists_fields);
        assert_eq!(options, expected, "{value}");
    }
}

#[test]
fn cookie_crumbs_become_one_cookie() {
    let settings = behind(&[]);
    let policy = policy(&settings);
    let long = "x".repeat(300);
    for (crumbs, expected) in [
        (&[][..], None),
        (&["a=1"], Some("a=1".to_owned())),
        (&["a=1", "b=2", &*long], Some(format!("a=1; b=2; {long}"))),
    ] {
        let mut pairs: Vec<(&str, &str)> = crumbs.iter().map(|crumb| ("cookie", *crumb)).collect();
        pairs.insert(pairs.len() / 2, ("accept", "*/*"));
        let fields = fields(&pairs);
        let near = client("192.0.2.1");
        let request = Asked {
            version: HttpVersion::Http2,
            ..asked("GET", "a", "/", &fields)
        };
        let mut map = http::HeaderMap::new();
        let forwarding = forwarded(&policy, &request, &near);
        policy.write_request_fields(&forwarding, &request, &near, &mut map);
        let cookies: Vec<&str> = map
            .get_all("cookie")
            .iter()
            .map(|value| value.to_str().expect("is text"))
            .collect();
        assert_eq!(cookies, expected.as_deref().into_iter().collect::<Vec<_>>());
        assert_eq!(map.get_all("accept").iter().count(), 1);
    }
}

fn name() -> impl Strategy<Value = String> {
    let known = vec![
        "host",
        "x-forwarded-for",
        "forwarded",
        "x-real-ip",
        "x-request-id",
        "authorization",
        "cookie",
        "traceparent",
        "accept",
        "user-agent",
        "x-mine",
        "keep-alive",
        "te",
        "close",
        "upgrade",
        "content-type",
        "x_forwarded_host",
        "transfer-encoding",
    ];
    prop_oneof![
        prop::sample::select(known).prop_map(str::to_owned),
        "[xX][-_][a-cA-C]{1,2}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Either the request is refused, or every protected field reaches the backend, and exactly what
    /// `Connection` lists does not.
    #[test]
    fn connection_takes_away_what_it_may_and_nothing_else(
        listed in prop::collection::vec(name(), 0..5),
        names in prop::collection::vec(name(), 0..12),
    ) {
        let value = listed.join(" ,");
        let mut pairs = vec![("Connection", value.as_str())];
        pairs.extend(names.iter().map(|name| (name.as_str(), "v")));
        let fields = fields(&pairs);
        let refused = connection_options(&fields).is_err();
        prop_assert_eq!(refused, listed.iter().any(|name| is_protected(name.as_bytes())));
        if refused {
            return Ok(());
        }
        let settings = behind(&[]);
        let policy = policy(&settings);
        let head = head(&policy, &client("192.0.2.1"), "a", &pairs).to_ascii_lowercase();
        for name in &names {
            let is_listed = listed.iter().any(|listed| listed.eq_ignore_ascii_case(name));
            let passes = kind(name.as_bytes()) == Kind::Plain && !is_listed;
            let line = format!("\r\n{}: v\r\n", name.to_ascii_lowercase());
            prop_assert_eq!(head.contains(&line), passes, "{}", name);
        }
    }
}
