//! Listeners handed over by a service manager: `LISTEN_FDS`, `LISTEN_FDNAMES`, `LISTEN_PID`.
//!
//! Source: sd_listen_fds(3), systemd.socket(5). The crate `listenfd` turns numbers into owners.
//! Holds: must run before the process has a second thread (it takes the variables out of the environment).

use std::os::fd::OwnedFd;

use listenfd::ListenFd;

use crate::listeners::{ListenerName, Listeners};

/// Name of a socket for which the unit gave none (sd_listen_fds_with_names(3)).
const UNNAMED: &str = "unknown";

/// What a service manager handed over.
#[derive(Debug, Default)]
pub struct Activated {
    pub listeners: Listeners,
    /// Descriptors that are not TCP sockets or have no usable name: what they are, to be reported.
    pub refused: Vec<String>,
}

/// Takes over the sockets that the environment announces for this process.
///
/// `web` (several sockets may share the name) and `web.3` (a member of a group by number, as the
/// descriptor store returns them) both belong to the listener `web`.
pub fn from_environment() -> Activated {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut manager = ListenFd::from_env();
    let names: Vec<&str> = names.split(':').collect();
    let mut activated = Activated::default();
    let mut found = Vec::new();
    for index in 0..manager.len() {
        let given = names.get(index).copied().filter(|name| !name.is_empty());
        match (parse_name(given.unwrap_or(UNNAMED)), manager.take_tcp_listener(index)) {
            (Some((name, member)), Ok(Some(socket))) => {
                found.push((name, member, OwnedFd::from(socket)));
            }
            (_, Err(error)) => activated
                .refused
                .push(format!("descriptor {}: {error}", index + 3)),
            (None, _) | (_, Ok(None)) => activated.refused.push(format!(
                "descriptor {}: {:?} cannot name a listener (FileDescriptorName= of the socket unit)",
                index + 3,
                given.unwrap_or_default()
            )),
        }
    }
    // Members by number first, the order of arrival among those without one.
    found.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    for (name, _, socket) in found {
        activated.listeners.push(name, socket);
    }
    activated
}

/// The name of one member in the service manager's descriptor store.
pub fn member_name(name: &ListenerName, member: usize) -> String {
    format!("{name}.{member}")
}

fn parse_name(text: &str) -> Option<(ListenerName, usize)> {
    match text.rsplit_once('.') {
        Some((name, member)) => Some((name.parse().ok()?, member.parse().ok()?)),
        None => Some((text.parse().ok()?, usize::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::{member_name, parse_name};

    #[test]
    fn a_stored_member_comes_back_under_its_listener() {
        let name: crate::ListenerName = "web".parse().expect("valid");
        assert_eq!(
            parse_name(&member_name(&name, 12)),
            Some((name.clone(), 12))
        );
        assert_eq!(parse_name("web"), Some((name, usize::MAX)));
        for bad in ["", "Web", "web.x", ".1", "web.1.2"] {
            assert_eq!(parse_name(bad), None, "{bad}");
        }
    }
}
