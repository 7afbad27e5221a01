//! The admin HTTP routes of `lb`: health, metrics, the running configuration, backends.
//!
//! Room  answers from what `running` shows; the server itself is `dataplane::admin`.
//! Holds a route never waits and never touches the data path's locks.

use std::sync::Arc;
use std::time::Instant;

use dataplane::admin::{Answer, Asked, Routes, backends};
use dataplane::posture::Posture;
use serde_json::json;

use crate::config;
use crate::metrics;
use crate::running::Shared;

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
        .get(
            "/api/v1/backends",
            with(|shared, _| backends::list(&shared.running().upstreams)),
        )
        .post(
            "/api/v1/backends/{id}/drain",
            with(|shared, asked| backends::drain(&shared.running().upstreams, asked, true)),
        )
        .post(
            "/api/v1/backends/{id}/undrain",
            with(|shared, asked| backends::drain(&shared.running().upstreams, asked, false)),
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
        "discovery": running.discovery.as_ref().map(|discovery| backends::show_discovery(&discovery.state())),
    });
    Answer::json(if status == "healthy" { 200 } else { 503 }, &body)
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
