//! `lb run --listen … --backend …`: one listener and one upstream without a file.
//!
//! Room  pure.
//! Holds a flag goes before the environment; `PORT` does not move what `--listen` says.

use dataplane::config::Overrides;
use dataplane::config::listener::SOCKETS;
use dataplane::config::process::{DRAIN_TIMEOUT, discovered_from};
use dataplane::config::upstream::{algorithm, backend_spec, checked_every};
use dataplane::health::HealthCheck;
use dataplane::settings::{Found, Notes, argument};
use dataplane::upstream::UpstreamSettings;
use lb::shard::Timeouts;

use super::{Config, FLAGS_NAME, Listener, UpstreamConfig};
use crate::cli::Settings;

/// The configuration that the flags are.
pub(super) fn read(settings: &Settings, notes: &Notes, over: &Overrides<'_>) -> Option<Config> {
    let listen = argument(notes, "--listen", settings.listen.as_deref()?);
    let address = listen.listen_address()?;
    if let Some((admin, found)) = &over.admin
        && *admin == address
        && address.port() != 0
    {
        found.mistake(format!("{address} is already taken by --listen"), None);
    }
    let discovery = discovered_from(over);
    if settings.backends.is_empty() && discovery.is_none() {
        let hint = Some("add --backend 10.0.0.7:80".to_owned());
        listen.mistake("no backends, and no OPERATOR_URL to ask for them", hint);
    }
    let name = FLAGS_NAME.to_owned();
    let listener = Listener {
        name: name.parse().ok()?,
        address,
        upstream: name.clone(),
        sockets: SOCKETS,
        proxy_protocol: false,
        trusted: Vec::new(),
        max_connections: None,
    };
    let upstream = UpstreamConfig {
        name,
        settings: upstream_settings(settings, notes, over),
        backends: backends(settings, notes),
    };
    Some(Config {
        admin: over.admin.as_ref().map(|(address, _)| *address),
        log_level: over.log_level.unwrap_or_default(),
        workers: 0,
        timeouts: Timeouts::default(),
        drain_timeout: DRAIN_TIMEOUT,
        listeners: vec![listener],
        upstreams: vec![upstream],
        discovery,
    })
}

/// Flags cannot describe a health check: the default one, by connecting.
fn upstream_settings(settings: &Settings, notes: &Notes, over: &Overrides<'_>) -> UpstreamSettings {
    let mut result = UpstreamSettings::default();
    let chosen = settings
        .algorithm
        .as_deref()
        .map(|text| argument(notes, "--algorithm", text));
    if let Some(algorithm) = chosen
        .and_then(|found| algorithm(&found))
        .or(over.algorithm)
    {
        result.algorithm = algorithm;
    }
    if let Some(timeout) = over.connect_timeout {
        result.connect_timeout = timeout;
    }
    let check = HealthCheck::default();
    result.health_check = Some(match &over.check_interval {
        Some((interval, found)) => checked_every(check, *interval, found),
        None => check,
    });
    result
}

fn backends(settings: &Settings, notes: &Notes) -> Vec<dataplane::upstream::BackendSpec> {
    let mut labels = Vec::new();
    for text in &settings.backends {
        let found: Found<'_> = argument(notes, "--backend", text);
        let Some(label) = found.endpoint() else {
            continue;
        };
        if labels.contains(&label) {
            found.mistake(
                format!("this backend is listed twice: \"{label}\""),
                Some("keep one of them".to_owned()),
            );
        }
        labels.push(label);
    }
    labels.into_iter().map(backend_spec).collect()
}
