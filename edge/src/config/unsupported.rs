//! What people know from other proxies and this one has not: told in words, not as an unknown key.
//!
//! Room  pure.

use dataplane::settings::Section;

/// Keys, and why they are not there.
type Refused = (&'static str, &'static str);

const ACME: Refused = (
    "acme",
    "edge does not fetch certificates; write [[listener.certificate]] and renew the files",
);
const HTTP3: Refused = ("http3", "edge has no HTTP/3");
const OCSP: Refused = ("ocsp", "edge staples no OCSP answers");
const CLIENT_AUTH: Refused = ("client_auth", "edge asks for no client certificates");
const COMPRESSION: Refused = ("compression", "edge does not compress; backends do");
const CACHE: Refused = ("cache", "edge has no cache");

pub(super) const OF_THE_FILE: [Refused; 6] = [ACME, HTTP3, COMPRESSION, CACHE, OCSP, CLIENT_AUTH];
pub(super) const OF_A_LISTENER: [Refused; 6] = [
    ACME,
    HTTP3,
    OCSP,
    CLIENT_AUTH,
    (
        "upstream",
        "edge chooses by request; write [[route]] with upstream",
    ),
    (
        "max_connections",
        "edge counts connections over all listeners; write [limits] connections",
    ),
];
pub(super) const OF_A_ROUTE: [Refused; 4] = [
    COMPRESSION,
    CACHE,
    ("basic_auth", "edge asks nobody for a password; backends do"),
    ("root", "edge serves no files; respond gives fixed answers"),
];
pub(super) const OF_AN_UPSTREAM: [Refused; 2] = [
    (
        "sticky",
        "edge sets no cookies; algorithm = \"ip-hash\" keeps a client at its backend",
    ),
    (
        "proxy_protocol_out",
        "edge tells backends about clients in X-Forwarded-For and Forwarded, not by PROXY protocol",
    ),
];

/// Notes each of them that is written.
pub(super) fn refuse(section: &mut Section<'_>, list: &[Refused]) {
    for &(key, why) in list {
        // Asked for only where it is written: else it would stand among the known keys of a message.
        if section.has(key)
            && let Some(found) = section.optional(key)
        {
            found.mistake(why, Some("remove it".to_owned()));
        }
    }
}
