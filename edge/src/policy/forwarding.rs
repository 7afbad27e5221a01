//! A request's head on its way to a backend: whose word is believed, and which fields go on.
//!
//! Room  pure.
//! In    the client's fields. Out  the backend's, into a sink: Host first, then the fields that pass in runs, then what
//!       the proxy itself says about the client.
//! Holds no field of the connection passes, nor one that `Connection` lists; a client cannot have a protected field
//!       removed; from a peer that is not trusted nothing passes that says who the client is, aliases included.

use std::net::{IpAddr, SocketAddr};

use crate::field::{Field, FieldSink};

use super::access::AccessList;
use super::names::{Kind, is_protected, is_usual_option, kind};
use super::text::Text;
use super::{Asked, Client, Forwarding, HttpVersion, Policy};

#[cfg(test)]
mod tests;

/// Addresses of `X-Forwarded-For` that are looked at, from the right.
const HOPS_MAX: usize = 32;
/// Field names of its own that a `Connection` may list; each costs a comparison with every field.
const OPTIONS_MAX: usize = 16;
/// Options of every kind: the usual ones are walked over just the same.
const ALL_OPTIONS_MAX: usize = 64;

/// What `Connection` asks for beside the usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionOptions {
    /// It lists fields that would else pass.
    pub(super) lists_fields: bool,
}

/// `Connection` lists a field that must not go, or too many.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused;

