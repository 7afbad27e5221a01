//! What becomes of a request: forwarded, and how, or answered by the proxy itself.
//!
//! Room  pure: no socket, no clock; the time and randomness are arguments. The shared counters
//!       ([`PolicyState`], the routes' permits) are atomics and small locks that are never held across a call.
//! In    [`Settings`], once; then the request ([`Asked`]) and who sent it ([`Client`]).
//! Out   a [`Decision`]; fields and targets into what the caller gives.
//! Holds an ordinary forwarded request costs no allocation here; both HTTP versions get the same answer to
//!       the same request; no request makes anything here panic.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crate::field::Field;
use crate::settings::Settings;

mod access;
mod answer;
mod cors;
mod explain;
mod forwarding;
mod names;
mod permit;
mod rate;
mod request_id;
mod response;
mod rewrite;
mod route;
mod router;
mod security;
#[cfg(test)]
mod tests;
mod text;

pub use answer::{Answer, error_answer};
pub use explain::{Explanation, Rejected, Share};
pub use names::{is_framing_or_hop_by_hop, may_forward_trailer};
pub use permit::Permit;
pub use rate::{RateStatus, RateTable};
pub use request_id::RequestId;
pub use route::CompiledRoute;

use access::AccessList;
use answer::Pages;
use cors::CompiledCors;
use forwarding::ConnectionOptions;
use rate::{Rate, Verdict};
use route::Action;
use router::{Found, Router};
use security::SecurityFields;

/// The version that a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    Http10,
    Http11,
    Http2,
}

/// Who sent a request, and over what.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The connection's other end, or what a believed PROXY header says.
    pub peer: IpAddr,
    pub peer_port: u16,
    pub is_tls: bool,
    /// Position in [`Settings::listeners`].
    pub listener: usize,
    pub listener_port: u16,
    /// Whether the connection's certificate is good for the request's host; `None`: in clear or not known.
    pub covers_host: Option<bool>,
}

/// A request's head, already checked by its engine.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'r> {
    pub method: &'r str,
    /// The authority as sent: `host` or `host:port`; empty where HTTP/1.0 sent none.
    pub host: &'r str,
    /// Normalised; `*` for `OPTIONS *`.
    pub path: &'r str,
    /// Without `?`.
    pub query: Option<&'r str>,
    /// Every field line in the order sent, one after the other in one buffer (see [`crate::field::FieldSink::put_run`]).
    pub fields: &'r [Field<'r>],
    pub version: HttpVersion,
    /// The protocol asked for by Upgrade or extended CONNECT.
    pub upgrade: Option<&'r str>,
    /// From Content-Length.
    pub body_length: Option<u64>,
}

impl<'r> Asked<'r> {
    /// The first value of a field; `name` is lower-case.
    pub fn field(&self, name: &str) -> Option<&'r [u8]> {
        self.fields
            .iter()
            .find(|field| field.is(name))
            .map(|field| field.value)
    }

    /// The same, where it is text.
    pub fn text_field(&self, name: &str) -> Option<&'r str> {
        self.field(name)
            .and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// What outlives a reload: shared by every worker and every generation of [`Policy`].
#[derive(Debug)]
pub struct PolicyState {
    pub rates: RateTable,
    /// Requests under way, counted only while [`crate::settings::Limits::concurrent_requests`] is set.
    pub under_way: Arc<AtomicUsize>,
}

impl PolicyState {
    /// `rate_limit_entries` from [`crate::settings::Limits`]; `seed` must be random, see [`RateTable::new`].
    pub fn new(rate_limit_entries: usize, seed: u128) -> Self {
        Self {
            rates: RateTable::new(rate_limit_entries, seed),
            under_way: Arc::default(),
        }
    }
}

/// [`Settings`], made ready for requests.
#[derive(Debug)]
pub struct Policy {
    routes: Vec<CompiledRoute>,
    router: Router,
    /// By listener: the port of https that everything is redirected to.
    redirects: Vec<Option<u16>>,
    access: AccessList,
    trusted: AccessList,
    rate: Option<Rate>,
    concurrent_requests: Option<usize>,
    security: SecurityFields,
    pages: Pages,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Decision<'p> {
    Forward(Forwarding<'p>),
    Answer(Answer),
}

/// A request that goes to an upstream. Counts as under way until it is dropped.
#[derive(Debug)]
pub struct Forwarding<'p> {
    pub route: &'p CompiledRoute,
    /// As numbered by `upstream_index` of [`Policy::new`].
    pub upstream: usize,
    /// Who is believed to have asked.
    pub client_ip: IpAddr,
    pub request_id: RequestId,
    /// The peer is one of [`Settings::trusted_proxies`].
    pub trusted: bool,
    options: ConnectionOptions,
    permits: [Permit; 2],
}

