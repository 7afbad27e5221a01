//! Addresses as people write them: where to listen, where a backend is, which networks are trusted.
//!
//! Room  pure: names are checked for their form, never looked up.
//! Out   a value, or what is wrong and what was probably meant.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// What is wrong, and the suggestion.
pub(super) type Refusal = (String, Option<String>);

/// `ip:port` to bind; port 0 lets the kernel choose.
pub(super) fn listen(text: &str) -> Result<SocketAddr, Refusal> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let problem = format!("{text:?} is not an address to listen on (ip:port)");
    let host_is_right = text
        .rsplit_once(':')
        .is_some_and(|(host, _)| format!("{host}:0").parse::<SocketAddr>().is_ok());
    let suggestion = if host_is_right {
        Some("a port is from 0 to 65535".to_owned())
    } else {
        meant_listen(text).map(did_you_mean)
    };
    Err((problem, suggestion))
}

/// `ip:port` or `host:port` of a backend, in its normal form.
pub(super) fn endpoint(text: &str) -> Result<String, Refusal> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 {
            Err((
                format!("{text:?} has port 0; a backend has a port from 1 to 65535"),
                None,
            ))
        } else if address.ip().is_unspecified() {
            Err((
                format!("{text:?} is the unspecified address; nobody can be reached there"),
                Some(did_you_mean(
                    SocketAddr::new(loopback(address.ip()), address.port()).to_string(),
                )),
            ))
        } else {
            Ok(address.to_string())
        };
    }
    match text.rsplit_once(':') {
        Some((host, port)) if is_host_name(host) && is_port(port) => {
            Ok(format!("{}:{port}", host.to_ascii_lowercase()))
        }
        _ => {
            let problem = format!("{text:?} is not a backend's address (ip:port or host:port)");
            Err((problem, meant_endpoint(text)))
        }
    }
}

/// A network in CIDR form, or a single address.
pub(super) fn network(text: &str) -> Result<IpNet, Refusal> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    text.parse::<IpNet>().map_err(|_| {
        let suggestion = match text.split_once('/') {
            Some((ip, bits)) => match ip.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => Some(format!("{bits:?} is not a prefix length from 0 to 32")),
                Ok(IpAddr::V6(_)) => Some(format!("{bits:?} is not a prefix length from 0 to 128")),
                Err(_) => None,
            },
            None => None,
        };
        let example = || "write it like \"10.0.0.0/8\" or \"fd00::/8\"".to_owned();
        (
            format!("{text:?} is not a network"),
            Some(suggestion.unwrap_or_else(example)),
        )
    })
}

/// Longest host name (RFC 1035 section 2.3.4), in bytes.
const HOST_BYTES_MAX: usize = 253;
/// Longest label of a host name (RFC 1035 section 2.3.4), in bytes.
const LABEL_BYTES_MAX: usize = 63;

fn did_you_mean(text: String) -> String {
    format!("did you mean \"{text}\"?")
}

fn loopback(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(_) => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
    }
}

/// What a wrong listening address probably means: `:80`, `*:80`, `80`, `localhost:80`, `::1:80`.
fn meant_listen(text: &str) -> Option<String> {
    if is_port(text) {
        return Some(format!("0.0.0.0:{text}"));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, EXAMPLE_PORT).to_string());
    }
    let (host, port) = text.rsplit_once(':')?;
    if !is_port(port) {
        return None;
    }
    match host {
        "" | "*" => Some(format!("0.0.0.0:{port}")),
        "localhost" => Some(format!("127.0.0.1:{port}")),
        _ => None,
    }
}

/// A port to show in a suggestion when none was written.
const EXAMPLE_PORT: u16 = 7000;

fn meant_endpoint(text: &str) -> Option<String> {
    if let Some((_, rest)) = text.split_once("://") {
        let meant = rest.split('/').next().unwrap_or_default();
        return Some(match endpoint(meant) {
            Ok(label) => format!("without a scheme: \"{label}\""),
            Err(_) => "without a scheme, with a port".to_owned(),
        });
    }
    if text.parse::<IpAddr>().is_ok() || is_host_name(text) {
        return Some("the port is missing".to_owned());
    }
    let (host, port) = text.rsplit_once(':')?;
    if is_host_name(host) && !port.is_empty() && port.chars().all(|c| c.is_ascii_digit()) {
        return Some("a port is from 1 to 65535".to_owned());
    }
    None
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// The form of a host name (RFC 1123 section 2.1); `_` is let through because people use it.
fn is_host_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let all_digits = text
        .split('.')
        .all(|label| label.bytes().all(|b| b.is_ascii_digit()));
    !all_digits
        && text.len() <= HOST_BYTES_MAX
        && text.split('.').all(|label| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

#[cfg(test)]
mod tests {
    use super::{endpoint, listen, network};

    #[test]
    fn a_listening_address_is_ip_and_port() {
        assert!(listen("0.0.0.0:7000").is_ok());
        assert!(listen("[::1]:0").is_ok());
        for (text, meant) in [
            (":7000", Some("0.0.0.0:7000")),
            ("*:7000", Some("0.0.0.0:7000")),
            ("7000", Some("0.0.0.0:7000")),
            ("localhost:80", Some("127.0.0.1:80")),
            ("127.0.0.1", Some("127.0.0.1:7000")),
            ("example.org:80", None),
            ("", None),
        ] {
            let (_, suggestion) = listen(text).expect_err(text);
            let meant = meant.map(|meant| format!("did you mean \"{meant}\"?"));
            assert_eq!(suggestion, meant, "{text}");
        }
    }

    #[test]
    fn a_backend_is_ip_or_name_with_a_port() {
        for (text, label) in [
            ("127.0.0.1:9001", "127.0.0.1:9001"),
            ("[::1]:80", "[::1]:80"),
            ("App.Internal:80", "app.internal:80"),
            ("a:80", "a:80"),
        ] {
            assert_eq!(endpoint(text).as_deref(), Ok(label), "{text}");
        }
        for (text, hint) in [
            ("http://app:80/x", "without a scheme: \"app:80\""),
            ("app", "the port is missing"),
            ("10.0.0.1", "the port is missing"),
            ("app:70000", "a port is from 1 to 65535"),
            ("0.0.0.0:80", "did you mean \"127.0.0.1:80\"?"),
        ] {
            let (_, suggestion) = endpoint(text).expect_err(text);
            assert_eq!(suggestion.as_deref(), Some(hint), "{text}");
        }
        for text in [
            "",
            ":80",
            "-a:80",
            "a..b:80",
            "127.0.0.1:0",
            "999.1.1.1:80",
            "a b:80",
        ] {
            assert!(endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_network_is_in_cidr_form_or_one_address() {
        for text in ["10.0.0.0/8", "fd00::/8", "127.0.0.1", "::1"] {
            assert!(network(text).is_ok(), "{text}");
        }
        for text in ["10.0.0.0/33", "10.0.0/8", "everyone", "", "::/129"] {
            assert!(network(text).is_err(), "{text}");
        }
    }
}