/// Reads `Connection` (RFC 9110 section 7.6.1).
pub(super) fn connection_options(fields: &[Field<'_>]) -> Result<ConnectionOptions, Refused> {
    let mut listed = 0;
    for (index, option) in options(fields).enumerate() {
        if is_protected(option) || index == ALL_OPTIONS_MAX {
            return Err(Refused);
        }
        listed += usize::from(!is_usual_option(option));
    }
    if listed > OPTIONS_MAX {
        return Err(Refused);
    }
    Ok(ConnectionOptions {
        lists_fields: listed > 0,
    })
}

/// Whether `Connection` lists this name.
pub(super) fn lists(fields: &[Field<'_>], name: &[u8]) -> bool {
    options(fields).any(|option| option.eq_ignore_ascii_case(name))
}

fn options<'f>(fields: &'f [Field<'f>]) -> impl Iterator<Item = &'f [u8]> {
    fields
        .iter()
        .filter(|field| kind(field.name) == Kind::Connection)
        .flat_map(|field| field.value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|option| !option.is_empty())
}

/// The rightmost address in `X-Forwarded-For` that is not a trusted proxy's; where the chain ends or is
/// not readable, the last good one.
pub(super) fn believed(trusted: &AccessList, peer: IpAddr, fields: &[Field<'_>]) -> IpAddr {
    let mut client = peer;
    let chain = fields
        .iter()
        .rev()
        .filter(|field| kind(field.name) == Kind::ForwardedFor)
        .flat_map(|field| field.value.rsplit(|byte| *byte == b','));
    for hop in chain.take(HOPS_MAX) {
        if !trusted.lists(client) {
            break;
        }
        let Some(address) = address(hop.trim_ascii()) else {
            break;
        };
        client = address;
    }
    client
}

/// An address as proxies write it: with or without port, IPv6 with or without brackets.
fn address(text: &[u8]) -> Option<IpAddr> {
    // The longest one: a bracketed IPv6 address with an embedded IPv4 one and a port.
    if text.len() > 55 {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let address = bare
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

impl Policy {
    /// The request's fields for the backend, without those of framing and connection, which are the engine's.
    pub fn write_request_fields(
        &self,
        forwarding: &Forwarding<'_>,
        asked: &Asked<'_>,
        client: &Client,
        sink: &mut impl FieldSink,
    ) {
        let route = forwarding.route;
        let changes = &route.request_changes;
        let host = route.rewrite.host.as_deref().unwrap_or(asked.host);
        sink.put(b"Host", host.as_bytes());
        let crumbs = asked.version == HttpVersion::Http2;
        let mut run = 0;
        for (index, field) in asked.fields.iter().enumerate() {
            let passes = match kind(field.name) {
                Kind::Plain if crumbs && field.is("cookie") => false,
                Kind::Plain => {
                    !(forwarding.options.lists_fields && lists(asked.fields, field.name))
                }
                Kind::ForwardedOther => forwarding.trusted,
                _ => false,
            };
            if !passes || changes.replaces(field.name) {
                put_run(sink, &asked.fields[run..index]);
                run = index + 1;
            }
        }
        put_run(sink, &asked.fields[run..]);
        let mut put = |name: &[u8], value: &[u8]| {
            if !changes.replaces(name) {
                sink.put(name, value);
            }
        };
        if crumbs {
            whole_cookie(asked.fields, &mut put);
        }
        said_about(forwarding, asked, client, put);
        changes.write(sink);
    }
}

fn put_run(sink: &mut impl FieldSink, run: &[Field<'_>]) {
    if !run.is_empty() {
        sink.put_run(run);
    }
}

/// HTTP/2 may split a cookie into several fields, HTTP/1.1 may not (RFC 9113 section 8.2.3).
fn whole_cookie(fields: &[Field<'_>], mut put: impl FnMut(&[u8], &[u8])) {
    let mut whole = Text::new();
    let mut crumbs = fields.iter().filter(|field| field.is("cookie"));
    let Some(first) = crumbs.next() else { return };
    whole.push(first.value);
    for crumb in crumbs {
        whole.push(b"; ");
        whole.push(crumb.value);
    }
    put(b"Cookie", whole.as_bytes());
}

/// What the proxy says about the client, continued from what a trusted peer said.
fn said_about(
    forwarding: &Forwarding<'_>,
    asked: &Asked<'_>,
    client: &Client,
    mut put: impl FnMut(&[u8], &[u8]),
) {
    let earlier: &[Field<'_>] = if forwarding.trusted {
        asked.fields
    } else {
        &[]
    };
    let of = |wanted: Kind| {
        earlier
            .iter()
            .filter(move |field| kind(field.name) == wanted && !field.value.is_empty())
            .map(|field| field.value)
    };
    let proto: &[u8] = if client.is_tls { b"https" } else { b"http" };
    let peer = client.peer.to_canonical();

    let mut chain = Text::new();
    continued(&mut chain, of(Kind::ForwardedFor));
    chain.push_ip(peer);
    put(b"X-Forwarded-For", chain.as_bytes());
    let said = of(Kind::ForwardedProto)
        .next()
        .filter(|said| matches!(*said, b"http" | b"https" | b"ws" | b"wss"));
    put(b"X-Forwarded-Proto", said.unwrap_or(proto));
    let said = of(Kind::ForwardedHost).next();
    put(b"X-Forwarded-Host", said.unwrap_or(asked.host.as_bytes()));
    let mut real = Text::new();
    real.push_ip(forwarding.client_ip);
    put(b"X-Real-IP", real.as_bytes());
    let mut element = Text::new();
    continued(&mut element, of(Kind::Forwarded));
    forwarded_element(&mut element, peer, proto, asked.host);
    put(b"Forwarded", element.as_bytes());
    put(b"X-Request-Id", forwarding.request_id.as_bytes());
}

/// Earlier members of a list, each with its comma.
fn continued<'v>(text: &mut Text, earlier: impl Iterator<Item = &'v [u8]>) {
    for value in earlier {
        text.push(value);
        text.push(b", ");
    }
}

/// One member of `Forwarded` (RFC 7239 section 4): IPv6 addresses and hosts with a port are quoted.
fn forwarded_element(text: &mut Text, peer: IpAddr, proto: &[u8], host: &str) {
    let (before, after): (&[u8], &[u8]) = match peer {
        IpAddr::V4(_) => (b"for=", b""),
        IpAddr::V6(_) => (b"for=\"[", b"]\""),
    };
    text.push(before);
    text.push_ip(peer);
    text.push(after);
    text.push(b";proto=");
    text.push(proto);
    if host.is_empty() {
        return;
    }
    text.push(b";host=");
    if host.bytes().all(crate::http1::is_token) {
        text.push(host.as_bytes());
        return;
    }
    text.push(b"\"");
    // A host has been checked; quotes are looked for all the same.
    for part in host
        .as_bytes()
        .split_inclusive(|byte| matches!(byte, b'"' | b'\\'))
    {
        match part.split_last() {
            Some((last @ (b'"' | b'\\'), rest)) => {
                text.push(rest);
                text.push(&[b'\\', *last]);
            }
            _ => text.push(part),
        }
    }
    text.push(b"\"");
}
