//! How a supervisor can try this process before clients come.
//!
//! Room  pure: from what is in force to a list.
//! Holds each listener is tried in the protocol that its upstream's health check knows it to speak; without one
//!       it is only seen whether a backend takes the connection.

use dataplane::admin::ADMIN_LISTENER;
use dataplane::health::CheckKind;
use handoff::worker::{SelfTest, SelfTestKind};

use crate::config::Listener;
use crate::running::Running;

/// Every listener once.
pub(crate) fn of(running: &Running) -> Vec<SelfTest> {
    let admin = running.admin().and_then(|_| {
        Some(SelfTest {
            listener: ADMIN_LISTENER.parse().ok()?,
            kind: SelfTestKind::Health,
            proxy_protocol: false,
            names: Vec::new(),
            path: "/health".to_owned(),
        })
    });
    let listeners = running.config.listeners.iter();
    listeners
        .map(|listener| try_listener(running, listener))
        .chain(admin)
        .collect()
}

fn try_listener(running: &Running, listener: &Listener) -> SelfTest {
    let upstream = running.upstreams.get(&listener.upstream);
    let settings = upstream.map(|upstream| upstream.settings());
    let check = settings.and_then(|settings| settings.health_check.clone());
    let (kind, names, path) = match check.map(|check| check.kind) {
        Some(CheckKind::Http { path, host, .. }) => {
            (SelfTestKind::Http, host.into_iter().collect(), path)
        }
        _ => (SelfTestKind::Tcp, Vec::new(), String::new()),
    };
    SelfTest {
        listener: listener.name.clone(),
        kind,
        proxy_protocol: listener.proxy_protocol,
        names,
        path,
    }
}
