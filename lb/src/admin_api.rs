//! The admin HTTP routes of `lb`: health, metrics, the running configuration, backends.
//!
//! Room  answers from what `running` shows; the server itself is `dataplane::admin`.
//! Holds a route never waits and never touches the data path's locks.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use dataplane::admin::{Answer, Asked, Routes};
use dataplane::backend::Backend;
use dataplane::discovery::DiscoveryState;
use dataplane::upstream::Upstream;
use serde_json::{Value, json};

use crate::config;
use crate::metrics;
use crate::running::{Posture, Shared, is_fit};

/// All routes; documented in docs/configuration.md, Admin HTTP.
pub(crate) fn routes(shared: &Arc<Shared>) -> Routes {
    let with = |answer: fn(&Shared, &Asked) -> Answer| {
        let shared = Arc::clone(shared);
        move |asked: &Asked| answer(&shared, asked)
    };
    Routes::default()
        .get("/health", with(|shared, _| health(shared)))
        .get(
            "/health/live",
            with(|_, _| Answer::json(200, &json!({ "status": "alive" }))),
        )
        .get("/health/ready", with(|shared, _| ready(shared)))
        .get(
            "/metrics",
            with(|shared, _| Answer::exposition(metrics::render(shared))),
        )
        .get("/api/v1/config", with(|shared, _| running_config(shared)))
        .get("/api/v1/backends", with(|shared, _| backends(shared)))
        .post(
            "/api/v1/backends/{id}/drain",
            with(|shared, asked| drain(shared, asked, true)),
        )
        .post(
            "/api/v1/backends/{id}/undrain",
            with(|shared, asked| drain(shared, asked, false)),
        )
}

/// 503 tells a load balancer in front, or a person, that connections should go elsewhere.
fn health(shared: &Shared) -> Answer {
    let running = shared.running();
    let status = if shared.posture() == Posture::Draining {
        "draining"
    } else if running.is_starved(Instant::now()) {
        "unhealthy"
    } else {
        "healthy"
    };
    let (healthy, total) = running.backend_counts(Instant::now());
    let listeners = running.config.listeners.iter().map(|listener| {
        json!({
            "name": listener.name.as_str(),
            "address": running.bound(listener.name.as_str()).unwrap_or(listener.address),
        })
    });
    let body = json!({
        "status": status,
        "type": "L4",
        "version": crate::cli::VERSION,
        "generation": shared.generation,
        "pid": std::process::id(),
        "posture": shared.posture().as_str(),
        "uptime_seconds": shared.started.elapsed().as_secs(),
        "algorithm": config::main_algorithm(&running.config),
        "total_backends": total,
        "healthy_backends": healthy,
        "active_connections": shared.pool.totals().active,
        "listeners": listeners.collect::<Vec<_>>(),
        "discovery": running.discovery.as_ref().map(|discovery| show_discovery(&discovery.state())),
    });
    Answer::json(if status == "healthy" { 200 } else { 503 }, &body)
}

fn show_discovery(state: &DiscoveryState) -> Value {
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

/// Ready: connections are taken, and there is somebody to take them to.
fn ready(shared: &Shared) -> Answer {
    let running = shared.running();
    let is_ready = shared.posture() == Posture::Accepting && !running.is_starved(Instant::now());
    let status = if is_ready { "ready" } else { "not ready" };
    Answer::json(
        if is_ready { 200 } else { 503 },
        &json!({ "status": status, "posture": shared.posture().as_str() }),
    )
}

fn running_config(shared: &Shared) -> Answer {
    let running = shared.running();
    let shown = config::show(&running.config, running.admin(), &|name| {
        running.bound(name)
    });
    Answer::json(200, &shown)
}

fn backends(shared: &Shared) -> Answer {
    let running = shared.running();
    let all: Vec<Value> = running
        .upstreams
        .values()
        .flat_map(|upstream| {
            let show = |backend: Arc<Backend>| show_backend(upstream, &backend);
            upstream
                .backends()
                .into_iter()
                .map(show)
                .collect::<Vec<_>>()
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
        "healthy": is_fit(backend, now),
        "status": backend.status(now),
        "draining": backend.is_draining(),
        "connections": backend.active(),
        "connections_total": backend.connections_total(),
        "connect_failures_total": backend.connect_failures_total(),
        "last_check": last_check,
    })
}

fn drain(shared: &Shared, asked: &Asked, on: bool) -> Answer {
    let Some(id) = asked.parameters.first() else {
        return Answer::error(404, "no backend is named");
    };
    let running = shared.running();
    // Not `any`: the same address may serve several upstreams, and leaves all of them.
    let known = running
        .upstreams
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
