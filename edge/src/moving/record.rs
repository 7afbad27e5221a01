//! The form of a connection's record.
//!
//! Room  pure but for a look at the kind of each descriptor.
//! Holds unknown fields are ignored, missing ones have a meaning; a reader that must know more than it does refuses.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use handoff::passage::{Arrived, RECORD_FORM};
use rustix::net::{AddressFamily, SocketType, sockopt};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::{Live, LiveTunnel};
use crate::access_log::Record as Logged;
use crate::policy::Client;
use crate::request::AccountLeft;
use crate::site::Site;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// The lowest form that a reader must know.
    form: u16,
    listener: String,
    peer: IpAddr,
    peer_port: u16,
    served: u64,
    #[serde(default)]
    sniffs: bool,
    age_us: u64,
    left_ms: u64,
    /// Of the held bytes, how many are the client's.
    #[serde(default)]
    kept: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tunnel: Option<Tunnel>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Tunnel {
    upstream: String,
    /// The backend's id and its address as written.
    backend: String,
    label: String,
    /// The backend, and the client, were told that the other side ended.
    #[serde(default)]
    backend_told: bool,
    #[serde(default)]
    client_told: bool,
    status: u16,
    /// Of its request.
    age_us: u64,
    #[serde(default)]
    received: u64,
    #[serde(default)]
    sent: u64,
    #[serde(default)]
    attempts: u32,
    /// What the access log will show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    logged: Option<Box<Logged>>,
}

pub(super) fn write(live: &Live, now: Instant) -> Box<RawValue> {
    let ago = |moment: Instant| {
        let ago = now.saturating_duration_since(moment).as_micros();
        u64::try_from(ago).unwrap_or(u64::MAX)
    };
    let tunnel = live.tunnel.as_ref().map(|tunnel| Tunnel {
        upstream: tunnel.upstream.clone(),
        backend: tunnel.lease.backend().id().to_owned(),
        label: tunnel.lease.backend().label().to_owned(),
        backend_told: tunnel.is_shut.0,
        client_told: tunnel.is_shut.1,
        status: tunnel.status,
        age_us: ago(tunnel.account.began),
        received: tunnel.account.received,
        sent: tunnel.account.sent,
        attempts: tunnel.account.attempts,
        logged: tunnel.account.record.clone(),
    });
    let record = Record {
        form: RECORD_FORM,
        listener: live.listener.clone(),
        peer: live.client.peer,
        peer_port: live.client.peer_port,
        served: live.served,
        sniffs: live.sniffs,
        age_us: ago(live.began),
        left_ms: live.left_ms,
        kept: u64::try_from(live.input.len()).unwrap_or(u64::MAX),
        tunnel,
    };
    to_raw_value(&record).unwrap_or_default()
}

pub(super) fn read(arrived: Arrived, site: &Site, now: Instant) -> Result<Live, String> {
    let record: Record = serde_json::from_str(arrived.record.get())
        .map_err(|error| format!("its record cannot be read: {error}"))?;
    if record.form > RECORD_FORM {
        return Err(format!(
            "its record has form {}, this version reads up to {RECORD_FORM}",
            record.form
        ));
    }
    let place = site
        .listeners
        .iter()
        .position(|one| one.name == record.listener);
    let found = place.and_then(|place| Some((place, site.listeners.get(place)?)));
    let Some((place, listener)) = found.filter(|(_, listener)| listener.tls.is_none()) else {
        return Err(format!(
            "there is no listener \"{}\" in clear in the new configuration",
            record.listener
        ));
    };
    let mut sockets = arrived.descriptors.into_iter();
    let mut input = arrived.held;
    let kept = usize::try_from(record.kept).unwrap_or(usize::MAX);
    if kept > input.len() {
        return Err("it announces more held bytes than arrived".to_owned());
    }
    let rest = input.split_off(kept);
    let before = |ago: u64| now.checked_sub(Duration::from_micros(ago)).unwrap_or(now);
    let socket = next_socket(&mut sockets)?;
    let tunnel = match record.tunnel {
        Some(tunnel) => {
            let began = before(tunnel.age_us);
            Some(Box::new(tunnel.read(
                next_socket(&mut sockets)?,
                rest,
                began,
                site,
            )?))
        }
        None if rest.is_empty() => None,
        None => return Err("more arrived than its record says".to_owned()),
    };
    if sockets.next().is_some() {
        return Err("more arrived than its record says".to_owned());
    }
    Ok(Live {
        socket,
        listener: record.listener,
        client: Client {
            peer: record.peer,
            peer_port: record.peer_port,
            is_tls: false,
            listener: place,
            listener_port: listener.port,
            covers_host: None,
        },
        began: before(record.age_us),
        served: record.served,
        sniffs: record.sniffs && listener.http2,
        left_ms: record.left_ms,
        input,
        tunnel,
        refused: None,
    })
}

impl Tunnel {
    fn read(
        self,
        socket: OwnedFd,
        input: Vec<u8>,
        began: Instant,
        site: &Site,
    ) -> Result<LiveTunnel, String> {
        let mut upstreams = site.upstreams.iter();
        let upstream = upstreams.find(|known| known.upstream.name() == self.upstream);
        let Some(upstream) = upstream else {
            return Err(format!(
                "there is no upstream \"{}\" in the new configuration",
                self.upstream
            ));
        };
        Ok(LiveTunnel {
            socket,
            lease: upstream
                .upstream
                .lease_of_arrived(&self.backend, &self.label),
            upstream: self.upstream,
            input,
            is_shut: (self.backend_told, self.client_told),
            status: self.status,
            account: AccountLeft {
                record: self.logged,
                began,
                // What a peer counts is added to: it must not overflow.
                received: self.received.min(u64::MAX / 2),
                sent: self.sent.min(u64::MAX / 2),
                attempts: self.attempts,
            },
        })
    }
}

fn next_socket(sockets: &mut impl Iterator<Item = OwnedFd>) -> Result<OwnedFd, String> {
    let socket = sockets.next().ok_or("its sockets did not arrive")?;
    let family = sockopt::socket_domain(&socket);
    let is_internet = matches!(family, Ok(AddressFamily::INET | AddressFamily::INET6));
    if is_internet && sockopt::socket_type(&socket) == Ok(SocketType::STREAM) {
        Ok(socket)
    } else {
        Err("a descriptor is no TCP socket".to_owned())
    }
}
