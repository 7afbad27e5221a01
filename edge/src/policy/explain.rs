//! Why a request takes its route: for people who ask `edge explain`.
//!
//! Room  pure.
//! Holds it asks [`Policy::decide`] itself, with counters of its own: what it says is what a request meets, and
//!       no client's limit is used up.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use crate::field::FieldSink;
use crate::settings::{PathMatch, RateKey, RouteMatch};

use super::route::Action;
use super::router::{Found, bare_host, header_holds, host_holds, method_holds, path_holds};
use super::{Asked, Client, CompiledRoute, Decision, Policy, PolicyState, Rate};

#[cfg(test)]
mod tests;

/// Rejected routes that are told about.
const REJECTED_MAX: usize = 5;

/// What would become of a request, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `GET example.org/path?query`
    pub request: String,
    /// Who is believed to ask.
    pub client_ip: IpAddr,
    /// The name of the route that matched.
    pub route: Option<String>,
    /// Which conditions held; without a route: why there is none.
    pub because: String,
    /// The closest ones of the others, at most five.
    pub rejected: Vec<Rejected>,
    /// `forward`, or the status that the proxy answers itself.
    pub outcome: String,
    pub upstreams: Vec<Share>,
    /// Towards the backend.
    pub target: Option<String>,
    /// Request headers that a backend gets in place of or beside the client's.
    pub headers_added: Vec<(String, String)>,
    /// Of the request's, those that a backend does not get as they are.
    pub headers_removed: Vec<String>,
    /// Limits that apply, as sentences.
    pub limits: Vec<String>,
}

/// A route that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    pub route: String,
    /// The first condition that fails, or that another route is more specific.
    pub because: String,
}

/// An upstream and what it gets of the route's requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    pub upstream: String,
    pub weight: u64,
    pub percent: String,
}

impl Policy {
    /// What would become of a request, and why. Walks over all routes: for people, not for requests.
    pub fn explain(&self, asked: &Asked<'_>, client: &Client) -> Explanation {
        let state = PolicyState::new(1, 0);
        let decision = self.decide(asked, client, &state, Duration::ZERO, 0);
        let taken = match self.router.find(asked, asked.method) {
            Found::Route(index) => Some(&self.routes[index]),
            Found::OtherMethods(_) | Found::Nothing => None,
        };
        let query = asked.query.map(|query| format!("?{query}"));
        let query = query.unwrap_or_default();
        let mut explanation = Explanation {
            request: format!("{} {}{}{query}", asked.method, asked.host, asked.path),
            client_ip: client.peer,
            route: taken.map(|route| route.name.to_string()),
            because: match taken {
                Some(route) => held(self.router.matcher(route.index)),
                None => "no route's conditions all hold".to_owned(),
            },
            rejected: self.rejected(asked, taken),
            outcome: String::new(),
            upstreams: taken.map(shares).unwrap_or_default(),
            target: None,
            headers_added: Vec::new(),
            headers_removed: Vec::new(),
            limits: self.limits(taken),
        };
        match decision {
            Decision::Answer(answer) => {
                explanation.client_ip = answer.client_ip.unwrap_or(client.peer);
                let location = answer.field("location").map(|to| format!(" to {to}"));
                let location = location.unwrap_or_default();
                explanation.outcome = format!("{} ({}){location}", answer.status, answer.end);
            }
            Decision::Forward(forwarding) => {
                explanation.client_ip = forwarding.client_ip;
                "forward".clone_into(&mut explanation.outcome);
                let mut target = Vec::new();
                self.write_target(&forwarding, asked, &mut target);
                explanation.target = Some(String::from_utf8_lossy(&target).into_owned());
                let mut sent = Pairs::default();
                self.write_request_fields(&forwarding, asked, client, &mut sent);
                explanation.compare(asked, sent);
            }
        }
        explanation
    }

    /// The routes that come closest, by how many conditions hold.
    fn rejected(&self, asked: &Asked<'_>, taken: Option<&CompiledRoute>) -> Vec<Rejected> {
        let mut rejected: Vec<(usize, &CompiledRoute, String)> = self
            .routes
            .iter()
            .filter(|route| taken.is_none_or(|taken| taken.index != route.index))
            .map(|route| {
                let (held, because) = failing(self.router.matcher(route.index), asked);
                let because = because.unwrap_or_else(|| {
                    let name = taken.map_or("another", |taken| &*taken.name);
                    format!("every condition holds, but {name} is more specific or comes earlier")
                });
                (held, route, because)
            })
            .collect();
        rejected.sort_by_key(|(held, ..)| std::cmp::Reverse(*held));
        rejected
            .into_iter()
            .take(REJECTED_MAX)
            .map(|(_, route, because)| Rejected {
                route: route.name.to_string(),
                because,
            })
            .collect()
    }

