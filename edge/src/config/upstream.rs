//! `[upstream.NAME]`: what both proxies know, and what only requests need.
//!
//! Room  pure but for a look at a file of authorities.

use dataplane::config::upstream;
use dataplane::health::{CheckKind, HealthCheck};
use dataplane::settings::{Found, Notes, Section};
use dataplane::upstream::{BackendSpec, UpstreamSettings};
use edge::settings::{Upstream, UpstreamProtocol, UpstreamTls};
use edge::tls::{client_config, server_name};

use super::Base;
use super::environment::EdgeOverrides;
use super::unsupported::{self, refuse};

/// Below this share of healthy backends all are used, unless configured (percent). Sized: half a pool does not
/// carry the load of a whole one.
pub(super) const EDGE_PANIC_THRESHOLD: u32 = 50;

/// Retries as a share of requests, unless configured (percent).
pub(super) const RETRY_BUDGET: u32 = 20;

/// One upstream; `discovered`: its backends may come from the operator.
pub(super) fn read(
    name: String,
    mut section: Section<'_>,
    notes: &Notes,
    over: &EdgeOverrides<'_>,
    discovered: bool,
    base: &Base,
) -> Upstream {
    let begun = UpstreamSettings {
        panic_threshold_percent: EDGE_PANIC_THRESHOLD,
        ..UpstreamSettings::default()
    };
    refuse(&mut section, &unsupported::OF_AN_UPSTREAM);
    let (balance, backends) = upstream::read(&mut section, notes, &over.shared, begun, discovered);
    let protocols = [
        ("http1", UpstreamProtocol::Http1),
        ("http2", UpstreamProtocol::Http2),
    ];
    let protocol = section.optional("protocol");
    let protocol = protocol.and_then(|found| found.choice("protocol", &protocols));
    let budget = section.optional("retry_budget_percent");
    let budget = budget.and_then(|found| found.integer(0..=100_u32));
    let protocol = protocol.unwrap_or_default();
    let tls = section.optional("tls").and_then(|found| {
        let tls = tls(found.section()?, &backends, protocol, base);
        note_clear_check(&balance, &found);
        Some(tls)
    });
    section.finish();
    Upstream {
        name,
        balance,
        backends,
        protocol,
        tls,
        retry_budget_percent: budget.unwrap_or(RETRY_BUDGET),
    }
}

/// Health checks are made in clear.
fn note_clear_check(balance: &UpstreamSettings, tls: &Found<'_>) {
    let check = balance.health_check.as_ref();
    let is_refused =
        |check: &HealthCheck| matches!(check.kind, CheckKind::Http { .. }) && check.port.is_none();
    if check.is_some_and(is_refused) {
        tls.mistake(
            "health checks speak HTTP in clear, which a backend with TLS refuses",
            Some("write kind = \"tcp\", or the port of a check in clear".to_owned()),
        );
    }
}

fn tls(
    mut section: Section<'_>,
    backends: &[BackendSpec],
    protocol: UpstreamProtocol,
    base: &Base,
) -> UpstreamTls {
    let ca = section.optional("ca");
    let name = section.optional("server_name");
    let insecure = section.optional("insecure");
    let is_insecure = insecure.and_then(|found| found.boolean()).unwrap_or(false);
    let file = ca.as_ref().and_then(Found::string);
    let tls = UpstreamTls {
        authorities: file.map(|file| base.path(&file)),
        server_name: name.as_ref().and_then(Found::string),
        insecure: is_insecure,
    };
    if let (Some(found), true) = (&ca, is_insecure) {
        found.mistake("has no effect: insecure verifies nothing", None);
    } else if ca.is_none() || tls.authorities.is_some() {
        // As at the start: what it cannot use, it cannot use now.
        let is_http2 = protocol == UpstreamProtocol::Http2;
        match (client_config(&tls, is_http2), &ca) {
            (Err(problem), Some(found)) => found.mistake(problem, None),
            (Err(problem), None) => section.mistake(problem, None),
            (Ok(_), _) => {}
        }
    }
    let names: Vec<&str> = match &name {
        Some(_) if tls.server_name.is_none() => Vec::new(),
        Some(_) => vec![""],
        None => backends.iter().map(|b| b.label.as_str()).collect(),
    };
    let refused = names
        .into_iter()
        .find_map(|label| server_name(&tls, label).err());
    match (refused, &name) {
        (Some(problem), Some(found)) => found.mistake(problem, None),
        (Some(problem), None) => section.mistake(problem, None),
        (None, _) => {}
    }
    section.finish();
    tls
}
