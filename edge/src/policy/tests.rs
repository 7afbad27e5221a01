//! Whole decisions: which check answers what, and in which order.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dataplane::process::LogLevel;
use proptest::prelude::*;

use super::{Answer, Asked, Client, Decision, Forwarding, HttpVersion, Policy, PolicyState};
use crate::field::Field;
use crate::settings::*;

pub(super) fn settings(routes: Vec<Route>) -> Settings {
    Settings {
        drain_mode: false,
        admin: None,
        log_level: LogLevel::default(),
        workers: 1,
        timeouts: Timeouts::default(),
        limits: Limits::default(),
        drain_timeout: Duration::from_secs(1),
        listeners: Vec::new(),
        routes,
        upstreams: Vec::new(),
        discovery: None,
        rate_limit: None,
        access: Access::default(),
        trusted_proxies: Vec::new(),
        security_headers: None,
        cors: None,
        error_pages: ErrorPages::default(),
        access_log: None,
    }
}

/// Everything, to the upstream `one`.
pub(super) fn route(name: &str) -> Route {
    Route {
        name: name.to_owned(),
        matcher: RouteMatch::default(),
        action: forward(&[("one", 1)]),
        rewrite: Rewrite::default(),
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
        rate_limit: None,
        concurrent_requests: None,
        cors: None,
        access: Access::default(),
        body_bytes: None,
        total_timeout: None,
        upstream_first_byte: None,
    }
}

pub(super) fn forward(shares: &[(&str, u32)]) -> RouteAction {
    let shares = shares.iter().map(|(name, weight)| WeightedUpstream {
        upstream: (*name).to_owned(),
        weight: *weight,
    });
    RouteAction::Forward(shares.collect())
}

pub(super) fn policy(settings: &Settings) -> Policy {
    let names = ["one", "two", "three"];
    Policy::new(settings, |name| {
        names
            .iter()
            .position(|known| *known == name)
            .expect("is known")
    })
}

pub(super) fn client(peer: &str) -> Client {
    Client {
        peer: peer.parse().expect("an address"),
        peer_port: 1234,
        is_tls: false,
        listener: 0,
        listener_port: 80,
        covers_host: None,
    }
}

pub(super) fn asked<'r>(
    method: &'r str,
    host: &'r str,
    path: &'r str,
    fields: &'r [Field<'r>],
) -> Asked<'r> {
    Asked {
        method,
        host,
        path,
        query: None,
        fields,
        version: HttpVersion::Http11,
        upgrade: None,
        body_length: None,
    }
}

pub(super) fn fields<'f>(pairs: &'f [(&'f str, &'f str)]) -> Vec<Field<'f>> {
    pairs
        .iter()
        .map(|(name, value)| Field {
            name: name.as_bytes(),
            value: value.as_bytes(),
        })
        .collect()
}

pub(super) fn forwarded<'p>(
    policy: &'p Policy,
    asked: &Asked<'_>,
    client: &Client,
) -> Forwarding<'p> {
    match policy.decide(asked, client, &PolicyState::new(8, 0), Duration::ZERO, 0) {
        Decision::Forward(forwarding) => forwarding,
        Decision::Answer(answer) => panic!("{answer:?}"),
    }
}

fn answered(policy: &Policy, asked: &Asked<'_>, client: &Client, state: &PolicyState) -> Answer {
    match policy.decide(asked, client, state, Duration::from_secs(1), 0) {
        Decision::Answer(answer) => answer,
        Decision::Forward(forwarding) => panic!("{forwarding:?}"),
    }
}

fn nets(texts: &[&str]) -> Vec<ipnet::IpNet> {
    texts
        .iter()
        .map(|text| text.parse().expect("a network"))
        .collect()
}

/// A route that denies everybody, one with a small body limit, one that answers itself.
fn guarded() -> Settings {
    let mut closed = route("closed");
    closed.matcher.path = PathMatch::Prefix("/closed".to_owned());
    closed.access.deny = nets(&["0.0.0.0/0"]);
    let mut small = route("small");
    small.matcher.path = PathMatch::Prefix("/small".to_owned());
    small.matcher.methods = vec!["POST".to_owned()];
    small.body_bytes = Some(10);
    let mut fixed = route("fixed");
    fixed.matcher.path = PathMatch::Exact("/fixed".to_owned());
    fixed.action = RouteAction::Respond {
        status: 200,
        body: "ok".to_owned(),
    };
    let mut all = settings(vec![closed, small, fixed]);
    all.access.deny = nets(&["203.0.113.0/24"]);
    all
}

