//! `[[listener]]`: where to listen, for which upstream, whose PROXY headers are believed.
//!
//! Room  pure.
//! Holds names and addresses are unique, over the admin listener too.

use std::net::SocketAddr;

use dataplane::admin::ADMIN_LISTENER;
use dataplane::settings::{Found, Notes, Section, Spot, nearest};
use handoff::ListenerName;
use ipnet::IpNet;

use super::read::CONNECTIONS_MAX;
use super::{Listener, SOCKETS};

/// Sockets of one listener: what a handoff of many listeners still carries in a few messages.
const SOCKETS_MAX: usize = 256;

/// One `[[listener]]`; `port` is that of the environment.
pub(super) fn read(
    mut section: Section<'_>,
    upstreams: &[&str],
    seen: &mut Seen<'_>,
    port: Option<u16>,
) -> Option<Listener> {
    let name = section.required(
        "name",
        "every listener has a name, by which its socket is known across upgrades",
    );
    let name = name.and_then(|found| seen.name(&found));
    let address = section.required("address", "where to listen, such as \"0.0.0.0:7000\"");
    let address = address.and_then(|found| {
        let mut address = found.listen_address()?;
        address.set_port(port.unwrap_or_else(|| address.port()));
        seen.address(address, found.spot());
        Some(address)
    });
    let upstream = section.required(
        "upstream",
        "every listener names the upstream that serves it",
    );
    let upstream = upstream.and_then(|found| existing_upstream(&found, upstreams));
    let sockets = section.optional("sockets");
    let sockets = sockets.and_then(|found| found.integer(1..=SOCKETS_MAX));
    let limit = section.optional("max_connections");
    let max_connections = limit.and_then(|found| found.integer(1..=CONNECTIONS_MAX));
    let (proxy_protocol, trusted) = proxy_protocol(&mut section);
    section.finish();
    Some(Listener {
        name: name?,
        address: address?,
        upstream: upstream?,
        sockets: sockets.unwrap_or(SOCKETS),
        proxy_protocol,
        trusted,
        max_connections,
    })
}

/// Whether connections begin with a PROXY header, and whose headers are believed.
fn proxy_protocol(section: &mut Section<'_>) -> (bool, Vec<IpNet>) {
    let switch = section.optional("proxy_protocol");
    let state = switch.as_ref().map(Found::boolean);
    let trusted = section.optional("trusted");
    let networks = trusted.as_ref().map(Found::items).unwrap_or_default();
    let networks = networks.iter().filter_map(Found::network).collect();
    let is_on = state == Some(Some(true));
    match (&switch, &trusted) {
        (Some(found), None) if is_on => found.mistake(
            "PROXY headers are believed from trusted networks only, and none is written",
            Some(
                "add trusted = [\"10.0.0.0/8\"] with the networks of the proxies in front"
                    .to_owned(),
            ),
        ),
        // A switch that could not be read has its own mistake.
        (_, Some(found)) if state.is_none() || state == Some(Some(false)) => {
            found.mistake("has no effect without proxy_protocol = true", None);
        }
        _ => {}
    }
    (is_on, networks)
}

/// Names and addresses that may be used once.
pub(super) struct Seen<'n> {
    notes: &'n Notes,
    names: Vec<ListenerName>,
    addresses: Vec<(SocketAddr, Spot)>,
}

impl<'n> Seen<'n> {
    pub(super) fn new(notes: &'n Notes, admin: Option<(SocketAddr, Spot)>) -> Self {
        Self {
            notes,
            names: Vec::new(),
            addresses: admin.into_iter().collect(),
        }
    }

    fn name(&mut self, found: &Found<'_>) -> Option<ListenerName> {
        let text = found.string()?;
        let name = match ListenerName::try_from(text) {
            Ok(name) => name,
            Err(error) => {
                found.mistake(error.to_string(), None);
                return None;
            }
        };
        if name.as_str() == ADMIN_LISTENER {
            found.mistake(
                "\"admin\" is the name of the admin listener",
                Some("choose another name".to_owned()),
            );
        } else if self.names.contains(&name) {
            found.mistake(
                format!("another listener is named \"{name}\""),
                Some("choose another name".to_owned()),
            );
        }
        self.names.push(name.clone());
        Some(name)
    }

    fn address(&mut self, address: SocketAddr, spot: &Spot) {
        let same = self
            .addresses
            .iter()
            .find(|(other, _)| *other == address && address.port() != 0);
        if let Some((_, other)) = same {
            let problem = format!("{address} is already taken by {}", other.key);
            self.notes.mistake(spot, problem, None);
        }
        self.addresses.push((address, spot.clone()));
    }
}

fn existing_upstream(found: &Found<'_>, upstreams: &[&str]) -> Option<String> {
    let name = found.string()?;
    if !upstreams.contains(&name.as_str()) {
        let meant = nearest(&name, upstreams.iter().copied());
        let hint = meant.map_or_else(
            || format!("write [upstream.{name}]"),
            |meant| format!("did you mean \"{meant}\"?"),
        );
        found.mistake(format!("there is no upstream \"{name}\""), Some(hint));
    }
    Some(name)
}
