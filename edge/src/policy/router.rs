//! Which route a request takes: the most specific one of all whose conditions hold.
//!
//! Room  pure.
//! In    the configured routes, once; then a request. Out  the position of a route.
//! Holds exact host before longer wildcard before any host; then exact path before longer prefix; then more
//!       conditions; then the earlier one. A look-up costs the same with ten and with ten thousand routes: only routes
//!       of equal host and path are tried one after the other, and no request makes it walk more than its own
//!       host's labels and its own path's segments.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::field::Field;
use crate::settings::{HeaderMatch, PathMatch, Route, RouteMatch};

use super::Asked;

#[cfg(test)]
mod tests;

/// What a look-up found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found<'r> {
    Route(usize),
    /// Routes are there for this host, path and headers, but only for these methods.
    OtherMethods(Vec<&'r str>),
    Nothing,
}

/// All routes by host.
#[derive(Debug)]
pub(super) struct Router {
    exact: HashMap<Box<str>, Paths>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Paths>,
    any: Paths,
    matchers: Vec<RouteMatch>,
}

/// Routes of one host by path.
#[derive(Debug)]
struct Paths {
    exact: HashMap<Box<str>, Vec<usize>>,
    /// A tree by segments; the first one is its root, the path `/`.
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    parent: Option<usize>,
    children: HashMap<Box<str>, usize>,
    routes: Vec<usize>,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            nodes: vec![Node::default()],
        }
    }
}

impl Router {
    pub(super) fn new(routes: &[Route]) -> Self {
        let mut router = Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            any: Paths::default(),
            matchers: routes.iter().map(|route| route.matcher.clone()).collect(),
        };
        // Candidates of one place then stand in the order in which they are tried.
        let mut order: Vec<usize> = (0..routes.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(conditions(&router.matchers[*index])));
        for index in order {
            let matcher = &routes[index].matcher;
            if matcher.hosts.is_empty() {
                router.any.add(&matcher.path, index);
            }
            for host in &matcher.hosts {
                let host = bare_host(host);
                let paths = match host.strip_prefix("*.") {
                    _ if host == "*" => &mut router.any,
                    Some(suffix) => router.wildcard.entry(Box::from(suffix)).or_default(),
                    None => router.exact.entry(Box::from(&*host)).or_default(),
                };
                paths.add(&matcher.path, index);
            }
        }
        router
    }

    /// What a route asks for.
    pub(super) fn matcher(&self, route: usize) -> &RouteMatch {
        &self.matchers[route]
    }

    /// The route for a request with `method` in place of its own (they differ for a CORS preflight).
    pub(super) fn find(&self, asked: &Asked<'_>, method: &str) -> Found<'_> {
        let host = bare_host(asked.host);
        let mut other_methods = false;
        let found = self.places(&host, asked.path, |route| {
            let matcher = &self.matchers[route];
            if !headers_hold(matcher, asked.fields) {
                return false;
            }
            let holds = method_holds(&matcher.methods, method);
            other_methods |= !holds;
            holds
        });
        match found {
            Some(route) => Found::Route(route),
            None if other_methods => Found::OtherMethods(self.methods(&host, asked)),
            None => Found::Nothing,
        }
    }

    fn methods(&self, host: &str, asked: &Asked<'_>) -> Vec<&str> {
        let mut methods: Vec<&str> = Vec::new();
        self.places(host, asked.path, |route| {
            let matcher = &self.matchers[route];
            if headers_hold(matcher, asked.fields) {
                for method in &matcher.methods {
                    let implied = if method == "GET" { "HEAD" } else { method };
                    for allowed in [method.as_str(), implied] {
                        if !methods.contains(&allowed) {
                            methods.push(allowed);
                        }
                    }
                }
            }
            false
        });
        methods
    }

    /// Offers every route whose host and path match to `take`, the most specific one first, until it takes one.
    fn places(&self, host: &str, path: &str, mut take: impl FnMut(usize) -> bool) -> Option<usize> {
        if let Some(route) = self
            .exact
            .get(host)
            .and_then(|paths| paths.first(path, &mut take))
        {
            return Some(route);
        }
        if !self.wildcard.is_empty() {
            let mut rest = host;
            while let Some((_, suffix)) = rest.split_once('.') {
                if let Some(route) = self
                    .wildcard
                    .get(suffix)
                    .and_then(|paths| paths.first(path, &mut take))
                {
                    return Some(route);
                }
                rest = suffix;
            }
        }
        self.any.first(path, &mut take)
    }
}