impl Forwarding<'_> {
    /// Places taken of limits on concurrent requests (none where there is no limit), to be held apart.
    pub fn take_permits(&mut self) -> [Permit; 2] {
        std::mem::take(&mut self.permits)
    }
}

/// Who asked, found once for a request.
#[derive(Clone, Copy, Debug)]
struct Identity {
    client_ip: IpAddr,
    request_id: RequestId,
    trusted: bool,
}

impl Policy {
    /// `upstream_index` numbers the upstreams by name.
    pub fn new(settings: &Settings, upstream_index: impl Fn(&str) -> usize) -> Self {
        let cors = settings.cors.as_ref().map(CompiledCors::new).map(Arc::new);
        let routes: Vec<CompiledRoute> = settings
            .routes
            .iter()
            .enumerate()
            .map(|(index, route)| {
                CompiledRoute::new(index, route, settings, cors.as_ref(), &upstream_index)
            })
            .collect();
        Self {
            router: Router::new(&settings.routes),
            routes,
            redirects: settings
                .listeners
                .iter()
                .map(|listener| listener.redirect_to_https)
                .collect(),
            access: AccessList::new(&settings.access.allow, &settings.access.deny),
            trusted: AccessList::new(&settings.trusted_proxies, &[]),
            rate: settings.rate_limit.map(|limit| Rate::new(limit, "")),
            concurrent_requests: settings.limits.concurrent_requests,
            security: SecurityFields::new(settings.security_headers.as_ref()),
            pages: Pages::new(settings.error_pages.clone()),
        }
    }

