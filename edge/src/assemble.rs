//! From settings to a `Site`: certificates, TLS, upstreams and routes put together, keeping what a reload keeps.
//!
//! Room  the control thread. Holds a site is whole or the reason why not, in words; what did not change is the
//!       same value as before: pooled connections, budgets, counters and the log go on.

use std::sync::Arc;
use std::time::Instant;

use dataplane::listeners::Group;
use dataplane::retry_budget::RetryBudget;
use dataplane::upstreams::ByName;
use edge::access_log::LogWriter;
use edge::backend::BackendTls;
use edge::policy::Policy;
use edge::settings::{Listener, Settings, Upstream, UpstreamProtocol};
use edge::site::{ListenerInForce, Site, TlsInForce, UpstreamInForce};
use edge::tls::{CertificateStore, Ticketer, client_config, server_config};
use edge::totals::RouteTotals;

/// What is needed beside the settings.
pub(crate) struct Parts<'p> {
    pub(crate) groups: &'p [Group],
    pub(crate) upstreams: &'p ByName,
    pub(crate) ticketer: &'p Arc<Ticketer>,
    pub(crate) before: Option<&'p Site>,
    pub(crate) workers: usize,
}

/// See the module.
///
/// # Errors
/// What cannot be used, as lines for a person.
pub(crate) fn site(settings: Settings, parts: &Parts<'_>) -> Result<Site, Vec<String>> {
    let mut problems = Vec::new();
    let mut noted = |problem: String| problems.push(problem);
    let mut listeners = Vec::new();
    for wanted in &settings.listeners {
        match listener(wanted, parts) {
            Ok(made) => listeners.push(made),
            Err(error) => noted(format!("listener {}: {error}", wanted.name)),
        }
    }
    let mut upstreams = Vec::new();
    for wanted in &settings.upstreams {
        match upstream(wanted, parts) {
            Ok(made) => upstreams.push(made),
            Err(error) => noted(format!("upstream {}: {error}", wanted.name)),
        }
    }
    let access_log = match access_log(&settings, parts.before) {
        Ok(log) => log,
        Err(error) => {
            noted(error);
            None
        }
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let place = |name: &str| {
        let found = settings.upstreams.iter().position(|u| u.name == name);
        found.unwrap_or(usize::MAX)
    };
    let mut policy = Policy::new(&settings, place);
    if let Some(before) = parts.before {
        policy = policy.after(&before.policy);
    }
    let routes = settings.routes.iter().map(|route| {
        let known = parts.before.and_then(|before| {
            let same = |totals: &&Arc<RouteTotals>| totals.name == route.name;
            before.routes.iter().find(same).cloned()
        });
        known.unwrap_or_else(|| RouteTotals::new(route.name.clone(), parts.workers))
    });
    Ok(Site {
        routes: routes.collect(),
        policy,
        upstreams,
        listeners,
        access_log,
        settings,
    })
}

fn listener(wanted: &Listener, parts: &Parts<'_>) -> Result<ListenerInForce, String> {
    let group = parts
        .groups
        .iter()
        .find(|group| *group.name() == wanted.name);
    let tls = match &wanted.tls {
        None => None,
        Some(tls) => {
            let store = CertificateStore::load(tls)?;
            let ticketer = Arc::clone(parts.ticketer);
            let config = server_config(Arc::clone(&store), ticketer, tls, wanted.http2)?;
            Some(TlsInForce { config, store })
        }
    };
    Ok(ListenerInForce {
        name: wanted.name.to_string(),
        port: group.map_or(wanted.address, Group::address).port(),
        tls,
        http2: wanted.http2,
        proxy_protocol: wanted.proxy_protocol,
        trusted: wanted.trusted.clone(),
    })
}

fn upstream(wanted: &Upstream, parts: &Parts<'_>) -> Result<UpstreamInForce, String> {
    let running = parts.upstreams.get(&wanted.name).ok_or("it does not run")?;
    let before = parts.before.and_then(|site| {
        let place = site
            .settings
            .upstreams
            .iter()
            .position(|u| u.name == wanted.name)?;
        Some((
            site.settings.upstreams.get(place)?,
            site.upstreams.get(place)?,
        ))
    });
    let tls = match (&wanted.tls, before) {
        (None, _) => None,
        (Some(tls), Some((old, made)))
            if old.tls.as_ref() == Some(tls) && old.protocol == wanted.protocol =>
        {
            made.tls.clone()
        }
        (Some(tls), _) => {
            if tls.insecure {
                tracing::warn!(
                    upstream = wanted.name,
                    "backends are not verified (tls.insecure)"
                );
            }
            let http2 = wanted.protocol == UpstreamProtocol::Http2;
            Some(Arc::new(BackendTls {
                config: client_config(tls, http2)?,
                settings: tls.clone(),
            }))
        }
    };
    let budget = match before {
        Some((old, made)) if old.retry_budget_percent == wanted.retry_budget_percent => {
            made.budget.clone()
        }
        _ if wanted.retry_budget_percent == 0 => None,
        _ => Some(Arc::new(RetryBudget::new(
            wanted.retry_budget_percent,
            Instant::now(),
        ))),
    };
    Ok(UpstreamInForce {
        upstream: Arc::clone(running),
        protocol: wanted.protocol,
        tls,
        budget,
    })
}

fn access_log(settings: &Settings, before: Option<&Site>) -> Result<Option<LogWriter>, String> {
    let Some(wanted) = &settings.access_log else {
        return Ok(None);
    };
    let kept = before.and_then(|site| site.access_log.as_ref());
    if let Some(log) = kept.filter(|log| *log.target() == wanted.target) {
        log.reopen();
        return Ok(Some(log.clone()));
    }
    LogWriter::start(wanted.target.clone())
        .map(Some)
        .map_err(|error| format!("the access log cannot be opened: {error}"))
}
