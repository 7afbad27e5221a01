//! The admin routes about backends, the same in both proxies; documented in docs/configuration.md.
//!
//! Room  answers from what the upstreams show; the routes' table is each proxy's own.
//! Holds a route never waits.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde_json::{Value, json};

use super::{Answer, Asked};
use crate::backend::Backend;
use crate::discovery::DiscoveryState;
use crate::upstream::Upstream;
use crate::upstreams::ByName;

/// What `/health` says about the operator.
pub fn show_discovery(state: &DiscoveryState) -> Value {
    json!({
        "backends": state.backends,
        "from_disk": state.from_disk,
        "last_success": state.last_success.map(rfc3339),
        "last_error": state.last_error,
        "cache_error": state.cache_error,
    })
}

fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

/// `GET /api/v1/backends`: every backend of every upstream.
pub fn list(upstreams: &ByName) -> Answer {
    let all: Vec<Value> = upstreams
        .values()
        .flat_map(|upstream| {
            let show = |backend: Arc<Backend>| show_backend(upstream, &backend);
            let removed = upstream.removed_backends();
            let all = upstream.backends().into_iter().chain(removed);
            all.map(show).collect::<Vec<_>>()
        })
        .collect();
    Answer::json(200, &all)
}

fn show_backend(upstream: &Upstream, backend: &Backend) -> Value {
    let now = Instant::now();
    let last_check = backend.last_check().map(|check| {
        json!({
            "at": rfc3339(check.at),
            "result": check.text,
        })
    });
    json!({
        "id": backend.id(),
        "address": backend.label(),
        "resolved": backend.address(),
        "upstream": upstream.name(),
        "weight": backend.weight(),
        "healthy": backend.is_fit(now),
        "status": backend.status(now),
        "draining": backend.is_draining(),
        "connections": backend.active(),
        "connections_total": backend.connections_total(),
        "connect_failures_total": backend.connect_failures_total(),
        "last_check": last_check,
    })
}

/// `POST /api/v1/backends/{id}/drain` (`on`) and `/undrain`; 404 where nobody has that name.
pub fn drain(upstreams: &ByName, asked: &Asked, on: bool) -> Answer {
    let Some(id) = asked.parameters.first() else {
        return Answer::error(404, "no backend is named");
    };
    // Not `any`: the same address may serve several upstreams, and leaves all of them.
    let known = upstreams
        .values()
        .filter(|upstream| upstream.drain(id, on))
        .count();
    if known == 0 {
        return Answer::error(
            404,
            &format!("there is no backend \"{id}\"; see /api/v1/backends"),
        );
    }
    tracing::info!(backend = %id, on, "backend drain was switched by the admin API");
    Answer::json(
        200,
        &json!({ "id": id, "draining": on, "upstreams": known }),
    )
}
