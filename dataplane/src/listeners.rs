//! Listening sockets by name: adopted where somebody else bound them, bound where nobody did.
//!
//! ```text
//!   handed over ──identify──▶ groups ─┐
//!   configuration ───────────▶ wanted ┴─claim──▶ in use · fresh (to be offered) · unclaimed
//! ```
//!
//! Room  sockets that are bound; accepting is the data path's work, listening begins there.
//! In    `handoff::Listeners` from a supervisor or a service manager; what the configuration wants.
//! Out   groups whose sockets are shared by `Arc`; remarks for the log.
//! Holds a listener whose address is unchanged keeps its open file descriptions, also under another name;
//!       an address that another program serves is never shared silently.

mod bind;
mod never_block;
mod report;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use handoff::wants::WantedListener;
use handoff::{ListenerName, Listeners};
use socket2::{SockRef, Type};

use crate::admin::{ADMIN_LISTENER, BACKLOG as ADMIN_BACKLOG};

pub use bind::{BindError, bind};
pub use never_block::never_block;
pub use report::log_accepting;

/// The sockets of one listener: members of one SO_REUSEPORT group, in their fixed order.
#[derive(Clone, Debug)]
pub struct Group {
    name: ListenerName,
    address: SocketAddr,
    sockets: Vec<Arc<OwnedFd>>,
}

impl Group {
    /// How the listener is known across processes.
    pub fn name(&self) -> &ListenerName {
        &self.name
    }

    /// Where it is bound; never port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The members.
    pub fn sockets(&self) -> &[Arc<OwnedFd>] {
        &self.sockets
    }

    /// Further descriptors of the same sockets, to be given away.
    ///
    /// # Errors
    /// The descriptor limit.
    pub fn duplicate(&self) -> io::Result<Vec<OwnedFd>> {
        self.sockets
            .iter()
            .map(|socket| socket.try_clone())
            .collect()
    }

    fn identify(name: &ListenerName, sockets: Vec<OwnedFd>) -> Result<Self, AdoptError> {
        let refuse = |why| AdoptError {
            name: name.clone(),
            why,
        };
        let mut address = None;
        for socket in &sockets {
            let own = tcp_address(socket).map_err(refuse)?;
            if *address.get_or_insert(own) != own {
                return Err(refuse(NotAListener::Mixed));
            }
            never_block(socket).map_err(|error| refuse(error.into()))?;
        }
        let sockets = sockets.into_iter().map(Arc::new).collect();
        match address {
            Some(address) => Ok(Self {
                name: name.clone(),
                address,
                sockets,
            }),
            None => Err(refuse(NotAListener::Empty)),
        }
    }

    fn serves(&self, wanted: &Wanted) -> bool {
        self.address == wanted.address
            || (wanted.address.port() == 0 && self.address.ip() == wanted.address.ip())
    }
}

/// Duplicates of several groups, as the handoff carries them.
///
/// # Errors
/// The descriptor limit.
pub fn duplicates<'g>(groups: impl IntoIterator<Item = &'g Group>) -> io::Result<Listeners> {
    let mut listeners = Listeners::new();
    for group in groups {
        listeners.insert(group.name.clone(), group.duplicate()?);
    }
    Ok(listeners)
}

/// What was handed over under a name cannot be that listener.
#[derive(Debug, thiserror::Error)]
#[error("listener {name:?} was handed over but is not used: {why}")]
pub struct AdoptError {
    name: ListenerName,
    why: NotAListener,
}

#[derive(Debug, thiserror::Error)]
enum NotAListener {
    #[error("it has no sockets")]
    Empty,
    #[error("its sockets are bound to different addresses")]
    Mixed,
    #[error("it is not a TCP socket")]
    NotTcp,
    #[error("its socket cannot be read: {0}")]
    Io(#[from] io::Error),
}

fn tcp_address(socket: &OwnedFd) -> Result<SocketAddr, NotAListener> {
    let socket = SockRef::from(socket);
    if socket.r#type()? != Type::STREAM {
        return Err(NotAListener::NotTcp);
    }
    socket.local_addr()?.as_socket().ok_or(NotAListener::NotTcp)
}

