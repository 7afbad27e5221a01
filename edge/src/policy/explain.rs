//! Why a request takes its route: for people who ask `edge explain`.
//!
//! Room  pure.
//! Holds it asks the same router as requests do; nothing is counted and no limit is used up.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::field::{Field, FieldSink};
use crate::settings::{PathMatch, Route, RouteMatch, Settings};

use super::forwarding::{ConnectionOptions, connection_options};
use super::names::{Kind, kind};
use super::permit::Permit;
use super::route::Action;
use super::router::{Found, bare_host, header_holds, method_holds};
use super::{Asked, Client, CompiledRoute, Forwarding, Policy, rewrite};

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
