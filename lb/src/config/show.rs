//! The running configuration as JSON, for `GET /api/v1/config`.
//!
//! Room  pure.
//! Holds no secret leaves: the configuration has none (an operator's URL with a password is refused).

use std::net::SocketAddr;

use dataplane::discovery::DiscoverySettings;
use dataplane::health::{CheckKind, HealthCheck};
use dataplane::settings::write_duration;
use dataplane::upstream::{BackendSpec, Ejection};
use serde_json::{Map, Value, json};

use super::{Config, Listener, UpstreamConfig};

/// Where a listener is really bound, by name.
pub(crate) type Bound<'b> = &'b dyn Fn(&str) -> Option<SocketAddr>;

/// Keys are those of `lb.toml`; addresses are the real ones, also where port 0 was written.
pub(crate) fn show(config: &Config, admin: Option<SocketAddr>, bound: Bound<'_>) -> Value {
    let upstreams: Map<String, Value> = config
        .upstreams
        .iter()
        .map(|upstream| (upstream.name.clone(), show_upstream(upstream)))
        .collect();
    let listeners: Vec<Value> = config
        .listeners
        .iter()
        .map(|listener| show_listener(listener, bound(listener.name.as_str())))
        .collect();
    let timeouts = &config.timeouts;
    json!({
        "algorithm": main_algorithm(config),
        "admin": { "listen": admin },
        "log": { "level": config.log_level.as_str() },
        "workers": config.workers,
        "timeouts": {
            "idle": write_duration(timeouts.idle),
            "half_close": write_duration(timeouts.half_close),
            "lifetime": timeouts.lifetime.map_or_else(|| "off".to_owned(), write_duration),
            "proxy_header": write_duration(timeouts.proxy_header),
            "keepalive": write_duration(timeouts.keepalive),
            "user_timeout": write_duration(timeouts.user_timeout),
        },
        "drain": { "timeout": write_duration(config.drain_timeout) },
        "listener": listeners,
        "upstream": upstreams,
        "discovery": config.discovery.as_ref().map(show_discovery),
    })
}

/// The algorithm of the first listener's upstream: what the platform's dashboards show as *the* algorithm.
pub(crate) fn main_algorithm(config: &Config) -> Option<&'static str> {
    let first = config.listeners.first()?;
    let upstream = config
        .upstreams
        .iter()
        .find(|upstream| upstream.name == first.upstream)?;
    Some(upstream.settings.algorithm.as_str())
}

fn show_listener(listener: &Listener, bound: Option<SocketAddr>) -> Value {
    json!({
        "name": listener.name.as_str(),
        "address": bound.unwrap_or(listener.address),
        "upstream": listener.upstream,
        "sockets": listener.sockets,
        "proxy_protocol": listener.proxy_protocol,
        "trusted": listener.trusted.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "max_connections": listener.max_connections,
    })
}

fn show_upstream(upstream: &UpstreamConfig) -> Value {
    let settings = &upstream.settings;
    json!({
        "algorithm": settings.algorithm.as_str(),
        "backends": upstream.backends.iter().map(show_backend).collect::<Vec<_>>(),
        "discovered": upstream.is_discovered(),
        "connect_timeout": write_duration(settings.connect_timeout),
        "retries": settings.retries,
        "max_connections_per_backend": settings.max_connections_per_backend,
        "proxy_protocol_out": settings.proxy_protocol_out.map(|version| version.as_str()),
        "health_check": settings.health_check.as_ref().map(show_check),
        "ejection": show_ejection(&settings.ejection),
    })
}

fn show_backend(backend: &BackendSpec) -> Value {
    json!({
        "id": backend.id.as_ref().unwrap_or(&backend.label),
        "address": backend.label,
        "weight": backend.weight,
        "max_connections": backend.max_connections,
    })
}

fn show_check(check: &HealthCheck) -> Value {
    let mut shown = json!({
        "kind": "tcp",
        "interval": write_duration(check.interval),
        "timeout": write_duration(check.timeout),
        "rise": check.rise,
        "fall": check.fall,
        "port": check.port,
    });
    if let (CheckKind::Http { path, host, expect }, Some(map)) =
        (&check.kind, shown.as_object_mut())
    {
        map.insert("kind".to_owned(), json!("http"));
        map.insert("path".to_owned(), json!(path));
        map.insert("host".to_owned(), json!(host));
        map.insert(
            "expect".to_owned(),
            json!(format!("{}-{}", expect.start(), expect.end())),
        );
    }
    shown
}

fn show_ejection(ejection: &Ejection) -> Value {
    json!({
        "failures": ejection.failures,
        "base": write_duration(ejection.base),
        "longest": write_duration(ejection.longest),
        "share_max_percent": ejection.share_max_percent,
    })
}

fn show_discovery(discovery: &DiscoverySettings) -> Value {
    json!({
        "operator_url": discovery.url.to_string(),
        "interval": write_duration(discovery.interval),
        "cache": discovery.cache,
    })
}