/// Turns what was handed over into groups; what cannot be a listener is closed and reported.
pub fn identify(handed_over: Listeners) -> (Vec<Group>, Vec<AdoptError>) {
    let mut groups = Vec::new();
    let mut refused = Vec::new();
    for (name, sockets) in handed_over {
        match Group::identify(&name, sockets) {
            Ok(group) => groups.push(group),
            Err(error) => refused.push(error),
        }
    }
    (groups, refused)
}

/// A listener of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub name: ListenerName,
    /// Port 0: the kernel chooses, or whatever port was handed over.
    pub address: SocketAddr,
    /// Sockets to bind when none was handed over.
    pub members: usize,
}

impl Wanted {
    /// The admin listener at this address.
    pub fn admin(address: SocketAddr) -> Option<Self> {
        Some(Self {
            name: ADMIN_LISTENER.parse().ok()?,
            address,
            members: 1,
        })
    }
}

/// What `check` tells a supervisor of these listeners; `None`: a person asked. `backlog` is that of the
/// service listeners; the admin listener has its own.
pub fn describe(wanted: &[Wanted], backlog: u64) -> Option<String> {
    let listeners = wanted.iter().map(|listener| WantedListener {
        name: listener.name.to_string(),
        address: listener.address.to_string(),
        members: u64::try_from(listener.members.max(1)).unwrap_or(u64::MAX),
        backlog: if listener.name.as_str() == ADMIN_LISTENER {
            ADMIN_BACKLOG.into()
        } else {
            backlog
        },
        options: vec![("SO_REUSEPORT".to_owned(), "1".to_owned())],
    });
    handoff::wants::describe(listeners.collect())
}

/// Every wanted listener with its sockets.
#[derive(Debug, Default)]
pub struct Claimed {
    /// In the order of the configuration.
    pub groups: Vec<Group>,
    /// Names whose sockets nobody else holds under that name yet.
    pub fresh: Vec<ListenerName>,
    /// Names that nobody wants any more.
    pub unclaimed: Vec<ListenerName>,
    /// What a person should know.
    pub remarks: Vec<String>,
}

/// Gives every wanted listener its sockets: from `available` by name and address, else by address
/// (it has another name now), else newly bound.
///
/// # Errors
/// [`BindError`]; nothing that was bound for this call stays open.
pub fn claim(wanted: &[Wanted], available: Vec<Group>) -> Result<Claimed, BindError> {
    let mut claimed = Claimed::default();
    let mut pool: Vec<Option<Group>> = available.into_iter().map(Some).collect();
    let held: Vec<SocketAddr> = pool.iter().flatten().map(Group::address).collect();
    let mut names: Vec<ListenerName> = pool
        .iter()
        .flatten()
        .map(|group| group.name.clone())
        .collect();
    names.retain(|name| wanted.iter().all(|listener| listener.name != *name));
    claimed.unclaimed = names;
    let mut found: Vec<Option<Group>> = wanted
        .iter()
        .map(|listener| {
            take(&mut pool, |group| {
                group.name == listener.name && group.serves(listener)
            })
        })
        .collect();
    for (listener, slot) in wanted.iter().zip(&mut found) {
        let group = match slot.take() {
            Some(group) => group,
            None => {
                claimed.fresh.push(listener.name.clone());
                obtain(listener, &mut pool, &held, &mut claimed.remarks)?
            }
        };
        claimed.groups.push(group);
    }
    Ok(claimed)
}

/// A group that no listener claims by name: the same address under another name, or a new one.
fn obtain(
    listener: &Wanted,
    pool: &mut [Option<Group>],
    held: &[SocketAddr],
    remarks: &mut Vec<String>,
) -> Result<Group, BindError> {
    if let Some(group) = take(pool, |group| group.address == listener.address) {
        remarks.push(format!(
            "listener {} keeps the sockets of {} ({})",
            listener.name, group.name, group.address
        ));
        return Ok(Group {
            name: listener.name.clone(),
            ..group
        });
    }
    let moved = pool
        .iter()
        .flatten()
        .find(|group| group.name == listener.name);
    if let Some(group) = moved {
        remarks.push(format!(
            "listener {} was handed over on {} but is configured on {}: bound anew",
            listener.name, group.address, listener.address
        ));
    }
    bind(listener, held)
}

