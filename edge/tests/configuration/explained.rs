//! `edge explain`: the route of a request that is only thought of.

use super::scratch::{Scratch, stderr, stdout};

const ROUTES: &str = r#"
[[listener]]
name = "https"
address = "127.0.0.1:8443"
[[listener.certificate]]
certificate = "server.crt"
key = "server.key"

[[listener]]
name = "http"
address = "127.0.0.1:8080"
redirect_to_https = 8443

[[route]]
name = "canary"
hosts = ["app.example.com"]
path_prefix = "/api"
headers = { x-canary = "1" }
upstream = "next"

[[route]]
name = "api"
hosts = ["app.example.com", "*.example.org"]
path_prefix = "/api"
strip_prefix = true
upstreams = [{ name = "app", weight = 3 }, { name = "next", weight = 1 }]

[[route]]
name = "old"
path = "/old"
redirect = { status = 301, host = "new.example.com" }

[[route]]
name = "inside"
path_prefix = "/admin"
upstream = "app"
access = { allow = ["10.0.0.0/8"] }

[upstream.app]
backends = ["127.0.0.1:3000"]
[upstream.next]
backends = ["127.0.0.1:3001"]
"#;

fn explained(arguments: &[&str]) -> (Option<i32>, String, String) {
    let scratch = Scratch::new();
    scratch.write("edge.toml", ROUTES);
    let all = [&["explain", "--config", "edge.toml"], arguments].concat();
    let output = scratch.edge(&all, &[]);
    (output.status.code(), stdout(&output), stderr(&output))
}

#[test]
fn a_request_is_told_its_route_its_upstream_and_why() {
    let cases: [(&[&str], &[&str]); 6] = [
        (
            &["https://app.example.com/api/x?y=1"],
            &[
                "route      api:",
                "upstream   app, weight 3 (75.00 %)",
                "upstream   next, weight 1 (25.00 %)",
                "target     /x?y=1",
                "not        canary: header x-canary is not 1",
            ],
        ),
        (
            &["https://app.example.com/api/x", "-H", "X-Canary: 1"],
            &[
                "route      canary:",
                "upstream   next, weight 1 (100.00 %)",
                "target     /api/x",
            ],
        ),
        (
            &["https://a.b.example.org/api"],
            &["route      api:", "target     /"],
        ),
        (
            &["https://x/old?a=b"],
            &["outcome    301", "https://new.example.com"],
        ),
        (
            &["http://x/old"],
            &["outcome    301 (redirect_to_https) to https://x:8443/old"],
        ),
        (
            &["https://x/admin", "--from", "10.1.2.3", "-X", "post"],
            &["request    POST x/admin", "outcome    forward"],
        ),
    ];
    for (arguments, expected) in cases {
        let (code, told, wrong) = explained(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {wrong}");
        for part in expected {
            assert!(told.contains(part), "{arguments:?}: no {part:?} in\n{told}");
        }
    }
}

#[test]
fn a_request_that_nobody_serves_is_told_its_status() {
    for (url, status) in [("https://x/nothing", "404"), ("https://x/admin", "403")] {
        let (code, told, _) = explained(&[url, "--json"]);
        assert_eq!(code, Some(0));
        let told: serde_json::Value = serde_json::from_str(&told).expect("is JSON");
        let outcome = told["outcome"].as_str().expect("a text");
        assert!(outcome.starts_with(status), "{url}: {told:#}");
    }
}

#[test]
fn what_is_no_request_is_refused() {
    for (arguments, expected) in [
        (&["ftp://x/"][..], "\"ftp://x/\" is no URL"),
        (
            &["https://x/%zz"],
            "would get a 400: the path has a percent sign",
        ),
        (&["https://a b/"], "would get a 400: \"a b\" is no host"),
        (&["https:///"], "would get a 400: \"\" is no host"),
        (&["https://x/", "-H", "x"], "\"x\" is no header"),
    ] {
        let (code, _, told) = explained(arguments);
        assert_eq!(code, Some(64), "{arguments:?}");
        assert!(told.contains(expected), "{arguments:?}: {told}");
    }
}
