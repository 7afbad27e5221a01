//! What a load is aimed at: an address, and which conversation it understands.
//!
//! Room  parsing, and one name lookup at the start of a run.
//! In    `http://HOST:PORT/PATH` or `tcp://HOST:PORT`, as typed.
//! Out   a `Target` with a resolved address.
//! Holds the address is resolved once: a measurement never waits for a name server.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};

/// Where the load goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A byte stream: echo, or a listener that only swallows.
    Tcp {
        /// Resolved address.
        address: SocketAddr,
    },
    /// HTTP/1.1, bare or over TLS.
    Http {
        /// Resolved address.
        address: SocketAddr,
        /// Value of the Host header.
        authority: String,
        /// Path and query, beginning with `/`.
        path: String,
        /// Over TLS (https).
        is_tls: bool,
    },
}

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Neither of the two known forms.
    #[error(
        "`{0}` is not a target: write tcp://HOST:PORT, http://HOST:PORT/PATH or https://HOST:PORT/PATH"
    )]
    Form(String),
    /// The name does not resolve.
    #[error("`{authority}` has no address: check the name, and that it ends in :PORT")]
    Lookup {
        /// Host and port as typed.
        authority: String,
        /// What the resolver said.
        #[source]
        source: std::io::Error,
    },
    /// It resolves to nothing.
    #[error("`{0}` resolves to no address")]
    NoAddress(String),
}

impl Target {
    /// An echo (or discard) listener at `address`.
    pub fn tcp(address: SocketAddr) -> Self {
        Self::Tcp { address }
    }

    /// An HTTP listener at `address`; `path` begins with `/`.
    pub fn http(address: SocketAddr, path: &str) -> Self {
        Self::Http {
            address,
            authority: address.to_string(),
            path: path.to_owned(),
            is_tls: false,
        }
    }

    /// An HTTP listener behind TLS at `address`, known as `host`; `path` begins with `/`.
    pub fn https(address: SocketAddr, host: &str, path: &str) -> Self {
        Self::Http {
            address,
            authority: format!("{host}:{}", address.port()),
            path: path.to_owned(),
            is_tls: true,
        }
    }

    /// Reads a target as typed and looks its name up (blocking; literal addresses need no lookup).
    ///
    /// # Errors
    /// Names the form that is understood.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if let Some(authority) = text.strip_prefix("tcp://") {
            return Ok(Self::Tcp {
                address: resolve(authority.trim_end_matches('/'))?,
            });
        }
        let (rest, is_tls) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (rest, false),
            (None, Some(rest)) => (rest, true),
            (None, None) => return Err(TargetError::Form(text.to_owned())),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.is_empty()
            || text.contains(|c: char| c.is_ascii_whitespace() || c.is_control())
        {
            return Err(TargetError::Form(text.to_owned()));
        }
        // A port may be left out in a URL; a bracketed IPv6 address has colons of its own.
        let has_port = authority
            .rsplit(']')
            .next()
            .is_some_and(|tail| tail.contains(':'));
        let address = if has_port {
            resolve(authority)?
        } else {
            resolve(&format!("{authority}:{}", if is_tls { 443 } else { 80 }))?
        };
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self::Http {
            address,
            authority: authority.to_owned(),
            path: path.to_owned(),
            is_tls,
        })
    }

    /// The resolved address.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Tcp { address } | Self::Http { address, .. } => *address,
        }
    }

    /// The name in the certificate, where the target is behind TLS: the authority without its port.
    pub fn server_name(&self) -> Option<&str> {
        let Self::Http {
            authority,
            is_tls: true,
            ..
        } = self
        else {
            return None;
        };
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => host,
            _ => authority,
        };
        Some(host.trim_start_matches('[').trim_end_matches(']'))
    }

    /// The length of the answer, where the path is exactly `/bytes/N`: what our own origin answers byte by byte.
    pub fn promised_length(&self) -> Option<u64> {
        match self {
            Self::Tcp { .. } => None,
            Self::Http { path, .. } => path.strip_prefix("/bytes/")?.parse().ok(),
        }
    }
}

fn resolve(authority: &str) -> Result<SocketAddr, TargetError> {
    let lookup = |source| TargetError::Lookup {
        authority: authority.to_owned(),
        source,
    };
    let mut addresses = authority.to_socket_addrs().map_err(lookup)?;
    addresses
        .next()
        .ok_or_else(|| TargetError::NoAddress(authority.to_owned()))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { address } => write!(f, "tcp://{address}"),
            Self::Http {
                authority,
                path,
                is_tls,
                ..
            } => write!(
                f,
                "http{}://{authority}{path}",
                if *is_tls { "s" } else { "" }
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_written_back() {
        for text in [
            "tcp://127.0.0.1:7000",
            "http://127.0.0.1:8080/bytes/12?x=1",
            "http://[::1]:81/",
            "https://127.0.0.1:8443/bytes/12",
        ] {
            assert_eq!(Target::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Target::parse("http://127.0.0.1").unwrap().address().port(),
            80
        );
        assert_eq!(
            Target::parse("http://[::1]/x").unwrap().address().port(),
            80
        );
    }

    #[test]
    fn a_wrong_target_is_refused_with_the_form_that_is_understood() {
        let message = |text| Target::parse(text).unwrap_err().to_string();
        assert!(message("127.0.0.1:80").contains("write tcp://HOST:PORT"));
        assert!(message("http:///x").contains("write tcp://HOST:PORT"));
        assert!(message("http://a b/").contains("write tcp://HOST:PORT"));
        assert!(message("tcp://127.0.0.1").contains("ends in :PORT"));
        assert!(message("tcp://127.0.0.1:99999").contains("ends in :PORT"));
    }

    #[test]
    fn the_name_in_the_certificate_is_the_authority_without_its_port() {
        for (text, name) in [
            ("https://127.0.0.1:8443/", Some("127.0.0.1")),
            ("https://[::1]:8443/", Some("::1")),
            ("https://[::1]/", Some("::1")),
            ("https://localhost/", Some("localhost")),
            ("http://127.0.0.1/", None),
            ("tcp://127.0.0.1:1", None),
        ] {
            assert_eq!(Target::parse(text).unwrap().server_name(), name, "{text}");
        }
        let bare = Target::parse("https://127.0.0.1/").unwrap();
        assert_eq!(bare.address().port(), 443);
    }

    #[test]
    fn only_our_own_path_promises_a_length() {
        let promised = |text| Target::parse(text).unwrap().promised_length();
        assert_eq!(promised("http://127.0.0.1:1/bytes/1024"), Some(1_024));
        assert_eq!(promised("http://127.0.0.1:1/bytes/1024?a"), None);
        assert_eq!(promised("http://127.0.0.1:1/index.html"), None);
        assert_eq!(promised("tcp://127.0.0.1:1"), None);
    }
}
