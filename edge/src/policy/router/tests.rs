//! The tables against a walk over all routes, and what is more specific than what.

use proptest::prelude::*;

use super::{
    Found, Router, bare_host, conditions, headers_hold, host_holds, method_holds, path_holds,
    without_port,
};
use crate::field::Field;
use crate::policy::tests::{asked, route};
use crate::settings::{HeaderMatch, PathMatch, Route, RouteMatch};

fn at(hosts: &[&str], path: PathMatch) -> Route {
    let mut route = route("r");
    route.matcher.hosts = hosts.iter().map(|&host| host.to_owned()).collect();
    route.matcher.path = path;
    route
}

fn prefix(path: &str) -> PathMatch {
    PathMatch::Prefix(path.to_owned())
}

fn exact(path: &str) -> PathMatch {
    PathMatch::Exact(path.to_owned())
}

/// The definition of "most specific wins", by looking at every route.
fn by_walking(
    routes: &[Route],
    host: &str,
    path: &str,
    method: &str,
    fields: &[Field<'_>],
) -> Option<usize> {
    let host = bare_host(host);
    let rank = |matcher: &RouteMatch| {
        let by_host = matcher
            .hosts
            .iter()
            .filter(|wanted| host_holds(std::slice::from_ref(wanted), &host))
            .map(|wanted| {
                if wanted.starts_with('*') {
                    wanted.len() - 1
                } else {
                    usize::MAX
                }
            })
            .max()
            .unwrap_or(0);
        let by_path = match &matcher.path {
            PathMatch::Exact(_) => usize::MAX,
            PathMatch::Prefix(prefix) => prefix.trim_end_matches('/').len(),
        };
        (by_host, by_path, conditions(matcher))
    };
    (0..routes.len())
        .filter(|index| {
            let matcher = &routes[*index].matcher;
            host_holds(&matcher.hosts, &host)
                && path_holds(&matcher.path, path)
                && method_holds(&matcher.methods, method)
                && headers_hold(matcher, fields)
        })
        .max_by_key(|index| (rank(&routes[*index].matcher), std::cmp::Reverse(*index)))
}

#[test]
fn the_most_specific_one_wins() {
    let mut with_method = at(&[], prefix("/m"));
    with_method.matcher.methods = vec!["POST".to_owned()];
    let routes = [
        at(&[], prefix("/")),
        at(&["*.example.org"], prefix("/")),
        at(&["*.b.example.org"], prefix("/")),
        at(&["a.b.example.org"], prefix("/api")),
        at(&["a.b.example.org"], prefix("/api/v1/")),
        at(&["a.b.example.org"], exact("/api/v1")),
        at(&[], prefix("/m")),
        with_method,
        at(&[], prefix("/m")),
    ];
    let router = Router::new(&routes);
    for (host, path, method, expected) in [
        ("x.test", "/", "GET", 0),
        ("example.org", "/", "GET", 0),
        ("x.example.org", "/", "GET", 1),
        ("X.Example.ORG.:8443", "/", "GET", 1),
        ("y.x.example.org", "/", "GET", 1),
        ("x.b.example.org", "/", "GET", 2),
        ("a.b.example.org", "/", "GET", 2),
        ("a.b.example.org", "/apix", "GET", 2),
        ("a.b.example.org", "/api", "GET", 3),
        ("a.b.example.org:80", "/api/v2", "GET", 3),
        ("a.b.example.org", "/api/v1", "GET", 5),
        ("a.b.example.org", "/api/v1/", "GET", 4),
        ("a.b.example.org", "/api/v1/x", "GET", 4),
        ("x.test", "/m/1", "GET", 6),
        ("x.test", "/m/1", "POST", 7),
        ("x.test", "*", "OPTIONS", 0),
        ("", "/", "GET", 0),
        ("[::1]:8080", "/", "GET", 0),
    ] {
        let found = router.find(&asked(method, host, path, &[]), method);
        assert_eq!(found, Found::Route(expected), "{method} {host} {path}");
    }
}

#[test]
fn methods_that_would_do_are_named() {
    let mut get = at(&["a"], prefix("/x"));
    get.matcher.methods = vec!["GET".to_owned()];
    let mut put = at(&[], exact("/x"));
    put.matcher.methods = vec!["PUT".to_owned()];
    let routes = [get, put];
    let router = Router::new(&routes);
    let find = |method, host, path| router.find(&asked(method, host, path, &[]), method);
    assert_eq!(find("GET", "a", "/x"), Found::Route(0));
    assert_eq!(find("HEAD", "a", "/x"), Found::Route(0));
    assert_eq!(find("PUT", "a", "/x"), Found::Route(1));
    assert_eq!(
        find("POST", "a", "/x"),
        Found::OtherMethods(vec!["GET", "HEAD", "PUT"])
    );
    assert_eq!(find("POST", "b", "/x"), Found::OtherMethods(vec!["PUT"]));
    assert_eq!(find("POST", "b", "/y"), Found::Nothing);
    assert_eq!(
        find("get", "a", "/x/y"),
        Found::OtherMethods(vec!["GET", "HEAD"])
    );
}

#[test]
fn ports_and_hosts() {
    for (authority, host) in [
        ("a:80", "a"),
        ("a:", "a"),
        ("a", "a"),
        ("[::1]", "[::1]"),
        ("[::1]:80", "[::1]"),
        ("::1", "::1"),
        ("a:b", "a:b"),
        ("", ""),
    ] {
        assert_eq!(without_port(authority), host, "{authority}");
    }
}

/// Ten thousand hosts with ten paths each: a walk over all would take minutes here.
#[test]
fn many_routes_cost_no_more_than_few() {
    let routes: Vec<Route> = (0..10_000)
        .map(|n| {
            at(
                &[&format!("h{}.example.org", n / 10)],
                prefix(&format!("/p{}", n % 10)),
            )
        })
        .collect();
    let router = Router::new(&routes);
    let mut offered = 0;
    for n in (0..10_000).rev() {
        let (host, path) = (
            format!("h{}.example.org", n / 10),
            format!("/p{}/x/y", n % 10),
        );
        let found = router.places(&host, &path, |_| {
            offered += 1;
            true
        });
        assert_eq!(found, Some(n));
    }
    assert_eq!(offered, 10_000, "only the one that matches is looked at");
}

fn some_routes() -> impl Strategy<Value = Vec<Route>> {
    let host = prop::sample::select(vec![
        "a.org",
        "b.a.org",
        "c.b.a.org",
        "*.org",
        "*.a.org",
        "*.b.a.org",
        "*",
    ]);
    let path = ("(/[ab]{0,1}){1,4}", any::<bool>()).prop_map(|(path, is_exact)| {
        if is_exact {
            exact(&path)
        } else {
            prefix(&path)
        }
    });
    let method = prop::sample::select(vec!["GET", "HEAD", "POST"]);
    let header = (
        prop::sample::select(vec!["x-a", "x-b"]),
        prop::option::of("[12]"),
    )
        .prop_map(|(name, value)| HeaderMatch {
            name: name.to_owned(),
            value,
        });
    let one = (
        prop::collection::vec(host, 0..3),
        path,
        prop::collection::vec(method, 0..2),
        prop::collection::vec(header, 0..3),
    )
        .prop_map(|(hosts, path, methods, headers)| {
            let mut route = at(&hosts, path);
            route.matcher.methods = methods.into_iter().map(str::to_owned).collect();
            route.matcher.headers = headers;
            route
        });
    prop::collection::vec(one, 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn tables_find_what_a_walk_finds(
        routes in some_routes(),
        host in "((A|a|b|c|x)\\.){0,3}(org|a)\\.?(:8443)?",
        path in "\\*|(/[abc]{0,1}){1,6}",
        method in "GET|HEAD|POST|PUT",
        values in prop::collection::vec(("(x|X)-[ab]", "[123]"), 0..4),
    ) {
        let fields: Vec<Field<'_>> = values
            .iter()
            .map(|(name, value)| Field { name: name.as_bytes(), value: value.as_bytes() })
            .collect();
        let router = Router::new(&routes);
        let found = router.find(&asked(&method, &host, &path, &fields), &method);
        let expected = by_walking(&routes, &host, &path, &method, &fields);
        match (&found, expected) {
            (Found::Route(found), Some(expected)) => prop_assert_eq!(*found, expected),
            (Found::OtherMethods(methods), None) => {
                let other = by_walking(&routes, &host, &path, methods[0], &fields);
                prop_assert!(other.is_some(), "{} would not do", methods[0]);
            }
            (Found::Nothing, None) => {
                for method in ["GET", "HEAD", "POST"] {
                    prop_assert_eq!(by_walking(&routes, &host, &path, method, &fields), None);
                }
            }
            _ => prop_assert!(false, "{:?} instead of {:?}", found, expected),
        }
    }

    #[test]
    fn no_host_or_path_panics(host in any::<String>(), path in any::<String>(), routes in some_routes()) {
        Router::new(&routes).find(&asked("GET", &host, &path, &[]), "GET");
    }
}
