//! How a supervisor can try this process before clients come.
//!
//! Room  pure: from what is in force to a list.
//! Holds every certificate in force is asked for by a name of its own; a request goes to a host that a route
//!       names where one does.

use std::net::IpAddr;

use dataplane::admin::ADMIN_LISTENER;
use edge::settings::{Listener, RouteAction};
use handoff::worker::{SelfTest, SelfTestKind};

use crate::running::Running;

/// Most names of one listener. Sized: a handshake takes a millisecond or two, and clients wait for none of them.
const NAMES_MAX: usize = 64;

/// What stands for the further labels of a wildcard.
const LABEL: &str = "self-test";

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
    let listeners = running.settings().listeners.iter();
    listeners
        .map(|listener| try_listener(running, listener))
        .chain(admin)
        .collect()
}

fn try_listener(running: &Running, listener: &Listener) -> SelfTest {
    let in_force = running.site.listeners.iter();
    let mut of_this = in_force.filter(|known| known.name == listener.name.as_str());
    let tls = of_this.find_map(|known| known.tls.as_ref());
    let certified = tls.map(|tls| {
        let statuses = tls.store.statuses().into_iter();
        statuses.flat_map(|status| status.names).collect::<Vec<_>>()
    });
    let (kind, names) = match certified {
        Some(names) => (SelfTestKind::Https, names),
        None => (SelfTestKind::Http, routed(running)),
    };
    let mut names: Vec<String> = names.iter().map(|name| concrete(name)).collect();
    // An address is not asked for by SNI (RFC 6066, section 3): only where there is nothing else.
    let is_address = |name: &String| name.parse::<IpAddr>().is_ok();
    if !names.iter().all(is_address) {
        names.retain(|name| !is_address(name));
    }
    names.sort_unstable();
    names.dedup();
    names.truncate(NAMES_MAX);
    SelfTest {
        listener: listener.name.clone(),
        kind,
        proxy_protocol: listener.proxy_protocol,
        names,
        path: "/".to_owned(),
    }
}

/// A host whose requests reach a backend; none where any host does.
fn routed(running: &Running) -> Vec<String> {
    let routes = running.settings().routes.iter();
    let forwarding = routes.filter(|route| matches!(route.action, RouteAction::Forward(_)));
    let hosts = forwarding.flat_map(|route| route.matcher.hosts.first());
    hosts.take(1).cloned().collect()
}

fn concrete(name: &str) -> String {
    name.strip_prefix('*')
        .map_or_else(|| name.to_owned(), |rest| format!("{LABEL}{rest}"))
}
