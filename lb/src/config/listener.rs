//! `[[listener]]`: where to listen, for which upstream, whose PROXY headers are believed.
//!
//! Room  pure.
//! Holds names and addresses are unique, over the admin listener too.

use dataplane::config::CONNECTIONS_MAX;
use dataplane::config::listener::{SOCKETS, SOCKETS_MAX, Seen, existing_upstream, proxy_protocol};
use dataplane::settings::Section;

use super::Listener;

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
