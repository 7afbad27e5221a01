//! `[upstream.NAME]`: what both proxies know, and what only requests need.
//!
//! Room  pure but for a look at a file of authorities.

use dataplane::config::upstream;
use dataplane::settings::{Notes, Section};
use dataplane::upstream::UpstreamSettings;
use edge::settings::{Upstream, UpstreamProtocol, UpstreamTls};

use super::Base;
use super::environment::EdgeOverrides;

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
    let (balance, backends) = upstream::read(&mut section, notes, &over.shared, begun, discovered);
    let protocols = [
        ("http1", UpstreamProtocol::Http1),
        ("http2", UpstreamProtocol::Http2),
    ];
    let protocol = section.optional("protocol");
    let protocol = protocol.and_then(|found| found.choice("protocol", &protocols));
    let budget = section.optional("retry_budget_percent");
    let budget = budget.and_then(|found| found.integer(0..=100_u32));
    let tls = section.table("tls").map(|table| tls(table, base));
    if let Some(found) = section.optional("proxy_protocol_out") {
        found.mistake(
            "edge tells backends about clients in X-Forwarded-For and Forwarded, not by PROXY protocol",
            Some("remove it, or use lb".to_owned()),
        );
    }
    section.finish();
    Upstream {
        name,
        balance,
        backends,
        protocol: protocol.unwrap_or_default(),
        tls,
        retry_budget_percent: budget.unwrap_or(RETRY_BUDGET),
    }
}

fn tls(mut section: Section<'_>, base: &Base) -> UpstreamTls {
    let authorities = section.optional("ca").and_then(|found| {
        let path = base.path(&found.string()?);
        if let Err(error) = std::fs::metadata(&path) {
            found.mistake(format!("{} cannot be read: {error}", path.display()), None);
        }
        Some(path)
    });
    let name = section.optional("server_name");
    let server_name = name.and_then(|found| found.string());
    let insecure = section
        .optional("insecure")
        .and_then(|found| found.boolean());
    section.finish();
    UpstreamTls {
        authorities,
        server_name,
        insecure: insecure.unwrap_or(false),
    }
}