    fn limits(&self, route: Option<&CompiledRoute>) -> Vec<String> {
        let mut limits = Vec::new();
        let mut rate = |rate: Option<&Rate>, of: &str| {
            if let Some(rate) = rate {
                let by = match rate.by {
                    RateKey::Ip => "for each client address",
                    RateKey::All => "for all together",
                };
                let (minute, burst) = (rate.per_minute, rate.burst());
                limits.push(format!(
                    "{minute} requests a minute, burst {burst}, {by}, over {of}"
                ));
            }
        };
        rate(self.rate.as_ref(), "all routes");
        rate(route.and_then(|route| route.rate.as_ref()), "this route");
        if let Some(at_once) = self.concurrent_requests {
            limits.push(format!("{at_once} requests at once over all routes"));
        }
        let Some(route) = route else { return limits };
        if let Some(at_once) = route.concurrent_requests {
            limits.push(format!("{at_once} requests at once on this route"));
        }
        if let Some(bytes) = route.body_bytes {
            limits.push(format!("a body of {bytes} bytes"));
        }
        let (first, total) = (route.upstream_first_byte, route.total_timeout);
        limits.push(format!("{first:?} to the backend's first byte"));
        limits.push(format!("{total:?} in all"));
        limits
    }
}

impl Explanation {
    /// What the backend gets beside and without what the client sent.
    fn compare(&mut self, asked: &Asked<'_>, sent: Pairs) {
        let same = |(name, value): &(String, String), field: &crate::field::Field<'_>| {
            field.is(name) && field.value == value.as_bytes()
        };
        self.headers_removed = asked
            .fields
            .iter()
            .filter(|field| !sent.0.iter().any(|pair| same(pair, field)))
            .map(|field| String::from_utf8_lossy(field.name).into_owned())
            .collect();
        self.headers_added = sent
            .0
            .into_iter()
            .filter(|pair| !asked.fields.iter().any(|field| same(pair, field)))
            .collect();
    }
}

fn shares(route: &CompiledRoute) -> Vec<Share> {
    let Action::Forward(upstreams) = &route.action else {
        return Vec::new();
    };
    upstreams
        .each()
        .map(|(name, weight, total)| {
            let hundredths = weight * 10_000 / total.max(1);
            Share {
                upstream: name.to_owned(),
                weight,
                percent: format!("{}.{:02} %", hundredths / 100, hundredths % 100),
            }
        })
        .collect()
}

/// What a route asks for, as a sentence.
fn held(matcher: &RouteMatch) -> String {
    let mut parts = vec![match matcher.hosts.as_slice() {
        [] => "any host".to_owned(),
        hosts => format!("host {}", hosts.join(" or ")),
    }];
    parts.push(match &matcher.path {
        PathMatch::Exact(path) => format!("path exactly {path}"),
        PathMatch::Prefix(path) => format!("path below {path}"),
    });
    if !matcher.methods.is_empty() {
        parts.push(format!("method {}", matcher.methods.join(" or ")));
    }
    for header in &matcher.headers {
        parts.push(match &header.value {
            Some(value) => format!("header {}: {value}", header.name),
            None => format!("header {}", header.name),
        });
    }
    parts.join(", ")
}

/// How many conditions hold, and the first one that does not.
fn failing(matcher: &RouteMatch, asked: &Asked<'_>) -> (usize, Option<String>) {
    let host = bare_host(asked.host);
    if !host_holds(&matcher.hosts, &host) {
        let hosts = matcher.hosts.join(" or ");
        return (0, Some(format!("host {host} is not {hosts}")));
    }
    let path = asked.path;
    if !path_holds(&matcher.path, path) {
        let wanted = match &matcher.path {
            PathMatch::Exact(wanted) => format!("exactly {wanted}"),
            PathMatch::Prefix(wanted) => format!("below {wanted}"),
        };
        return (1, Some(format!("path {path} is not {wanted}")));
    }
    for (index, header) in matcher.headers.iter().enumerate() {
        if !header_holds(header, asked.fields) {
            let wanted = match &header.value {
                Some(value) => format!("header {} is not {value}", header.name),
                None => format!("header {} is absent", header.name),
            };
            return (2 + index, Some(wanted));
        }
    }
    let held = 2 + matcher.headers.len();
    if !method_holds(&matcher.methods, asked.method) {
        let (method, wanted) = (asked.method, matcher.methods.join(" or "));
        return (held, Some(format!("method {method} is not {wanted}")));
    }
    (held + 1, None)
}

/// Fields as text.
#[derive(Default)]
struct Pairs(Vec<(String, String)>);

impl FieldSink for Pairs {
    fn put(&mut self, name: &[u8], value: &[u8]) {
        let [name, value] = [name, value].map(|part| String::from_utf8_lossy(part).into_owned());
        self.0.push((name, value));
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |label: &str, value: &dyn fmt::Display| writeln!(out, "{label:<10} {value}");
        line("request", &self.request)?;
        line("client", &self.client_ip)?;
        match &self.route {
            Some(route) => line("route", &format_args!("{route}: {}", self.because))?,
            None => line("route", &format_args!("none: {}", self.because))?,
        }
        line("outcome", &self.outcome)?;
        for share in &self.upstreams {
            let (name, weight, percent) = (&share.upstream, share.weight, &share.percent);
            line(
                "upstream",
                &format_args!("{name}, weight {weight} ({percent})"),
            )?;
        }
        if let Some(target) = &self.target {
            line("target", target)?;
        }
        for (name, value) in &self.headers_added {
            line("adds", &format_args!("{name}: {value}"))?;
        }
        for name in &self.headers_removed {
            line("removes", name)?;
        }
        for limit in &self.limits {
            line("limit", limit)?;
        }
        for rejected in &self.rejected {
            let (route, because) = (&rejected.route, &rejected.because);
            line("not", &format_args!("{route}: {because}"))?;
        }
        Ok(())
    }
}