    /// Counts requests on with the counters of `before`, route by route of equal name: a reload does not
    /// forget what is under way.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        let counters: std::collections::HashMap<&str, &CompiledRoute> = before
            .routes
            .iter()
            .map(|route| (&*route.name, route))
            .collect();
        for route in &mut self.routes {
            if let Some(old) = counters.get(&*route.name) {
                route.under_way = Arc::clone(&old.under_way);
            }
        }
        self
    }

    /// Every route, in the order of the configuration.
    pub fn routes(&self) -> &[CompiledRoute] {
        &self.routes
    }

    /// What becomes of a request. `now` is the time since the process started (or any steady clock that is
    /// the same for all calls with `state`), `random` is used for the request id and to choose between upstreams.
    pub fn decide<'p>(
        &'p self,
        asked: &Asked<'_>,
        client: &Client,
        state: &PolicyState,
        now: Duration,
        random: u128,
    ) -> Decision<'p> {
        let identity = self.identify(asked, client, random);
        match self.judge(asked, client, state, now, &identity, random) {
            Ok(forwarding) => Decision::Forward(forwarding),
            Err(mut answer) => {
                answer.client_ip = Some(identity.client_ip);
                answer.request_id = identity.request_id;
                Decision::Answer(*answer)
            }
        }
    }

    /// The proxy's own error, for what goes wrong outside [`Policy::decide`]. `end` is the access log's reason.
    pub fn error(
        &self,
        status: u16,
        end: &'static str,
        accept: Option<&str>,
        request_id: &RequestId,
    ) -> Answer {
        self.pages.answer(status, end, accept, request_id)
    }

    fn identify(&self, asked: &Asked<'_>, client: &Client, random: u128) -> Identity {
        let peer = client.peer.to_canonical();
        let trusted = self.trusted.lists(peer);
        Identity {
            client_ip: if trusted {
                forwarding::believed(&self.trusted, peer, asked.fields)
            } else {
                peer
            },
            request_id: trusted
                .then(|| asked.field("x-request-id").and_then(RequestId::given))
                .flatten()
                .unwrap_or_else(|| RequestId::generated(random)),
            trusted,
        }
    }

    /// The checks in their order: what is cheap and refuses most comes first.
    fn judge<'p>(
        &'p self,
        asked: &Asked<'_>,
        client: &Client,
        state: &PolicyState,
        now: Duration,
        identity: &Identity,
        random: u128,
    ) -> Result<Forwarding<'p>, Box<Answer>> {
        let refuse = |status, end| self.refusal(status, end, asked, identity);
        if client.covers_host == Some(false) {
            return Err(refuse(421, "misdirected"));
        }
        let Ok(options) = forwarding::connection_options(asked.fields) else {
            return Err(refuse(400, "connection_lists_protected_field"));
        };
        if !self.access.admits(identity.client_ip) {
            return Err(refuse(403, "access_denied"));
        }
        if let Some(Some(port)) = self.redirects.get(client.listener) {
            return Err(
                rewrite::to_https(asked, *port).map_or_else(|| refuse(400, "no_host"), Box::new)
            );
        }
        self.within_rate(self.rate.as_ref(), state, now, asked, identity)?;
        if let Some(answer) = self.preflight(asked) {
            return Err(Box::new(answer));
        }
        let route = match self.router.find(asked, asked.method) {
            Found::Route(index) => &self.routes[index],
            Found::OtherMethods(methods) => {
                return Err(Box::new(
                    refuse(405, "method_not_allowed").with("allow", methods.join(", ")),
                ));
            }
            Found::Nothing => return Err(refuse(404, "no_route")),
        };
        self.within_route(route, asked, client, state, now, identity)
            .and_then(|upstreams| {
                Ok(Forwarding {
                    route,
                    upstream: upstreams.choose(random),
                    client_ip: identity.client_ip,
                    request_id: identity.request_id,
                    trusted: identity.trusted,
                    options,
                    permits: self.places(route, state).ok_or_else(|| {
                        Box::new(
                            refuse(503, "concurrency_limit")
                                .with("retry-after", "1".to_owned())
                                .of(route.index),
                        )
                    })?,
                })
            })
            .map_err(|mut answer| {
                answer.route = Some(route.index);
                answer
            })
    }

    /// A route's own checks; then where it goes, or its own answer.
    fn within_route<'p>(
        &self,
        route: &'p CompiledRoute,
        asked: &Asked<'_>,
        client: &Client,
        state: &PolicyState,
        now: Duration,
        identity: &Identity,
    ) -> Result<&'p route::Upstreams, Box<Answer>> {
        let refuse = |status, end| self.refusal(status, end, asked, identity);
        if !route.access.admits(identity.client_ip) {
            return Err(refuse(403, "access_denied"));
        }
        self.within_rate(route.rate.as_ref(), state, now, asked, identity)?;
        if let (Some(length), Some(limit)) = (asked.body_length, route.body_bytes)
            && length > limit
        {
            return Err(refuse(413, "body_too_large"));
        }
        match &route.action {
            Action::Forward(upstreams) => Ok(upstreams),
            Action::Redirect(redirect) => {
                Err(Box::new(rewrite::redirect(redirect, asked, client.is_tls)))
            }
            Action::Respond { status, body } => Err(Box::new(Answer::fixed(*status, body.clone()))),
        }
    }

    fn within_rate(
        &self,
        rate: Option<&Rate>,
        state: &PolicyState,
        now: Duration,
        asked: &Asked<'_>,
        identity: &Identity,
    ) -> Result<(), Box<Answer>> {
        let Some(rate) = rate else { return Ok(()) };
        let Verdict::Limited { retry_after } = state.rates.check(rate, identity.client_ip, now)
        else {
            return Ok(());
        };
        let seconds = retry_after.to_string();
        Err(Box::new(
            self.refusal(429, "rate_limited", asked, identity)
                .with("retry-after", seconds.clone())
                .with("ratelimit-limit", rate.per_minute.to_string())
                .with("ratelimit-remaining", "0".to_owned())
                .with("ratelimit-reset", seconds),
        ))
    }

    /// The answer to a CORS preflight, where the route that the browser asks about has CORS.
    fn preflight(&self, asked: &Asked<'_>) -> Option<Answer> {
        if asked.method != "OPTIONS" {
            return None;
        }
        let origin = asked.text_field("origin")?;
        let method = asked.text_field("access-control-request-method")?;
        let Found::Route(index) = self.router.find(asked, method) else {
            return None;
        };
        let cors = self.routes[index].cors.as_ref()?;
        Some(cors.preflight(origin).of(index))
    }

    fn places(&self, route: &CompiledRoute, state: &PolicyState) -> Option<[Permit; 2]> {
        Some([
            Permit::take(&state.under_way, self.concurrent_requests)?,
            Permit::take(&route.under_way, route.concurrent_requests)?,
        ])
    }

    fn refusal(
        &self,
        status: u16,
        end: &'static str,
        asked: &Asked<'_>,
        identity: &Identity,
    ) -> Box<Answer> {
        let accept = asked.text_field("accept");
        Box::new(self.pages.answer(status, end, accept, &identity.request_id))
    }
}
