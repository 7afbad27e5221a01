//! `edge run --listen … --to …`: one listener, one route and one upstream without a file.
//!
//! Room  pure.
//! Holds a flag goes before the environment.

use std::net::SocketAddr;

use dataplane::config::listener::SOCKETS;
use dataplane::config::process::{DRAIN_TIMEOUT, discovered_from};
use dataplane::config::upstream::{backend_spec, checked_every};
use dataplane::health::HealthCheck;
use dataplane::settings::{Notes, argument};
use dataplane::upstream::{BackendSpec, UpstreamSettings};
use edge::settings::{
    Access, CertificateFiles, ErrorPages, HeaderChanges, Limits, Listener, ListenerTls, Rewrite,
    Route, RouteAction, RouteMatch, Settings as Config, Timeouts, Upstream, UpstreamProtocol,
    UpstreamTls, WeightedUpstream,
};

use super::FLAGS_NAME;
use super::environment::EdgeOverrides;
use super::upstream::{EDGE_PANIC_THRESHOLD, RETRY_BUDGET};
use crate::cli::Settings;

/// The configuration that the flags are.
pub(super) fn read(settings: &Settings, notes: &Notes, over: &EdgeOverrides<'_>) -> Option<Config> {
    let text = settings.listen.as_deref()?;
    // As people write it for "every address".
    let full = if text.starts_with(':') {
        format!("0.0.0.0{text}")
    } else {
        text.to_owned()
    };
    let listen = argument(notes, "--listen", &full);
    let address = listen.listen_address()?;
    if let Some((admin, found)) = &over.shared.admin
        && *admin == address
        && address.port() != 0
    {
        found.mistake(format!("{address} is already taken by --listen"), None);
    }
    let discovery = discovered_from(&over.shared);
    let (backends, is_tls) = backends(settings, notes);
    if settings.to.is_empty() && discovery.is_none() && over.load_balancer.is_none() {
        let hint = Some("add --to 127.0.0.1:3000".to_owned());
        listen.mistake("nowhere to send requests to", hint);
    }
    let backends = match &over.load_balancer {
        Some((label, _)) if backends.is_empty() => vec![backend_spec(label.clone())],
        _ => backends,
    };
    let mut upstream = upstream(FLAGS_NAME, backends, over);
    upstream.tls = is_tls.then_some(UpstreamTls {
        authorities: None,
        server_name: None,
        insecure: false,
    });
    Some(Config {
        admin: over.shared.admin.as_ref().map(|(address, _)| *address),
        log_level: over.shared.log_level.unwrap_or_default(),
        workers: 0,
        timeouts: Timeouts::default(),
        limits: Limits::default(),
        drain_mode: over.drain_mode.unwrap_or(false),
        drain_timeout: DRAIN_TIMEOUT,
        listeners: vec![listener(address, tls(settings, notes, over))?],
        routes: vec![everything_to(FLAGS_NAME, FLAGS_NAME.to_owned())],
        upstreams: vec![upstream],
        discovery,
        rate_limit: over.rate_limit(None),
        access: Access::default(),
        trusted_proxies: Vec::new(),
        security_headers: over.security_headers(None),
        cors: None,
        error_pages: ErrorPages::default(),
        access_log: None,
    })
}

fn listener(address: SocketAddr, tls: Option<ListenerTls>) -> Option<Listener> {
    Some(Listener {
        name: FLAGS_NAME.parse().ok()?,
        address,
        sockets: SOCKETS,
        proxy_protocol: false,
        trusted: Vec::new(),
        tls,
        http2: true,
        redirect_to_https: None,
    })
}

/// An upstream of which only the backends are known.
pub(super) fn upstream(
    name: &str,
    backends: Vec<BackendSpec>,
    over: &EdgeOverrides<'_>,
) -> Upstream {
    let mut balance = UpstreamSettings {
        panic_threshold_percent: EDGE_PANIC_THRESHOLD,
        ..UpstreamSettings::default()
    };
    if let Some(algorithm) = over.shared.algorithm {
        balance.algorithm = algorithm;
    }
    if let Some(timeout) = over.shared.connect_timeout {
        balance.connect_timeout = timeout;
    }
    let interval = over.shared.check_interval.as_ref();
    balance.health_check =
        interval.map(|(value, found)| checked_every(HealthCheck::default(), *value, found));
    Upstream {
        name: name.to_owned(),
        balance,
        backends,
        protocol: UpstreamProtocol::Http1,
        tls: None,
        retry_budget_percent: RETRY_BUDGET,
    }
}

/// Everything to one upstream.
pub(super) fn forward_to(upstream: &str) -> RouteAction {
    RouteAction::Forward(vec![WeightedUpstream {
        upstream: upstream.to_owned(),
        weight: 1,
    }])
}

/// A route that takes every request to one upstream.
pub(super) fn everything_to(upstream: &str, name: String) -> Route {
    Route {
        name,
        matcher: RouteMatch::default(),
        action: forward_to(upstream),
        rewrite: Rewrite::default(),
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
        rate_limit: None,
        concurrent_requests: None,
        cors: None,
        access: Access::default(),
        body_bytes: None,
        total_timeout: None,
        upstream_first_byte: None,
    }
}

fn tls(settings: &Settings, notes: &Notes, over: &EdgeOverrides<'_>) -> Option<ListenerTls> {
    let flags = settings.cert.clone().zip(settings.key.clone());
    let files = match flags {
        Some((certificate, key)) => {
            let files = CertificateFiles { certificate, key };
            let shown = files.certificate.display().to_string();
            let key = argument(notes, "--key", &files.key.display().to_string());
            super::listener::check_files(&files, &argument(notes, "--cert", &shown), &key);
            files
        }
        None => over.certificate.as_ref()?.0.clone(),
    };
    Some(ListenerTls {
        certificates: vec![files],
        strict_sni: false,
        tls12: true,
    })
}

/// The backends, and whether TLS is spoken to them.
fn backends(settings: &Settings, notes: &Notes) -> (Vec<BackendSpec>, bool) {
    let mut labels = Vec::new();
    let mut schemes = Vec::new();
    for text in &settings.to {
        let is_https = text.starts_with("https://");
        let bare = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"));
        let bare = bare.unwrap_or(text).trim_end_matches('/');
        let has_port = bare
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let full = match (has_port, is_https, bare.len() < text.len()) {
            (false, true, _) => format!("{bare}:443"),
            (false, false, true) => format!("{bare}:80"),
            _ => bare.to_owned(),
        };
        let found = argument(notes, "--to", &full);
        let Some(label) = found.endpoint() else {
            continue;
        };
        if labels.contains(&label) {
            let hint = Some("keep one of them".to_owned());
            found.mistake(format!("this backend is listed twice: \"{label}\""), hint);
        }
        schemes.push(is_https);
        if schemes.first() != Some(&is_https) {
            found.mistake(
                "some backends are https and some are not; use a configuration file",
                None,
            );
        }
        labels.push(label);
    }
    let is_tls = schemes.first() == Some(&true);
    (labels.into_iter().map(backend_spec).collect(), is_tls)
}