#[test]
fn checks_and_their_answers() {
    let all = guarded();
    let policy = policy(&all);
    let state = PolicyState::new(8, 0);
    let near = client("192.0.2.1");
    let post = Asked {
        body_length: Some(11),
        ..asked("POST", "a", "/small", &[])
    };
    let wrong_connection = fields(&[("Connection", "close, Authorization")]);
    let uncovered = Client {
        covers_host: Some(false),
        ..near
    };
    for (asked, client, status, end, route) in [
        (asked("GET", "a", "/", &[]), near, 404, "no_route", None),
        (
            asked("GET", "a", "/small", &[]),
            near,
            405,
            "method_not_allowed",
            None,
        ),
        (post, near, 413, "body_too_large", Some(1)),
        (
            asked("GET", "a", "/closed/x", &[]),
            near,
            403,
            "access_denied",
            Some(0),
        ),
        (
            asked("GET", "a", "/", &[]),
            client("::ffff:203.0.113.9"),
            403,
            "access_denied",
            None,
        ),
        (
            asked("GET", "a", "/", &[]),
            uncovered,
            421,
            "misdirected",
            None,
        ),
        (
            asked("GET", "a", "/", &wrong_connection),
            near,
            400,
            "connection_lists_protected_field",
            None,
        ),
        (
            asked("GET", "a", "/fixed", &[]),
            near,
            200,
            "route_respond",
            Some(2),
        ),
    ] {
        let answer = answered(&policy, &asked, &client, &state);
        assert_eq!(
            (answer.status, answer.end, answer.route),
            (status, end, route),
            "{asked:?}"
        );
        assert_eq!(answer.request_id.as_bytes().len(), 32);
        assert_eq!(answer.client_ip, Some(client.peer.to_canonical()));
    }
    let answer = answered(&policy, &asked("GET", "a", "/small", &[]), &near, &state);
    assert_eq!(answer.field("allow"), Some("POST"));
}

#[test]
fn rates_of_all_and_of_a_route() {
    let limit = |per_minute, burst| {
        Some(RateLimit {
            requests_per_minute: per_minute,
            burst,
            by: RateKey::Ip,
        })
    };
    let mut slow = route("slow");
    slow.matcher.path = PathMatch::Prefix("/slow".to_owned());
    slow.rate_limit = limit(1, 0);
    let mut all = settings(vec![route("rest"), slow]);
    all.rate_limit = limit(60, 3);
    let policy = policy(&all);
    let state = PolicyState::new(64, 0);
    let near = client("192.0.2.1");
    let ask = |path| match policy.decide(
        &asked("GET", "a", path, &[]),
        &near,
        &state,
        Duration::ZERO,
        0,
    ) {
        Decision::Forward(_) => None,
        Decision::Answer(answer) => Some(answer),
    };
    assert!(ask("/slow").is_none());
    let answer = ask("/slow").expect("the route's limit");
    assert_eq!((answer.status, answer.route), (429, Some(1)));
    assert_eq!(answer.field("retry-after"), Some("60"));
    assert_eq!(answer.field("ratelimit-limit"), Some("1"));
    assert!(ask("/").is_none() && ask("/").is_none());
    let answer = ask("/").expect("the limit over all");
    assert_eq!(
        (answer.status, answer.route, answer.end),
        (429, None, "rate_limited")
    );
    assert_eq!(answer.field("retry-after"), Some("1"));
}

#[test]
fn places_are_limited_and_outlive_a_reload() {
    let mut narrow = route("narrow");
    narrow.concurrent_requests = Some(1);
    let mut all = settings(vec![narrow]);
    all.limits.concurrent_requests = Some(5);
    let before = policy(&all);
    let state = PolicyState::new(8, 0);
    let near = client("192.0.2.1");
    let request = asked("GET", "a", "/", &[]);
    let Decision::Forward(mut first) = before.decide(&request, &near, &state, Duration::ZERO, 0)
    else {
        panic!("there is a place");
    };
    let answer = answered(&before, &request, &near, &state);
    assert_eq!(
        (answer.status, answer.end, answer.route),
        (503, "concurrency_limit", Some(0))
    );
    assert_eq!(answer.field("retry-after"), Some("1"));
    let after = policy(&all).after(&before);
    assert_eq!(answered(&after, &request, &near, &state).status, 503);
    assert_eq!(state.under_way.load(Ordering::Relaxed), 1);
    let permits = first.take_permits();
    drop(first);
    assert_eq!(answered(&after, &request, &near, &state).status, 503);
    drop(permits);
    assert_eq!(state.under_way.load(Ordering::Relaxed), 0);
    assert!(matches!(
        after.decide(&request, &near, &state, Duration::ZERO, 0),
        Decision::Forward(_)
    ));
}

#[test]
fn weights_are_kept() {
    let mut canary = route("canary");
    canary.action = forward(&[("one", 95), ("two", 5), ("three", 0)]);
    let all = settings(vec![canary]);
    let policy = policy(&all);
    let state = PolicyState::new(8, 0);
    let near = client("192.0.2.1");
    let mut random = fastrand::Rng::with_seed(1);
    let mut counts = BTreeMap::from([(0, 0_u32), (1, 0), (2, 0)]);
    for _ in 0..20_000 {
        let bits = random.u128(..);
        let Decision::Forward(forwarding) = policy.decide(
            &asked("GET", "a", "/", &[]),
            &near,
            &state,
            Duration::ZERO,
            bits,
        ) else {
            panic!("it is forwarded");
        };
        *counts.entry(forwarding.upstream).or_default() += 1;
    }
    // 1000 expected, standard deviation 31.
    assert!((850..1150).contains(&counts[&1]), "{counts:?}");
    assert_eq!(counts[&2], 0);
    for (random, upstream) in [(0, 0), (u128::MAX, 1)] {
        let Decision::Forward(forwarding) = policy.decide(
            &asked("GET", "a", "/", &[]),
            &near,
            &state,
            Duration::ZERO,
            random,
        ) else {
            panic!("it is forwarded");
        };
        assert_eq!(forwarding.upstream, upstream);
    }
}

