//! Configurations of the peers that are measured when asked for: Envoy, Caddy, Traefik.
//!
//! Room  pure: text. The same work as the others': X-Forwarded-For and -Proto added, connections to the origin kept, TLS 1.3
//!       with X25519, no access log. The cipher is their own choice: none of them can be told.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::Site;

/// Envoy's bootstrap.
pub(super) fn envoy(site: &Site, is_l4: bool, (clear, tls): (SocketAddr, SocketAddr)) -> String {
    let chain = |tls: Option<Value>| {
        let filter = if is_l4 { envoy_tcp() } else { envoy_http() };
        let mut chain = json!({ "filters": [filter] });
        if let (Some(object), Some(tls)) = (chain.as_object_mut(), tls) {
            object.insert("transport_socket".to_owned(), tls);
        }
        chain
    };
    let listener = |name: &str, address: SocketAddr, tls: Option<Value>| json!({ "name": name, "address": envoy_address(address), "filter_chains": [chain(tls)] });
    let mut listeners = vec![listener("clear", clear, None)];
    if !is_l4 {
        listeners.push(listener("tls", tls, Some(envoy_tls(site))));
    }
    let endpoint = json!({ "endpoint": { "address": envoy_address(site.origin) } });
    json!({
        "static_resources": {
            "listeners": listeners,
            "clusters": [{
                "name": "app",
                "type": "STATIC",
                "connect_timeout": "2s",
                "load_assignment": { "cluster_name": "app", "endpoints": [{ "lb_endpoints": [endpoint] }] },
                // Without it Envoy refuses beyond 1,024.
                "circuit_breakers": { "thresholds": [{ "max_connections": 100_000, "max_requests": 100_000, "max_pending_requests": 100_000 }] },
            }],
        },
    })
    .to_string()
}

fn envoy_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

fn envoy_tcp() -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "l4",
            "cluster": "app",
        },
    })
}

fn envoy_http() -> Value {
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "l7",
            "use_remote_address": true,
            "route_config": { "virtual_hosts": [{
                "name": "all", "domains": ["*"],
                "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "app" } }],
            }] },
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
            }],
        },
    })
}

fn envoy_tls(site: &Site) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_3",
                    "tls_maximum_protocol_version": "TLSv1_3",
                    "ecdh_curves": ["X25519"],
                },
                "tls_certificates": [{
                    "certificate_chain": { "filename": site.certificates.certificate },
                    "private_key": { "filename": site.certificates.key },
                }],
            },
        },
    })
}

/// Caddy's own JSON.
pub(super) fn caddy(site: &Site, (clear, tls): (SocketAddr, SocketAddr)) -> String {
    let routes = json!([{ "handle": [{
        "handler": "reverse_proxy",
        "upstreams": [{ "dial": site.origin.to_string() }],
        "transport": { "protocol": "http", "keep_alive": { "max_idle_conns_per_host": 512 } },
    }] }]);
    let off = json!({ "disable": true });
    json!({
        "admin": { "disabled": true },
        "logging": { "logs": { "default": { "level": "ERROR" } } },
        "apps": {
            "http": { "servers": {
                "clear": { "listen": [clear.to_string()], "routes": routes, "automatic_https": off },
                "tls": {
                    "listen": [tls.to_string()], "routes": routes, "automatic_https": off,
                    "protocols": ["h1", "h2"],
                    "tls_connection_policies": [{ "curves": ["x25519"], "protocol_min": "tls1.3" }],
                },
            } },
            "tls": { "certificates": { "load_files": [{
                "certificate": site.certificates.certificate, "key": site.certificates.key,
            }] } },
        },
    })
    .to_string()
}

/// What Traefik reads from a file; its entry points are arguments.
pub(super) fn traefik(site: &Site, is_l4: bool) -> String {
    let origin = site.origin;
    if is_l4 {
        return json!({ "tcp": {
            "routers": { "all": { "rule": "HostSNI(`*`)", "entryPoints": ["clear"], "service": "app" } },
            "services": { "app": { "loadBalancer": { "servers": [{ "address": origin.to_string() }] } } },
        } })
        .to_string();
    }
    let router = |entry: &str| json!({ "rule": "PathPrefix(`/`)", "entryPoints": [entry], "service": "app" });
    let mut over_tls = router("tls");
    if let Some(object) = over_tls.as_object_mut() {
        object.insert("tls".to_owned(), json!({}));
    }
    json!({
        "http": {
            "routers": { "clear": router("clear"), "tls": over_tls },
            "services": { "app": { "loadBalancer": { "servers": [{ "url": format!("http://{origin}") }] } } },
        },
        "tls": {
            "certificates": [{ "certFile": site.certificates.certificate, "keyFile": site.certificates.key }],
            "options": { "default": { "minVersion": "VersionTLS13", "curvePreferences": ["X25519"] } },
        },
    })
    .to_string()
}

/// Traefik's arguments.
pub(super) fn traefik_arguments(
    file: &str,
    is_l4: bool,
    (clear, tls): (SocketAddr, SocketAddr),
) -> Vec<String> {
    let mut all = vec![
        format!("--entrypoints.clear.address={clear}"),
        format!("--providers.file.filename={file}"),
        "--log.level=ERROR".to_owned(),
        "--global.checknewversion=false".to_owned(),
        "--global.sendanonymoususage=false".to_owned(),
    ];
    if !is_l4 {
        all.push(format!("--entrypoints.tls.address={tls}"));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::SocketAddr;

    use serde_json::Value;

    use super::{Site, caddy, envoy, traefik, traefik_arguments};
    use crate::certificates::Certificates;
    use crate::compare::Cores;

    fn site() -> Site {
        Site {
            directory: "/d".into(),
            origin: SocketAddr::from(([127, 0, 0, 1], 1111)),
            certificates: Certificates {
                authority: "/d/a".into(),
                certificate: "/d/c".into(),
                key: "/d/k".into(),
            },
            cores: Cores::One,
            access_log: false,
            third: Cell::new(None),
        }
    }

    #[test]
    fn everybody_is_told_the_origin_the_ports_and_the_certificate() {
        let ports = (
            SocketAddr::from(([127, 0, 0, 1], 2222)),
            SocketAddr::from(([127, 0, 0, 1], 3333)),
        );
        for (text, is_l4) in [
            (envoy(&site(), false, ports), false),
            (envoy(&site(), true, ports), true),
            (caddy(&site(), ports), false),
            (traefik(&site(), false), false),
            (traefik(&site(), true), true),
        ] {
            let _: Value = serde_json::from_str(&text).expect("JSON, which is YAML too");
            assert!(text.contains("1111"), "{text}");
            assert_eq!(text.contains("/d/k"), !is_l4, "{text}");
        }
        assert_eq!(traefik_arguments("f", true, ports).len(), 5);
        let arguments = traefik_arguments("f", false, ports).join(" ");
        assert!(arguments.contains("2222") && arguments.contains("3333"));
    }
}
