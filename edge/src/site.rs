//! One configuration in force: everything a request needs to know, shared by all workers and replaced whole.
//!
//! Room  values that live as long as a configuration; health, budgets and counters within outlive it by `Arc`.
//! In    `Settings` and the long-lived parts, from the control thread (`proxy` in the binary).
//! Holds a request sees one `Site` from its head to its last byte.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Instant;

use arc_swap::ArcSwap;
use dataplane::retry_budget::RetryBudget;
use dataplane::upstream::Upstream;
use ipnet::IpNet;

use crate::access_log::LogWriter;
use crate::backend::BackendTls;
use crate::per_ip::PerIp;
use crate::policy::{Policy, PolicyState};
use crate::settings::{Settings, UpstreamProtocol};
use crate::tls::{CertificateStore, ServerConfig};
use crate::totals::RouteTotals;

/// See the module.
#[derive(Debug)]
pub struct Site {
    pub settings: Settings,
    pub policy: Policy,
    /// In the order of `settings.upstreams`.
    pub upstreams: Vec<UpstreamInForce>,
    /// In the order of `settings.listeners`.
    pub listeners: Vec<ListenerInForce>,
    /// In the order of `settings.routes`.
    pub routes: Vec<Arc<RouteTotals>>,
    pub access_log: Option<LogWriter>,
}

/// An upstream with what is spoken to its backends.
#[derive(Debug)]
pub struct UpstreamInForce {
    pub upstream: Arc<Upstream>,
    pub protocol: UpstreamProtocol,
    pub tls: Option<Arc<BackendTls>>,
    /// `None`: no retries.
    pub budget: Option<Arc<RetryBudget>>,
}

/// A listener with its TLS.
#[derive(Debug)]
pub struct ListenerInForce {
    pub name: String,
    pub port: u16,
    pub tls: Option<TlsInForce>,
    pub http2: bool,
    /// Connections begin with a PROXY header.
    pub proxy_protocol: bool,
    /// Whose PROXY headers are believed.
    pub trusted: Vec<IpNet>,
}

impl ListenerInForce {
    /// True when this peer's PROXY header is believed.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&peer))
    }
}

/// What a handshake needs.
#[derive(Clone, Debug)]
pub struct TlsInForce {
    pub config: Arc<ServerConfig>,
    pub store: Arc<CertificateStore>,
}

/// What every worker shares, for the life of the process.
#[derive(Debug)]
pub struct Shared {
    pub site: ArcSwap<Site>,
    /// When the process began to count.
    pub begun: Instant,
    pub state: PolicyState,
    /// Client connections open over all workers.
    pub open: AtomicUsize,
    /// Connections out of their workers, on their way to another process.
    pub in_flight: AtomicUsize,
    /// `/health` says draining although requests are served (DRAIN_MODE).
    pub drain_mode: AtomicBool,
    pub per_ip: PerIp,
}
