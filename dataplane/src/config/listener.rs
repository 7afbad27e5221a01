//! What a `[[listener]]` of either proxy has: a name and an address of its own, PROXY headers and who may send
//! them.
//!
//! Room  pure.
//! Holds names and addresses are unique, over the admin listener too.

use std::net::SocketAddr;

use handoff::ListenerName;
use ipnet::IpNet;

use crate::admin::ADMIN_LISTENER;
use crate::settings::{Found, Notes, Section, Spot, nearest};

/// Sockets of one listener: what a handoff of many listeners still carries in a few messages.
pub const SOCKETS_MAX: usize = 256;
/// Sockets of a listener's group, unless configured. Sized: a canary of 1/16 is the finest share of new
/// connections; more sockets cost descriptors in every generation.
pub const SOCKETS: usize = 16;

/// Whether connections begin with a PROXY header, and whose headers are believed.
pub fn proxy_protocol(section: &mut Section<'_>) -> (bool, Vec<IpNet>) {
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
#[derive(Debug)]
pub struct Seen<'n> {
    notes: &'n Notes,
    names: Vec<ListenerName>,
    addresses: Vec<(SocketAddr, Spot)>,
}

impl<'n> Seen<'n> {
    /// Nothing but the admin listener's address.
    pub fn new(notes: &'n Notes, admin: Option<(SocketAddr, Spot)>) -> Self {
        Self {
            notes,
            names: Vec::new(),
            addresses: admin.into_iter().collect(),
        }
    }

    /// A name that nobody else has.
    pub fn name(&mut self, found: &Found<'_>) -> Option<ListenerName> {
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

    /// Notes an address that somebody else has.
    pub fn address(&mut self, address: SocketAddr, spot: &Spot) {
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

/// The name of an upstream that is there.
pub fn existing_upstream(found: &Found<'_>, upstreams: &[&str]) -> Option<String> {
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
