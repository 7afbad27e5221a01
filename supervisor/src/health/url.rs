//! `--health-url`: where a program without the native handoff says how it is.
//!
//! Room  pure: text in, an address, an authority and a path out.
//! Holds only an address of this host can be meant, so nothing is resolved: whoever answers is looked for among this
//!       host's processes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hyper::Uri;
use serde::{Deserialize, Deserializer};

/// Where to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthUrl {
    pub(crate) address: SocketAddr,
    /// As it stands in the Host header.
    pub(crate) authority: String,
    /// With the query.
    pub(crate) path: String,
}

impl std::fmt::Display for HealthUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// `--health-url URL`.
pub(crate) fn parse_health_url(text: &str) -> Result<HealthUrl, String> {
    let wrong =
        |reason: &str| format!("{text:?}: {reason}, as in \"http://127.0.0.1:8000/health\"");
    let uri: Uri = text.parse().map_err(|_| wrong("this is no URL"))?;
    let authority = uri
        .authority()
        .filter(|_| uri.scheme().is_some())
        .ok_or_else(|| wrong("give scheme, address, port and path"))?;
    if uri.scheme_str() != Some("http") {
        return Err(wrong("only http is spoken here"));
    }
    if authority.as_str().contains('@') {
        return Err(wrong("no user and password in it"));
    }
    let host = authority.host().trim_matches(['[', ']']);
    let ip = match host.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) if host.eq_ignore_ascii_case("localhost") => Ipv4Addr::LOCALHOST.into(),
        Err(_) => return Err(wrong("give an address of this host instead of a name")),
    };
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(wrong("nobody can be asked at this address"));
    }
    let rest = authority.as_str().strip_prefix(authority.host());
    let port = match rest.unwrap_or_default().strip_prefix(':') {
        None => 80,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(wrong("this is no port")),
        },
    };
    Ok(HealthUrl {
        address: SocketAddr::new(ip, port),
        authority: authority.to_string(),
        path: uri
            .path_and_query()
            .map_or_else(|| "/".to_owned(), ToString::to_string),
    })
}

/// `health_url` of supervisor.toml.
pub(crate) fn health_url<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<HealthUrl>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let url = parse_health_url(&text);
    url.map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::parse_health_url;

    #[test]
    fn a_url_is_an_address_of_this_host_and_a_path() {
        let table = [
            ("http://127.0.0.1:8000/health", "127.0.0.1:8000", "/health"),
            ("http://127.0.0.1:8000", "127.0.0.1:8000", "/"),
            ("http://10.0.0.7/up?deep=1", "10.0.0.7:80", "/up?deep=1"),
            ("http://[::1]:8000/", "[::1]:8000", "/"),
            ("http://[fd00::7]/x", "[fd00::7]:80", "/x"),
            (
                "HTTP://LocalHost:3000/healthz",
                "127.0.0.1:3000",
                "/healthz",
            ),
        ];
        for (text, address, path) in table {
            let url = parse_health_url(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(
                (url.address.to_string().as_str(), url.path.as_str()),
                (address, path)
            );
        }
        let url = parse_health_url("http://localhost:3000/a?b").expect("valid");
        assert_eq!(url.authority, "localhost:3000", "as the person wrote it");
        assert_eq!(url.to_string(), "http://localhost:3000/a?b");
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_a_reason_and_an_example() {
        let table = [
            ("", "no URL"),
            ("http://", "no URL"),
            ("/health", "give scheme"),
            ("127.0.0.1:8000", "give scheme"),
            ("https://127.0.0.1/", "only http"),
            ("unix:///run/x", "no URL"),
            ("http://app.example.com/health", "instead of a name"),
            ("http://me:secret@127.0.0.1/", "no user"),
            ("http://0.0.0.0:8000/", "nobody can be asked"),
            ("http://[::]:8000/", "nobody can be asked"),
            ("http://224.0.0.1/", "nobody can be asked"),
            ("http://127.0.0.1:0/", "no port"),
            ("http://127.0.0.1:/", "no port"),
            ("http://127.0.0.1:65536/", "no port"),
            ("http://127.0.0.1:80 80/", "no URL"),
            ("http://127.0.0.1/a b", "no URL"),
            ("http://127.0.0.1/\r\nHost: x", "no URL"),
        ];
        for (text, reason) in table {
            let error = parse_health_url(text).expect_err(text);
            assert!(error.contains(reason), "{text:?}: {error}");
            assert!(error.contains("http://127.0.0.1:8000/health"), "{error}");
        }
    }
}