impl Paths {
    fn add(&mut self, path: &PathMatch, route: usize) {
        let place = match path {
            PathMatch::Exact(path) => self.exact.entry(Box::from(path.as_str())).or_default(),
            PathMatch::Prefix(prefix) => {
                let node = self.node(prefix);
                &mut self.nodes[node].routes
            }
        };
        if !place.contains(&route) {
            place.push(route);
        }
    }

    fn node(&mut self, prefix: &str) -> usize {
        let mut at = 0;
        for segment in segments(prefix.trim_end_matches('/')) {
            at = match self.nodes[at].children.get(segment) {
                Some(child) => *child,
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(Node {
                        parent: Some(at),
                        ..Node::default()
                    });
                    self.nodes[at].children.insert(Box::from(segment), child);
                    child
                }
            };
        }
        at
    }

    fn first(&self, path: &str, take: &mut impl FnMut(usize) -> bool) -> Option<usize> {
        if let Some(route) = self
            .exact
            .get(path)
            .and_then(|routes| routes.iter().find(|route| take(**route)))
        {
            return Some(*route);
        }
        let mut at = 0;
        for segment in segments(path) {
            let Some(child) = self.nodes[at].children.get(segment) else {
                break;
            };
            at = *child;
        }
        let mut up = Some(at);
        while let Some(at) = up {
            let node = &self.nodes[at];
            if let Some(route) = node.routes.iter().find(|route| take(**route)) {
                return Some(*route);
            }
            up = node.parent;
        }
        None
    }
}

/// How many conditions a route has beside host and path.
fn conditions(matcher: &RouteMatch) -> usize {
    usize::from(!matcher.methods.is_empty()) + matcher.headers.len()
}

fn headers_hold(matcher: &RouteMatch, fields: &[Field<'_>]) -> bool {
    matcher
        .headers
        .iter()
        .all(|header| header_holds(header, fields))
}

/// One route's hosts and a bare host, without the tables: for `explain`, and to test the tables against.
pub(super) fn host_holds(hosts: &[String], host: &str) -> bool {
    hosts.is_empty()
        || hosts.iter().any(|wanted| {
            let wanted = bare_host(wanted);
            wanted == "*"
                || wanted == host
                || wanted
                    .strip_prefix('*')
                    .is_some_and(|suffix| suffix.starts_with('.') && host.ends_with(suffix))
        })
}

/// The same for a path.
pub(super) fn path_holds(wanted: &PathMatch, path: &str) -> bool {
    match wanted {
        PathMatch::Exact(wanted) => wanted == path,
        PathMatch::Prefix(prefix) => {
            let prefix = prefix.trim_end_matches('/');
            prefix.is_empty()
                || path
                    .strip_prefix(prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    }
}

/// An empty list has every method; GET has HEAD too (RFC 9110 section 9.3.2: a HEAD asks for GET's head).
pub(super) fn method_holds(methods: &[String], method: &str) -> bool {
    methods.is_empty()
        || methods.iter().any(|allowed| allowed == method)
        || (method == "HEAD" && methods.iter().any(|allowed| allowed == "GET"))
}

/// Any line of the name will do.
pub(super) fn header_holds(header: &HeaderMatch, fields: &[Field<'_>]) -> bool {
    fields.iter().any(|field| {
        field.is(&header.name)
            && header
                .value
                .as_ref()
                .is_none_or(|value| field.value == value.as_bytes())
    })
}

/// A path that does not begin with `/` (`*`) has no segments: only `/` matches it.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/')
        .into_iter()
        .flat_map(|rest| rest.split('/'))
}

/// An authority's host as routes know it: without port and last dot, in lower case. Allocates only for
/// capital letters.
pub(super) fn bare_host(authority: &str) -> Cow<'_, str> {
    let host = without_port(authority);
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// `[::1]:80` and `a:80` without `:80`.
pub(super) fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|byte| byte.is_ascii_digit())
                && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => authority,
    }
}
