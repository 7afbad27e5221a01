//! The admin HTTP routes of `edge`: health, metrics, configuration, backends, certificates, rate limits.
//!
//! Room  answers from what `running` shows; the server itself is `dataplane::admin`.
//! Holds a route never waits and never touches the data path's locks.

use std::sync::Arc;
use std::time::Instant;

use dataplane::admin::{Answer, Asked, Routes, backends};
use dataplane::posture::Posture;
use dataplane::upstreams::backend_counts;
use edge::tls::CertificateStatus;
use edge::totals::Count;
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
        .get("/api/v1/certificates", with(|shared, _| certificates(shared)))
        .get("/api/v1/rate-limit/status", with(|shared, _| rate_limit(shared)))
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
    let now = Instant::now();
    let status = if shared.says_draining() {
        "draining"
    } else if running.is_starved(now) {
        "unhealthy"
    } else {
        "healthy"
    };
    let (healthy, total) = backend_counts(&running.upstreams, now);
    let listeners = running.settings().listeners.iter().map(|listener| {
        json!({
            "name": listener.name.as_str(),
            "address": running.bound(listener.name.as_str()).unwrap_or(listener.address),
            "tls": listener.tls.is_some(),
        })
    });
    let totals = shared.workers.totals();
    let discovery = running.discovery.as_ref();
    let body = json!({
        "status": status,
        "type": "L7",
        "version": crate::cli::VERSION,
        "generation": shared.generation,
        "pid": std::process::id(),
        "posture": shared.posture().as_str(),
        "uptime_seconds": shared.started.elapsed().as_secs(),
        "total_backends": total,
        "healthy_backends": healthy,
        "active_connections": totals.active(),
        "active_tunnels": totals.get(Count::TunnelsBegun).saturating_sub(totals.get(Count::TunnelsEnded)),
        "requests_total": totals.requests(),
        "listeners": listeners.collect::<Vec<_>>(),
        "discovery": discovery.map(|discovery| backends::show_discovery(&discovery.state())),
    });
    Answer::json(if status == "healthy" { 200 } else { 503 }, &body)
}

/// Ready: requests are taken, and there is somebody to take them to.
fn ready(shared: &Shared) -> Answer {
    let running = shared.running();
    let is_ready = shared.posture() == Posture::Accepting
        && !shared.says_draining()
        && !running.is_starved(Instant::now());
    let status = if is_ready { "ready" } else { "not ready" };
    Answer::json(
        if is_ready { 200 } else { 503 },
        &json!({ "status": status, "posture": shared.posture().as_str() }),
    )
}

fn running_config(shared: &Shared) -> Answer {
    let running = shared.running();
    let shown = config::show(running.settings(), running.admin(), &|name| {
        running.bound(name)
    });
    Answer::json(200, &shown)
}

/// Every certificate with its listener.
pub(crate) fn all_certificates(shared: &Shared) -> Vec<(String, CertificateStatus)> {
    let running = shared.running();
    let listeners = running.site.listeners.iter();
    listeners
        .filter_map(|listener| Some((listener.name.clone(), listener.tls.as_ref()?)))
        .flat_map(|(name, tls)| {
            let statuses = tls.store.statuses().into_iter();
            statuses.map(move |status| (name.clone(), status))
        })
        .collect()
}

fn certificates(shared: &Shared) -> Answer {
    let shown: Vec<_> = all_certificates(shared)
        .into_iter()
        .map(|(listener, status)| {
            let mut shown = json!(status);
            if let Some(object) = shown.as_object_mut() {
                object.insert("listener".to_owned(), json!(listener));
            }
            shown
        })
        .collect();
    Answer::json(200, &shown)
}

fn rate_limit(shared: &Shared) -> Answer {
    let running = shared.running();
    let settings = running.settings();
    let status = shared.workers.shared().state.rates.status(shared.since_start());
    let routes: Vec<_> = settings
        .routes
        .iter()
        .filter_map(|route| {
            let limit = route.rate_limit?;
            Some(json!({
                "route": route.name,
                "requests_per_minute": limit.requests_per_minute,
                "burst": limit.burst,
            }))
        })
        .collect();
    let body = json!({
        "enabled": settings.rate_limit.is_some() || !routes.is_empty(),
        "requests_per_minute": settings.rate_limit.map(|limit| limit.requests_per_minute),
        "burst": settings.rate_limit.map(|limit| limit.burst),
        "routes": routes,
        "table": status,
    });
    Answer::json(200, &body)
}
