//! Targets and redirects.

use crate::policy::tests::{asked, client, forwarded, policy, route, settings};
use crate::policy::{Answer, Asked, Client, Decision, PolicyState};
use crate::settings::{Listener, PathMatch, Redirect, Rewrite, RouteAction};

#[test]
fn targets() {
    let rewrite = |strip_prefix, add: Option<&str>, path: Option<&str>| Rewrite {
        strip_prefix,
        add_prefix: add.map(str::to_owned),
        path: path.map(str::to_owned),
        host: None,
    };
    for (prefix, rewrite, path, target) in [
        ("/api", rewrite(false, None, None), "/api/x", "/api/x?q=1"),
        ("/api", rewrite(true, None, None), "/api/x", "/x?q=1"),
        ("/api/", rewrite(true, None, None), "/api/x", "/x?q=1"),
        ("/api", rewrite(true, None, None), "/api", "/?q=1"),
        ("/api", rewrite(true, None, None), "/api/", "/?q=1"),
        ("/api", rewrite(true, None, None), "/api//x", "/x?q=1"),
        ("/", rewrite(true, None, None), "/api/x", "/api/x?q=1"),
        (
            "/api",
            rewrite(false, Some("/v2"), None),
            "/api/x",
            "/v2/api/x?q=1",
        ),
        (
            "/api",
            rewrite(true, Some("/v2/"), None),
            "/api/x",
            "/v2/x?q=1",
        ),
        ("/api", rewrite(true, Some("/v2"), None), "/api", "/v2/?q=1"),
        (
            "/api",
            rewrite(true, Some("/v2"), Some("/whole")),
            "/api/x",
            "/whole?q=1",
        ),
        ("/", rewrite(false, None, None), "*", "*?q=1"),
    ] {
        let mut route = route("r");
        route.matcher.path = PathMatch::Prefix(prefix.to_owned());
        route.rewrite = rewrite.clone();
        let settings = settings(vec![route]);
        let policy = policy(&settings);
        let request = Asked {
            query: Some("q=1"),
            ..asked("GET", "a", path, &[])
        };
        let mut out = b"GET ".to_vec();
        let forwarding = forwarded(&policy, &request, &client("192.0.2.1"));
        policy.write_target(&forwarding, &request, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            format!("GET {target}"),
            "{rewrite:?}"
        );
    }
}

fn answer(redirect: Redirect, request: &Asked<'_>, is_tls: bool) -> Answer {
    super::redirect(&redirect, request, is_tls)
}

#[test]
fn redirects_keep_what_they_do_not_say() {
    let request = Asked {
        query: Some("q=1"),
        ..asked("GET", "a.example:8080", "/x", &[])
    };
    let say = |scheme: Option<&str>, host: Option<&str>, port, path: Option<&str>| Redirect {
        status: 302,
        scheme: scheme.map(str::to_owned),
        host: host.map(str::to_owned),
        port,
        path: path.map(str::to_owned),
    };
    for (redirect, is_tls, location) in [
        (
            say(None, None, None, Some("/y")),
            false,
            "http://a.example:8080/y?q=1",
        ),
        (
            say(Some("https"), None, None, None),
            false,
            "https://a.example/x?q=1",
        ),
        (
            say(Some("https"), None, Some(8443), None),
            false,
            "https://a.example:8443/x?q=1",
        ),
        (
            say(None, Some("b.example"), None, None),
            true,
            "https://b.example/x?q=1",
        ),
        (
            say(None, Some("b.example"), Some(443), None),
            true,
            "https://b.example/x?q=1",
        ),
    ] {
        let answer = answer(redirect, &request, is_tls);
        assert_eq!(answer.status, 302);
        assert_eq!(answer.field("location"), Some(location));
    }
}

#[test]
fn nothing_breaks_out_of_a_location() {
    let request = asked(
        "GET",
        "a\r\nx: y",
        "//evil.example/\r\nSet-Cookie: a=b\u{e9}",
        &[],
    );
    let keep = Redirect {
        status: 308,
        scheme: None,
        host: None,
        port: None,
        path: None,
    };
    let answer = answer(keep, &request, false);
    assert_eq!(
        answer.field("location"),
        Some("http://a%0D%0Ax:%20y//evil.example/%0D%0ASet-Cookie:%20a=b%C3%A9")
    );
}

#[test]
fn a_listener_that_points_to_https() {
    for (port, method, host, expected) in [
        (
            443,
            "GET",
            "a.example:80",
            Some((301, "https://a.example/x")),
        ),
        (443, "HEAD", "a.example", Some((301, "https://a.example/x"))),
        (
            8443,
            "POST",
            "[::1]:80",
            Some((308, "https://[::1]:8443/x")),
        ),
        (443, "GET", "", None),
    ] {
        let mut settings = settings(vec![route("all")]);
        settings.listeners = vec![Listener {
            name: "http".parse().expect("a name"),
            address: "127.0.0.1:80".parse().expect("an address"),
            sockets: 1,
            proxy_protocol: false,
            trusted: Vec::new(),
            tls: None,
            http2: false,
            redirect_to_https: Some(port),
        }];
        let policy = policy(&settings);
        let near: Client = client("192.0.2.1");
        let state = PolicyState::new(8, 0);
        let request = asked(method, host, "/x", &[]);
        let Decision::Answer(answer) =
            policy.decide(&request, &near, &state, Default::default(), 0)
        else {
            panic!("nothing is forwarded");
        };
        let location = answer.field("location").map(|to| (answer.status, to));
        assert_eq!(location, expected);
        if expected.is_none() {
            assert_eq!(answer.status, 400);
        }
    }
}

#[test]
fn a_route_that_redirects() {
    let mut away = route("away");
    away.action = RouteAction::Redirect(Redirect {
        status: 307,
        scheme: None,
        host: Some("b.example".to_owned()),
        port: None,
        path: None,
    });
    let settings = settings(vec![away]);
    let policy = policy(&settings);
    let state = PolicyState::new(8, 0);
    let request = asked("GET", "a", "/x", &[]);
    let decision = policy.decide(
        &request,
        &client("192.0.2.1"),
        &state,
        Default::default(),
        0,
    );
    let Decision::Answer(answer) = decision else {
        panic!("nothing is forwarded");
    };
    assert_eq!(
        (answer.status, answer.end, answer.route),
        (307, "route_redirect", Some(0))
    );
    assert_eq!(answer.field("location"), Some("http://b.example/x"));
}
