//! The running configuration as JSON, for `GET /api/v1/config`.
//!
//! Room  pure.
//! Holds no secret leaves: keys are shown by their file names only.

use std::net::SocketAddr;

use dataplane::health::CheckKind;
use dataplane::settings::write_duration;
use edge::settings::{
    Access, AccessLogTarget, Cors, HeaderChanges, Listener, PathMatch, RateKey, RateLimit, Route,
    RouteAction, Settings as Config, Upstream, UpstreamProtocol,
};
use serde_json::{Map, Value, json};

/// Where a listener is really bound, by name.
pub(crate) type Bound<'b> = &'b dyn Fn(&str) -> Option<SocketAddr>;

/// Keys are those of `edge.toml`; addresses are the real ones, also where port 0 was written.
pub(crate) fn show(config: &Config, admin: Option<SocketAddr>, bound: Bound<'_>) -> Value {
    let upstreams: Map<String, Value> = config
        .upstreams
        .iter()
        .map(|upstream| (upstream.name.clone(), show_upstream(upstream)))
        .collect();
    let listeners = config.listeners.iter();
    let listeners = listeners.map(|l| show_listener(l, bound(l.name.as_str())));
    json!({
        "algorithm": config.upstreams.first().map(|u| u.balance.algorithm.as_str()),
        "admin": { "listen": admin },
        "log": { "level": config.log_level.as_str() },
        "workers": config.workers,
        "drain_mode": config.drain_mode,
        "drain": { "timeout": write_duration(config.drain_timeout) },
        "timeouts": timeouts(config),
        "limits": limits(config),
        "listener": listeners.collect::<Vec<_>>(),
        "route": config.routes.iter().map(show_route).collect::<Vec<_>>(),
        "upstream": upstreams,
        "rate_limit": config.rate_limit.map(rate_limit),
        "access": access(&config.access),
        "trusted_proxies": words(&config.trusted_proxies),
        "cors": config.cors.as_ref().map(cors),
        "security_headers": config.security_headers.as_ref().map(|headers| json!({
            "hsts_max_age": headers.hsts_max_age,
            "hsts_include_subdomains": headers.hsts_include_subdomains,
            "hsts_preload": headers.hsts_preload,
            "content_security_policy": headers.content_security_policy,
            "frame_options": headers.frame_options,
            "content_type_nosniff": headers.content_type_nosniff,
            "referrer_policy": headers.referrer_policy,
            "permissions_policy": headers.permissions_policy,
        })),
        "error_pages": config.error_pages.html.keys().collect::<Vec<_>>(),
        "access_log": config.access_log.as_ref().map(|log| match &log.target {
            AccessLogTarget::Stdout => json!("stdout"),
            AccessLogTarget::File(path) => json!(path),
        }),
        "discovery": config.discovery.as_ref().map(|discovery| json!({
            "operator_url": discovery.url.to_string(),
            "interval": write_duration(discovery.interval),
            "cache": discovery.cache,
        })),
    })
}

fn access(access: &Access) -> Value {
    json!({ "allow": words(&access.allow), "deny": words(&access.deny) })
}

fn cors(cors: &Cors) -> Value {
    json!({
        "origins": cors.origins,
        "methods": cors.methods,
        "headers": cors.headers,
        "expose": cors.expose,
        "credentials": cors.credentials,
        "max_age": write_duration(cors.max_age),
    })
}

fn words<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn timeouts(config: &Config) -> Value {
    let timeouts = &config.timeouts;
    json!({
        "proxy_header": write_duration(timeouts.proxy_header),
        "tls_handshake": write_duration(timeouts.tls_handshake),
        "first_byte": write_duration(timeouts.first_byte),
        "header": write_duration(timeouts.header),
        "body_idle": write_duration(timeouts.body_idle),
        "body_rate_min": timeouts.body_rate_min,
        "keep_alive": write_duration(timeouts.keep_alive),
        "http2_idle": write_duration(timeouts.http2_idle),
        "upstream_first_byte": write_duration(timeouts.upstream_first_byte),
        "upstream_idle": write_duration(timeouts.upstream_idle),
        "total": write_duration(timeouts.total),
        "tunnel_idle": write_duration(timeouts.tunnel_idle),
        "upstream_keep_alive": write_duration(timeouts.upstream_keep_alive),
    })
}

fn limits(config: &Config) -> Value {
    let limits = &config.limits;
    json!({
        "head_bytes": limits.head_bytes,
        "head_lines": limits.head_lines,
        "response_head_bytes": limits.response_head_bytes,
        "body": limits.body_bytes,
        "connections": limits.connections,
        "connections_per_ip": limits.connections_per_ip,
        "concurrent_requests": limits.concurrent_requests,
        "requests_per_connection": limits.requests_per_connection,
        "http2_streams": limits.http2_streams,
        "http2_resets": limits.http2_resets,
        "rate_limit_entries": limits.rate_limit_entries,
    })
}

