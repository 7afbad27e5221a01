//! A route, made ready: what a request on it may cost, where it goes and what changes on the way.
//!
//! Room  pure.
//! Holds a header change never touches framing, hop-by-hop fields or Host, whatever the configuration says.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crate::field::FieldSink;
use crate::settings::{HeaderChanges, PathMatch, Redirect, Rewrite, Route, RouteAction, Settings};

use super::access::AccessList;
use super::cors::CompiledCors;
use super::is_framing_or_hop_by_hop;
use super::rate::Rate;

/// One route, as requests see it.
#[derive(Debug)]
pub struct CompiledRoute {
    pub name: Arc<str>,
    /// Position in the configuration: for metrics by route.
    pub index: usize,
    /// Longest request body in bytes; `None`: no limit.
    pub body_bytes: Option<u64>,
    pub total_timeout: Duration,
    pub upstream_first_byte: Duration,
    /// Requests under way, counted only where there is a limit.
    pub under_way: Arc<AtomicUsize>,
    pub(super) concurrent_requests: Option<usize>,
    pub(super) action: Action,
    pub(super) rewrite: Rewrite,
    /// The path matched as a prefix, or the exact one: what `strip_prefix` removes.
    pub(super) matched_path: String,
    pub(super) request_changes: Changes,
    pub(super) response_changes: Changes,
    pub(super) rate: Option<Rate>,
    pub(super) access: AccessList,
    pub(super) cors: Option<Arc<CompiledCors>>,
}

/// What becomes of a request that matches.
#[derive(Debug)]
pub(super) enum Action {
    Forward(Upstreams),
    Redirect(Redirect),
    Respond { status: u16, body: String },
}

impl CompiledRoute {
    pub(super) fn new(
        index: usize,
        route: &Route,
        settings: &Settings,
        cors: Option<&Arc<CompiledCors>>,
        upstream_index: impl Fn(&str) -> usize,
    ) -> Self {
        let (PathMatch::Exact(path) | PathMatch::Prefix(path)) = &route.matcher.path;
        Self {
            name: Arc::from(route.name.as_str()),
            index,
            body_bytes: route.body_bytes.or(settings.limits.body_bytes),
            total_timeout: route.total_timeout.unwrap_or(settings.timeouts.total),
            upstream_first_byte: route
                .upstream_first_byte
                .unwrap_or(settings.timeouts.upstream_first_byte),
            under_way: Arc::default(),
            concurrent_requests: route.concurrent_requests,
            action: match &route.action {
                RouteAction::Forward(upstreams) => Action::Forward(Upstreams::new(
                    upstreams
                        .iter()
                        .map(|share| (share.upstream.as_str(), share.weight)),
                    upstream_index,
                )),
                RouteAction::Redirect(redirect) => Action::Redirect(redirect.clone()),
                RouteAction::Respond { status, body } => Action::Respond {
                    status: *status,
                    body: body.clone(),
                },
            },
            rewrite: route.rewrite.clone(),
            matched_path: path.clone(),
            request_changes: Changes::new(&route.request_headers),
            response_changes: Changes::new(&route.response_headers),
            rate: route.rate_limit.map(|limit| Rate::new(limit, &route.name)),
            access: AccessList::new(&route.access.allow, &route.access.deny),
            cors: route
                .cors
                .as_ref()
                .map(|own| Arc::new(CompiledCors::new(own)))
                .or_else(|| cors.cloned()),
        }
    }
}

/// Where a route's requests go, by weight.
#[derive(Debug)]
pub(super) struct Upstreams {
    /// With the sum of weights up to and including each one.
    shares: Vec<(String, usize, u64)>,
}

impl Upstreams {
    /// Where all weights are 0, all are equal.
    fn new<'s>(
        named: impl Iterator<Item = (&'s str, u32)>,
        upstream_index: impl Fn(&str) -> usize,
    ) -> Self {
        let named: Vec<_> = named.collect();
        let none = named.iter().all(|(_, weight)| *weight == 0);
        let mut sum = 0;
        let shares = named
            .into_iter()
            .map(|(name, weight)| {
                sum += if none { 1 } else { u64::from(weight) };
                (name.to_owned(), upstream_index(name), sum)
            })
            .collect();
        Self { shares }
    }

    /// The low 32 bits of `random` decide.
    pub(super) fn choose(&self, random: u128) -> usize {
        let Some((_, last, total)) = self.shares.last() else {
            // A consistent configuration has at least one.
            return 0;
        };
        let point = u64::try_from(((random & 0xffff_ffff) * u128::from(*total)) >> 32).unwrap_or(0);
        self.shares
            .iter()
            .find(|(_, _, up_to)| point < *up_to)
            .map_or(*last, |(_, index, _)| *index)
    }

    /// Every name with its weight and the sum of all.
    pub(super) fn each(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        let total = self.shares.last().map_or(0, |(_, _, sum)| *sum);
        let mut before = 0;
        self.shares.iter().map(move |(name, _, up_to)| {
            let weight = up_to - std::mem::replace(&mut before, *up_to);
            (name.as_str(), weight, total)
        })
    }
}

/// Header changes of one direction.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) set: Vec<(String, String)>,
    pub(super) add: Vec<(String, String)>,
    pub(super) remove: Vec<String>,
}

impl Changes {
    pub(super) fn new(changes: &HeaderChanges) -> Self {
        let ours = |name: &str| {
            !is_framing_or_hop_by_hop(name.as_bytes()) && !name.eq_ignore_ascii_case("host")
        };
        let pairs = |list: &[(String, String)]| {
            list.iter()
                .filter(|(name, _)| ours(name))
                .cloned()
                .collect()
        };
        Self {
            set: pairs(&changes.set),
            add: pairs(&changes.add),
            remove: changes
                .remove
                .iter()
                .filter(|name| ours(name))
                .cloned()
                .collect(),
        }
    }

    /// Whether a field of this name does not pass: removed, or set anew.
    pub(super) fn replaces(&self, name: &[u8]) -> bool {
        self.remove
            .iter()
            .chain(self.set.iter().map(|(name, _)| name))
            .any(|changed| name.eq_ignore_ascii_case(changed.as_bytes()))
    }

    /// What is set and added, at the end of a head.
    pub(super) fn write(&self, sink: &mut impl FieldSink) {
        for (name, value) in self.set.iter().chain(&self.add) {
            sink.put(name.as_bytes(), value.as_bytes());
        }
    }
}
