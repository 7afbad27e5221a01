//! What clients do to everybody alike.

use std::time::Duration;

use crate::load::{Limits, Load, Shape};
use crate::target::Target;
use crate::trust::Trust;

use super::contender::Entry;

/// The name in the certificate.
pub(crate) const HOST: &str = "localhost";

/// Bytes of a bulk answer.
const BULK_BYTES: u64 = 32 << 20;

/// One way to use a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Byte streams: 64 kept connections, 1 KB answers.
    L4KeepAlive,
    /// Byte streams: a connection for each request, 32 at a time.
    L4Connections,
    /// Byte streams: four clients that fetch 32 MiB again and again.
    L4Bulk,
    /// HTTP/1.1 in clear: 64 kept connections, 1 KB answers.
    H1,
    /// The same over TLS 1.3.
    H1Tls,
    /// A full handshake and one request, 16 at a time.
    Handshakes,
    /// A resumed handshake and one request, 6 at a time.
    Resumptions,
    /// HTTP/2 over TLS: 16 connections with 8 streams each, 1 KB answers.
    H2,
}

impl Scenario {
    /// In the order of the report.
    pub const ALL: [Self; 8] = [
        Self::L4KeepAlive,
        Self::L4Connections,
        Self::L4Bulk,
        Self::H1,
        Self::H1Tls,
        Self::Handshakes,
        Self::Resumptions,
        Self::H2,
    ];

    /// As it is typed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::L4KeepAlive => "l4-keep-alive",
            Self::L4Connections => "l4-connections",
            Self::L4Bulk => "l4-bulk",
            Self::H1 => "h1",
            Self::H1Tls => "h1-tls",
            Self::Handshakes => "tls-handshakes",
            Self::Resumptions => "tls-resumptions",
            Self::H2 => "h2",
        }
    }

    /// For a person.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::L4KeepAlive => "L4, kept connections",
            Self::L4Connections => "L4, a connection for each request",
            Self::L4Bulk => "L4, bulk",
            Self::H1 => "HTTP/1.1 in clear, kept connections",
            Self::H1Tls => "HTTP/1.1 over TLS 1.3, kept connections",
            Self::Handshakes => "TLS 1.3, full handshake and one request",
            Self::Resumptions => "TLS 1.3, resumed handshake and one request",
            Self::H2 => "HTTP/2 over TLS 1.3, 16 x 8 streams",
        }
    }

    /// What a build must hold against the best peer: what is reached today and the noise of a shared machine. The targets
    /// are lower (docs/performance.md).
    pub(super) const fn limit(self) -> f64 {
        match self {
            Self::L4KeepAlive => 0.97,
            Self::L4Connections => 1.05,
            Self::L4Bulk => 0.40,
            Self::H1 => 1.10,
            Self::H1Tls => 0.93,
            Self::Handshakes => 0.65,
            Self::Resumptions => 0.72,
            Self::H2 => 0.95,
        }
    }

    /// What the ratio to the best peer is meant to be.
    pub(super) const fn target(self) -> f64 {
        match self {
            Self::L4KeepAlive | Self::L4Connections => 0.97,
            Self::L4Bulk => 0.55,
            Self::H1 => 0.85,
            Self::H1Tls => 0.80,
            Self::Handshakes | Self::Resumptions | Self::H2 => 0.70,
        }
    }

    /// Byte streams, or HTTP.
    pub(crate) const fn is_l4(self) -> bool {
        matches!(self, Self::L4KeepAlive | Self::L4Connections | Self::L4Bulk)
    }

    /// What is counted: CPU time for so many bytes, or for a request.
    pub(super) const fn counts_bytes(self) -> bool {
        matches!(self, Self::L4Bulk)
    }

    /// Connections are kept, so that many of them may be idle and a fixed rate is one of requests.
    pub(super) const fn keeps(self) -> bool {
        matches!(self, Self::L4KeepAlive | Self::H1 | Self::H1Tls)
    }

    /// The clients, aimed at a proxy.
    pub(crate) fn load(self, entry: &Entry) -> Load {
        let path = match self {
            Self::L4Bulk => format!("/bytes/{BULK_BYTES}"),
            _ => "/bytes/1024".to_owned(),
        };
        let clear = || Target::http(entry.clear, &path);
        let tls = || Target::https(entry.tls, HOST, &path);
        let (target, shape, clients) = match self {
            Self::L4KeepAlive | Self::H1 => (clear(), Shape::KeepAlive, 64),
            Self::L4Connections => (clear(), Shape::Short, 32),
            Self::L4Bulk => (clear(), Shape::KeepAlive, 4),
            Self::H1Tls => (tls(), Shape::KeepAlive, 64),
            Self::Handshakes => (tls(), Shape::Short, 16),
            Self::Resumptions => (tls(), Shape::Short, 6),
            Self::H2 => (tls(), Shape::Http2, 16),
        };
        let mut load = Load::new(target, shape, clients);
        // Nobody is asked to change connections while it is measured.
        load.exchanges_per_connection = u64::MAX;
        load.streams_per_connection = 8;
        load.limits = Limits {
            stall: Duration::from_secs(20),
            exchange: Duration::from_secs(60),
            ..Limits::default()
        };
        load.trust = self.trust(entry);
        load
    }

    fn trust(self, entry: &Entry) -> Option<Trust> {
        if self.is_l4() {
            return None;
        }
        let trust = entry.trust.clone();
        Some(match self {
            Self::Handshakes => trust.without_memory(),
            _ => trust,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Scenario;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = Scenario::ALL.iter().map(|one| one.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Scenario::ALL.len());
    }
}
