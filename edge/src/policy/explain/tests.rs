//! What people are told, and that it is what requests meet.

use crate::policy::Asked;
use crate::policy::tests::{asked, client, fields, forward, policy, route, settings};
use crate::settings::{PathMatch, RateKey, RateLimit, RouteAction};

#[test]
fn the_whole_story() {
    let mut api = route("api");
    api.matcher.hosts = vec!["*.example.org".to_owned()];
    api.matcher.path = PathMatch::Prefix("/api".to_owned());
    api.rewrite.strip_prefix = true;
    api.action = forward(&[("one", 19), ("two", 1)]);
    api.request_headers.remove = vec!["x-debug".to_owned()];
    let mut writing = route("writing");
    writing.matcher.path = PathMatch::Prefix("/api".to_owned());
    writing.matcher.methods = vec!["POST".to_owned()];
    let mut other = route("other");
    other.matcher.hosts = vec!["other.test".to_owned()];
    let mut all = settings(vec![route("rest"), other, writing, api]);
    all.rate_limit = Some(RateLimit {
        requests_per_minute: 60,
        burst: 7,
        by: RateKey::Ip,
    });
    let policy = policy(&all);
    let sent = [("Accept", "*/*"), ("X-Debug", "1")];
    let sent = fields(&sent);
    let request = Asked {
        query: Some("q"),
        ..asked("GET", "a.example.org", "/api/x", &sent)
    };
    let explanation = policy.explain(&request, &client("192.0.2.1"));
    let text = explanation.to_string();
    assert_eq!(
        text,
        "request    GET a.example.org/api/x?q\n\
         client     192.0.2.1\n\
         route      api: host *.example.org, path below /api\n\
         outcome    forward\n\
         upstream   one, weight 19 (95.00 %)\n\
         upstream   two, weight 1 (5.00 %)\n\
         target     /x?q\n\
         adds       Host: a.example.org\n\
         adds       X-Forwarded-For: 192.0.2.1\n\
         adds       X-Forwarded-Proto: http\n\
         adds       X-Forwarded-Host: a.example.org\n\
         adds       X-Real-IP: 192.0.2.1\n\
         adds       Forwarded: for=192.0.2.1;proto=http;host=a.example.org\n\
         adds       X-Request-Id: 00000000000000000000000000000000\n\
         removes    X-Debug\n\
         limit      60 requests a minute, burst 7, for each client address, over all routes\n\
         limit      a body of 104857600 bytes\n\
         limit      60s to the backend's first byte\n\
         limit      3600s in all\n\
         not        rest: every condition holds, but api is more specific or comes earlier\n\
         not        writing: method GET is not POST\n\
         not        other: host a.example.org is not other.test\n"
    );
    let json = serde_json::to_value(&explanation).expect("is JSON");
    assert_eq!(json["route"], "api");
    assert_eq!(json["upstreams"][1]["percent"], "5.00 %");
}

#[test]
fn no_route_and_own_answers() {
    let mut fixed = route("fixed");
    fixed.matcher.path = PathMatch::Exact("/f".to_owned());
    fixed.action = RouteAction::Respond {
        status: 200,
        body: "ok".to_owned(),
    };
    let routes = (0..8).map(|n| {
        let mut route = fixed.clone();
        route.name = format!("fixed-{n}");
        route
    });
    let policy = policy(&settings(routes.collect()));
    let near = client("192.0.2.1");
    let nothing = policy.explain(&asked("GET", "a", "/g", &[]), &near);
    assert_eq!(nothing.outcome, "404 (no_route)");
    assert_eq!((nothing.route, nothing.rejected.len()), (None, 5));
    assert_eq!(nothing.rejected[0].because, "path /g is not exactly /f");
    let own = policy.explain(&asked("GET", "a", "/f", &[]), &near);
    assert_eq!(own.outcome, "200 (route_respond)");
    assert_eq!(own.route.as_deref(), Some("fixed-0"));
}