fn take(pool: &mut [Option<Group>], wanted: impl Fn(&Group) -> bool) -> Option<Group> {
    pool.iter_mut()
        .find(|slot| slot.as_ref().is_some_and(&wanted))
        .and_then(Option::take)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::{AsRawFd as _, OwnedFd};

    use handoff::{ListenerName, Listeners};

    use super::{Claimed, Wanted, claim, duplicates, identify};

    fn name(text: &str) -> ListenerName {
        text.parse().expect("a valid name")
    }

    fn wanted(text: &str, address: &str) -> Wanted {
        Wanted {
            name: name(text),
            address: address.parse().expect("an address"),
            members: 4,
        }
    }

    fn numbers(claimed: &Claimed) -> Vec<i32> {
        let sockets = claimed.groups.iter().flat_map(super::Group::sockets);
        sockets.map(|socket| socket.as_raw_fd()).collect()
    }

    #[test]
    fn what_nobody_hands_over_is_bound_once_and_fresh() {
        let claimed = claim(&[wanted("web", "127.0.0.1:0")], Vec::new()).expect("binds");
        let group = &claimed.groups[0];
        assert_eq!(group.sockets().len(), 4);
        assert_ne!(group.address().port(), 0);
        assert_eq!(claimed.fresh, [name("web")]);
        let handed = duplicates(&claimed.groups).expect("duplicates");
        assert_eq!(handed.socket_count(), 4);
    }

    #[test]
    fn an_adopted_listener_keeps_its_sockets_and_its_number_of_members() {
        let first = claim(&[wanted("web", "127.0.0.1:0")], Vec::new()).expect("binds");
        let address = first.groups[0].address();
        let (groups, refused) = identify(duplicates(&first.groups).expect("duplicates"));
        assert!(refused.is_empty());
        let mut listener = wanted("web", &address.to_string());
        listener.members = 16;
        let second = claim(&[listener], groups).expect("adopts");
        assert_eq!(second.groups[0].sockets().len(), 4);
        assert!(
            second.fresh.is_empty() && second.unclaimed.is_empty() && second.remarks.is_empty()
        );
    }

    #[test]
    fn a_renamed_listener_keeps_its_sockets_and_the_old_name_is_unclaimed() {
        let first = claim(&[wanted("web", "127.0.0.1:0")], Vec::new()).expect("binds");
        let address = first.groups[0].address().to_string();
        let second = claim(&[wanted("www", &address)], first.groups.clone()).expect("renames");
        assert_eq!(numbers(&first), numbers(&second));
        assert_eq!(second.fresh, [name("www")]);
        assert_eq!(second.unclaimed, [name("web")]);
        assert_eq!(second.remarks.len(), 1);
    }

    #[test]
    fn a_moved_listener_is_bound_anew_and_said_so() {
        let first = claim(&[wanted("web", "127.0.0.1:0")], Vec::new()).expect("binds");
        let second = claim(&[wanted("web", "127.0.0.2:0")], first.groups.clone()).expect("binds");
        assert_eq!(second.fresh, [name("web")]);
        assert!(second.unclaimed.is_empty());
        assert!(
            second.remarks[0].contains("bound anew"),
            "{:?}",
            second.remarks
        );
    }

    #[test]
    fn an_address_that_another_program_serves_is_not_shared() {
        let other = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = other.local_addr().expect("has an address").to_string();
        let refused = claim(&[wanted("web", &address)], Vec::new()).expect_err("is in use");
        let port = address.rsplit(':').next().unwrap_or_default();
        assert_eq!(
            refused.to_string(),
            format!("{address} is in use; see `ss -ltnp 'sport = :{port}'`")
        );
    }

    #[test]
    fn what_is_no_tcp_socket_is_refused_with_its_name() {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let mut handed = Listeners::new();
        handed.insert(name("dns"), vec![OwnedFd::from(udp)]);
        handed.insert(name("none"), Vec::new());
        let (groups, refused) = identify(handed);
        assert!(groups.is_empty());
        let texts: Vec<String> = refused.iter().map(ToString::to_string).collect();
        assert!(texts[0].contains("not a TCP socket"), "{texts:?}");
        assert!(texts[1].contains("no sockets"), "{texts:?}");
    }
}