#[test]
fn preflights_are_answered_where_the_asked_route_has_cors() {
    let mut post = route("post");
    post.matcher.methods = vec!["POST".to_owned()];
    post.cors = Some(Cors {
        origins: vec!["https://a.example".to_owned()],
        methods: vec!["POST".to_owned()],
        headers: Vec::new(),
        expose: Vec::new(),
        credentials: false,
        max_age: Duration::from_secs(5),
    });
    let all = settings(vec![post]);
    let policy = policy(&all);
    let state = PolicyState::new(8, 0);
    let near = client("192.0.2.1");
    let preflight = [
        ("Origin", "https://a.example"),
        ("Access-Control-Request-Method", "POST"),
    ];
    let preflight = fields(&preflight);
    let answer = answered(
        &policy,
        &asked("OPTIONS", "a", "/", &preflight),
        &near,
        &state,
    );
    assert_eq!((answer.status, answer.end), (204, "cors_preflight"));
    let mut head = Vec::new();
    policy.write_answer_fields(&answer, &near, Some("https://a.example"), &mut head);
    let head = String::from_utf8(head).expect("is text");
    assert_eq!(
        head.matches("access-control-allow-origin").count(),
        1,
        "{head}"
    );
    let plain = answered(
        &policy,
        &asked("OPTIONS", "a", "/", &preflight[..1]),
        &near,
        &state,
    );
    assert_eq!(plain.status, 405);
}

fn wild_fields() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    let known = prop::sample::select(vec![
        "connection",
        "x-forwarded-for",
        "forwarded",
        "accept",
        "origin",
        "host",
        "x_forwarded_for",
        "te",
        "x-request-id",
        "access-control-request-method",
        "vary",
        "strict-transport-security",
    ]);
    let name = prop_oneof![
        known.prop_map(|name| name.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..30),
    ];
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        "[a-z0-9.:, ;=\\[\\]\"/*-]{0,80}".prop_map(String::into_bytes),
    ];
    prop::collection::vec((name, value), 0..20)
}

proptest! {
    #[test]
    fn nothing_in_a_request_panics(
        wild in wild_fields(),
        host in any::<String>(),
        path in any::<String>(),
        query in prop::option::of(any::<String>()),
        method in prop::sample::select(vec!["GET", "OPTIONS", ""]),
        trusted in any::<bool>(),
        is_tls in any::<bool>(),
    ) {
        let mut changed = route("changed");
        changed.rewrite.strip_prefix = true;
        changed.rewrite.add_prefix = Some("/x/".to_owned());
        let mut all = settings(vec![changed]);
        all.security_headers = Some(SecurityHeaders::default());
        if trusted {
            all.trusted_proxies = nets(&["0.0.0.0/0", "::/0"]);
        }
        let policy = policy(&all);
        let wild: Vec<Field<'_>> =
            wild.iter().map(|(name, value)| Field { name, value }).collect();
        let request = Asked { query: query.as_deref(), ..asked(method, &host, &path, &wild) };
        let near = Client { is_tls, ..client("2001:db8::1") };
        let _ = policy.explain(&request, &near).to_string();
        let state = PolicyState::new(8, 0);
        let mut out = Vec::new();
        match policy.decide(&request, &near, &state, Duration::ZERO, 1) {
            Decision::Answer(answer) => policy.write_answer_fields(&answer, &near, None, &mut out),
            Decision::Forward(forwarding) => {
                policy.write_target(&forwarding, &request, &mut out);
                policy.write_request_fields(&forwarding, &request, &near, &mut out);
                let id = &forwarding.request_id;
                policy.write_response_fields(forwarding.route, &near, None, id, &wild, &mut out);
            }
        }
    }

    /// A client that is not trusted is its connection's other end, whatever it says.
    #[test]
    fn nobody_else_is_believed(wild in wild_fields()) {
        let all = settings(vec![route("all")]);
        let policy = policy(&all);
        let wild: Vec<Field<'_>> =
            wild.iter().map(|(name, value)| Field { name, value }).collect();
        let peer: IpAddr = "192.0.2.1".parse().expect("an address");
        let state = PolicyState::new(8, 0);
        let near = client("192.0.2.1");
        if let Decision::Forward(forwarding) =
            policy.decide(&asked("GET", "a", "/", &wild), &near, &state, Duration::ZERO, 1)
        {
            prop_assert_eq!(forwarding.client_ip, peer);
            prop_assert!(!forwarding.trusted);
        }
    }
}
