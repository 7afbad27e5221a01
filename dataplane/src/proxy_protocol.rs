//! The PROXY protocol: a proxy in front of us says who the client is, and we say it to a backend.
//!
//! Room  pure: bytes in, a value out; who may be believed is decided by the listener (`trusted`).
//! In    the first bytes of a connection, from `lb`; they are a stranger's.
//! Out   [`Parsed`] or the reason why it is no header; [`encode`] writes one.
//! Holds nothing is guessed: bytes are a prefix of a valid header, a valid header, or refused. Parsing never
//!       panics and never asks for more than [`HEADER_BYTES_MAX`].
//!
//! Source: "The PROXY protocol, versions 1 & 2" (doc/proxy-protocol.txt of HAProxy), sections 2.1 and 2.2.

mod v1;
mod v2;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest header that is accepted, both versions, in bytes; further ones are refused.
///
/// Covers: all that a peer may send before its first real byte, and so what is held for it. Sized: 536 is the
/// segment every IPv4 path carries (RFC 9293 section 3.7.1), so a sender that writes its header at once, as the
/// protocol demands, has it arrive in one piece. It leaves 508 bytes for TLVs after IPv4 addresses and 484 after
/// IPv6 ones; a version 2 header may announce up to 65,551 bytes, which nobody needs and an attacker would like.
pub const HEADER_BYTES_MAX: usize = 536;

/// Which of the two forms is written to a backend; both are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyVersion {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

impl ProxyVersion {
    /// As it is written in a configuration: `v1`, `v2`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

impl fmt::Display for ProxyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no version of the PROXY protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no version of the PROXY protocol; write \"v1\" or \"v2\"")]
pub struct UnknownVersion(String);

impl FromStr for ProxyVersion {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "v1" => Ok(Self::V1),
            "v2" => Ok(Self::V2),
            _ => Err(UnknownVersion(text.to_owned())),
        }
    }
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The client (source), and where it connected to (destination).
    ///
    /// `None`: the header names nobody (version 1 `UNKNOWN`, version 2 `LOCAL`, `UNSPEC` or Unix addresses); the
    /// connection's own addresses hold. An IPv4-mapped IPv6 address is given as the IPv4 address it maps, so that
    /// a client is the same client whatever family the proxy in front had to write.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
}

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A prefix of what may become a header: read on.
    Incomplete,
    /// A header; `length` bytes of the input are it, what follows is the client's.
    Complete { header: Header, length: usize },
}

/// Why the bytes are no header: the peer is at fault, the connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    #[error("the peer sent no PROXY header; is PROXY protocol turned on at the proxy in front?")]
    NotAHeader,
    #[error("the peer's PROXY v1 line does not end within 107 bytes")]
    LineTooLong,
    #[error("the peer's PROXY v1 line does not end in CR LF")]
    LineEnd,
    #[error(
        "the peer's PROXY v1 line is not TCP4, TCP6 or UNKNOWN with two addresses and two ports"
    )]
    LineGrammar,
    #[error("the peer's PROXY v1 line has an address that is not of the family it names")]
    Address,
    #[error("the peer's PROXY v1 line has a port that is not a decimal number from 0 to 65535")]
    Port,
    #[error("the peer's PROXY v2 header has version {0}; only 2 exists")]
    Version(u8),
    #[error("the peer's PROXY v2 header has the unknown command {0}")]
    Command(u8),
    #[error("the peer's PROXY v2 header has the unknown family and transport {0:#04x}")]
    Family(u8),
    #[error(
        "the peer announces a PROXY v2 header of {0} bytes; at most {HEADER_BYTES_MAX} are accepted"
    )]
    TooLong(usize),
    #[error("the peer's PROXY v2 header is too short for the addresses of its family")]
    AddressBlock,
    #[error("the peer's PROXY v2 header has a TLV that does not fit in it")]
    Tlv,
}

/// Looks whether the bytes begin with a header of either version.
///
/// # Errors
///
/// [`Bad`] as soon as no further byte can make them a header.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Bad> {
    if bytes.starts_with(v2::SIGNATURE) {
        v2::parse(bytes)
    } else if bytes.starts_with(v1::OPENING) {
        v1::parse(bytes)
    } else if v2::SIGNATURE.starts_with(bytes) || v1::OPENING.starts_with(bytes) {
        Ok(Parsed::Incomplete)
    } else {
        Err(Bad::NotAHeader)
    }
}

/// The header that says: `source` connected to `destination` over TCP.
///
/// A header has one family. Addresses of which one is IPv6 are written as IPv6, the IPv4 one mapped
/// (`::ffff:a.b.c.d`); two mapped addresses, as sockets bound to `[::]` report them, are written as the IPv4
/// addresses they are. Scopes and flow labels of IPv6 do not travel.
pub fn encode(version: ProxyVersion, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let ends = Ends::of(source.ip(), destination.ip());
    match version {
        ProxyVersion::V1 => v1::encode(ends, source.port(), destination.port()),
        ProxyVersion::V2 => v2::encode(ends, source.port(), destination.port()),
    }
}

/// Source and destination in the one family that a header has.
#[derive(Clone, Copy, Debug)]
enum Ends {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Ends {
    fn of(source: IpAddr, destination: IpAddr) -> Self {
        match (source.to_canonical(), destination.to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Self::V4(source, destination),
            (source, destination) => Self::V6(as_v6(source), as_v6(destination)),
        }
    }
}

fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// See [`Header::addresses`].
fn named(source: (IpAddr, u16), destination: (IpAddr, u16)) -> Header {
    let canonical = |(ip, port): (IpAddr, u16)| SocketAddr::new(ip.to_canonical(), port);
    Header {
        addresses: Some((canonical(source), canonical(destination))),
    }
}

/// A header that names nobody.
const NOBODY: Header = Header { addresses: None };

#[cfg(test)]
mod tests;
