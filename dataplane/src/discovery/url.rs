//! Where the operator answers: `http://host:port`, perhaps with a path in front of its API.
//!
//! Room  pure: the name is not looked up.
//! Holds what was parsed is safe to put into a request's first line and its `Host` header.

use std::fmt;

use hyper::Uri;

/// The port when none is written (RFC 9110 section 4.2.1).
const HTTP_PORT: u16 = 80;

/// Longest URL, in bytes: what a person configures fits many times.
const URL_BYTES_MAX: usize = 2048;

/// What is asked for, below the URL.
const BACKENDS_PATH: &str = "/api/v1/backends";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorUrl {
    host: String,
    port: u16,
    /// Empty, or begins with a slash and does not end with one.
    prefix: String,
}

impl OperatorUrl {
    /// Reads `http://host[:port][/prefix]`.
    ///
    /// `None`: anything else, such as another scheme (TLS to the operator is not supported), a user name or
    /// password (they would travel in the clear), a query, a fragment, port 0.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > URL_BYTES_MAX || text.contains('#') {
            return None;
        }
        let uri: Uri = text.parse().ok()?;
        let authority = uri.authority()?;
        // `Uri` takes "host:" for "host", and a port it cannot read for none.
        let port_is_lost = uri.port().is_none() && !authority.as_str().ends_with(authority.host());
        if uri.scheme_str() != Some("http")
            || authority.as_str().contains('@')
            || port_is_lost
            || uri.query().is_some()
        {
            return None;
        }
        let host = authority.host();
        let port = authority.port_u16().unwrap_or(HTTP_PORT);
        if host.is_empty() || port == 0 {
            return None;
        }
        Some(Self {
            host: host.to_ascii_lowercase(),
            port,
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// The host to connect to: a name or an address without brackets.
    pub(super) fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port to connect to.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// For the `Host` header (RFC 9112 section 3.2).
    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The path of the backends, below the prefix.
    pub(super) fn backends_path(&self) -> String {
        format!("{}{BACKENDS_PATH}", self.prefix)
    }
}

impl fmt::Display for OperatorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::OperatorUrl;

    #[test]
    fn an_operator_is_named_by_host_port_and_prefix() {
        for (text, authority, path) in [
            (
                "http://127.0.0.1:8080",
                "127.0.0.1:8080",
                "/api/v1/backends",
            ),
            (
                "http://127.0.0.1:8080/",
                "127.0.0.1:8080",
                "/api/v1/backends",
            ),
            (
                "http://Operator.Internal",
                "operator.internal:80",
                "/api/v1/backends",
            ),
            (
                "http://[::1]:8080/zeitwork/",
                "[::1]:8080",
                "/zeitwork/api/v1/backends",
            ),
            (
                "HTTP://operator:80/a/b",
                "operator:80",
                "/a/b/api/v1/backends",
            ),
        ] {
            let url = OperatorUrl::parse(text).expect(text);
            assert_eq!(url.authority(), authority, "{text}");
            assert_eq!(url.backends_path(), path, "{text}");
            assert_eq!(OperatorUrl::parse(&url.to_string()), Some(url), "{text}");
        }
        let url = OperatorUrl::parse("http://[::1]:8080").expect("a URL");
        assert_eq!(
            url.host(),
            "::1",
            "an address is connected to without brackets"
        );
    }

    #[test]
    fn what_is_no_plain_http_url_is_refused() {
        for text in [
            "",
            "operator:8080",
            "/api",
            "https://operator:8080",
            "ftp://operator",
            "http://",
            "http://:8080",
            "http://operator:0",
            "http://operator:",
            "http://operator:70000",
            "http://operator:http",
            "http://user:secret@operator:8080",
            "http://operator:8080/?token=1",
            "http://operator:8080/#top",
            "http://opera tor:8080",
            "http://operator:8080/a b",
            "http://operator:8080/\r\nx: y",
        ] {
            assert_eq!(OperatorUrl::parse(text), None, "{text:?}");
        }
        assert_eq!(
            OperatorUrl::parse(&format!("http://operator/{}", "a".repeat(3000))),
            None
        );
    }
}