fn show_listener(listener: &Listener, bound: Option<SocketAddr>) -> Value {
    let tls = listener.tls.as_ref().map(|tls| {
        let certificates = tls.certificates.iter();
        let certificates =
            certificates.map(|f| json!({ "certificate": f.certificate, "key": f.key }));
        json!({
            "certificate": certificates.collect::<Vec<_>>(),
            "strict_sni": tls.strict_sni,
            "tls_min_version": if tls.tls12 { "1.2" } else { "1.3" },
        })
    });
    json!({
        "name": listener.name.as_str(),
        "address": bound.unwrap_or(listener.address),
        "sockets": listener.sockets,
        "http2": listener.http2,
        "tls": tls,
        "proxy_protocol": listener.proxy_protocol,
        "trusted": words(&listener.trusted),
        "redirect_to_https": listener.redirect_to_https,
    })
}

fn show_route(route: &Route) -> Value {
    let action = match &route.action {
        RouteAction::Forward(shares) => json!({ "upstreams": shares.iter().map(|share| {
            json!({ "name": share.upstream, "weight": share.weight })
        }).collect::<Vec<_>>() }),
        RouteAction::Redirect(to) => json!({ "redirect": {
            "status": to.status, "scheme": to.scheme, "host": to.host, "port": to.port, "path": to.path,
        } }),
        RouteAction::Respond { status, .. } => json!({ "respond": { "status": status } }),
    };
    let (path, prefix) = match &route.matcher.path {
        PathMatch::Exact(path) => (Some(path), None),
        PathMatch::Prefix(prefix) => (None, Some(prefix)),
    };
    json!({
        "name": route.name,
        "hosts": route.matcher.hosts,
        "path": path,
        "path_prefix": prefix,
        "methods": route.matcher.methods,
        // A value may be a secret that opens the route: names only.
        "headers": route.matcher.headers.iter().map(|header| &header.name).collect::<Vec<_>>(),
        "action": action,
        "strip_prefix": route.rewrite.strip_prefix,
        "add_prefix": route.rewrite.add_prefix,
        "rewrite_path": route.rewrite.path,
        "host": route.rewrite.host,
        "request_headers": changes(&route.request_headers),
        "response_headers": changes(&route.response_headers),
        "rate_limit": route.rate_limit.map(rate_limit),
        "cors": route.cors.as_ref().map(cors),
        "access": access(&route.access),
        "concurrent_requests": route.concurrent_requests,
        "body_limit": route.body_bytes,
        "total_timeout": route.total_timeout.map(write_duration),
        "first_byte_timeout": route.upstream_first_byte.map(write_duration),
    })
}

/// Values of headers may be credentials for a backend: names only.
fn changes(changes: &HeaderChanges) -> Value {
    let names = |pairs: &[(String, String)]| {
        pairs
            .iter()
            .map(|(name, _)| name.clone())
            .collect::<Vec<_>>()
    };
    json!({ "set": names(&changes.set), "add": names(&changes.add), "remove": changes.remove })
}

fn rate_limit(limit: RateLimit) -> Value {
    json!({
        "requests_per_minute": limit.requests_per_minute,
        "burst": limit.burst,
        "by": match limit.by { RateKey::Ip => "ip", RateKey::All => "all" },
    })
}

fn show_upstream(upstream: &Upstream) -> Value {
    let balance = &upstream.balance;
    let backends = upstream.backends.iter();
    let backends = backends.map(|b| json!({ "address": b.label, "weight": b.weight }));
    json!({
        "algorithm": balance.algorithm.as_str(),
        "backends": backends.collect::<Vec<_>>(),
        "discovered": upstream.backends.is_empty(),
        "protocol": match upstream.protocol { UpstreamProtocol::Http1 => "http1", UpstreamProtocol::Http2 => "http2" },
        "connect_timeout": write_duration(balance.connect_timeout),
        "retries": balance.retries,
        "retry_budget_percent": upstream.retry_budget_percent,
        "panic_threshold_percent": balance.panic_threshold_percent,
        "max_connections_per_backend": balance.max_connections_per_backend,
        "slow_start": balance.slow_start.map(write_duration),
        "ejection": {
            "failures": balance.ejection.failures,
            "response_failures": balance.ejection.response_failures,
            "base": write_duration(balance.ejection.base),
            "longest": write_duration(balance.ejection.longest),
            "share_max_percent": balance.ejection.share_max_percent,
        },
        "health_check": balance.health_check.as_ref().map(|check| json!({
            "kind": match check.kind { CheckKind::Tcp => "tcp", CheckKind::Http { .. } => "http" },
            "interval": write_duration(check.interval),
            "timeout": write_duration(check.timeout),
        })),
        "tls": upstream.tls.as_ref().map(|tls| json!({
            "ca": tls.authorities, "server_name": tls.server_name, "insecure": tls.insecure,
        })),
    })
}
