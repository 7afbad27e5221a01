//! The listeners this host owns for one service.
//!
//! Holds  what is here is also in the service manager's descriptor store, under `name.member`; a listener
//!        leaves both at once, and only when nobody may need it any more.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use control::ListenerStatus;
use handoff::activation::member_name;
use handoff::notify::Notifier;
use handoff::{ListenerName, Listeners, Share};

use crate::plan::Held;
use crate::settings::ListenerSetting;

/// Backlog of a listener that the supervisor binds (the kernel caps it at net.core.somaxconn).
const BACKLOG: i32 = 4096;

/// Owns listeners.
#[derive(Debug)]
pub(crate) struct Holder {
    listeners: Listeners,
    notifier: Notifier,
}

impl Holder {
    pub(crate) fn new(notifier: Notifier) -> Self {
        Self {
            listeners: Listeners::new(),
            notifier,
        }
    }

    /// Takes over listeners; groups of the same name are replaced.
    pub(crate) fn take_over(&mut self, listeners: Listeners) {
        for (name, members) in listeners {
            self.close(&name);
            for (index, member) in members.iter().enumerate() {
                self.notifier
                    .store(&member_name(&name, index), member.as_fd());
            }
            self.listeners.insert(name, members);
        }
    }

    /// Goes on with what a predecessor in this process held: the service manager's store has it already.
    pub(crate) fn go_on_with(&mut self, listeners: Listeners) {
        self.listeners.absorb(listeners);
    }

    /// Every socket with its listener's name, in the order of each group.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = (&ListenerName, BorrowedFd<'_>)> {
        let groups = self.listeners.iter();
        groups.flat_map(|(name, members)| members.iter().map(move |socket| (name, socket.as_fd())))
    }

    /// The sockets on which whoever has this share accepts.
    pub(crate) fn part(&self, share: Share) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.listeners
            .iter()
            .flat_map(move |(_, members)| {
                let places = share.places(members.len());
                members.get(places).unwrap_or_default().iter()
            })
            .map(|socket| socket.as_fd())
    }

    /// Takes over only those that are not held yet (what a returning worker brings back).
    pub(crate) fn take_over_missing(&mut self, listeners: Listeners) {
        for (name, members) in listeners {
            if self.listeners.get(&name).is_none() {
                let mut missing = Listeners::new();
                missing.insert(name, members);
                self.take_over(missing);
            }
        }
    }

    /// Binds what the settings ask for and nobody handed over.
    pub(crate) fn bind_missing(&mut self, wanted: &[ListenerSetting]) -> io::Result<()> {
        for listener in wanted {
            if self.listeners.get(&listener.name).is_some() {
                continue;
            }
            let socket = bind(listener).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!(
                        "listener {} at {}: {error}",
                        listener.name, listener.address
                    ),
                )
            })?;
            let mut bound = Listeners::new();
            bound.insert(listener.name.clone(), vec![socket]);
            self.take_over(bound);
        }
        Ok(())
    }

    /// Closes a listener here and in the descriptor store.
    pub(crate) fn close(&mut self, name: &ListenerName) {
        if let Some(members) = self.listeners.take(name) {
            for index in 0..members.len() {
                self.notifier.unstore(&member_name(name, index));
            }
        }
    }

    /// Duplicates for a worker.
    pub(crate) fn duplicates(&self) -> io::Result<Listeners> {
        self.listeners.try_clone()
    }

    /// The name of each socket, in the order in which they are handed to a level 1 program.
    pub(crate) fn member_names(&self) -> Vec<ListenerName> {
        self.listeners
            .iter()
            .flat_map(|(name, members)| members.iter().map(|_| name.clone()))
            .collect()
    }

    /// What a plan compares with.
    pub(crate) fn held(&self) -> Vec<Held> {
        self.listeners
            .iter()
            .map(|(name, members)| Held {
                name: name.to_string(),
                address: members.first().map(address).unwrap_or_default(),
                sockets: u64::try_from(members.len()).unwrap_or(u64::MAX),
                options: members.first().map(options).unwrap_or_default(),
            })
            .collect()
    }

    /// What `status` shows.
    pub(crate) fn status(&self) -> Vec<ListenerStatus> {
        self.listeners
            .iter()
            .map(|(name, members)| ListenerStatus {
                name: name.to_string(),
                address: members.first().map(address).unwrap_or_default(),
                sockets: members.len(),
            })
            .collect()
    }
}

fn bind(listener: &ListenerSetting) -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
    let family = if listener.address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    // Blocking, as programs that know LISTEN_FDS expect their sockets from systemd.
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &listener.address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Options that both versions' wishes can be compared with; one that the kernel does not tell is left out.
fn options(socket: &OwnedFd) -> Vec<(String, String)> {
    use rustix::net::sockopt;
    let switch = |on: bool| u8::from(on).to_string();
    let told = [
        (
            "SO_REUSEPORT",
            sockopt::socket_reuseport(socket).map(switch),
        ),
        (
            "SO_RCVBUF",
            sockopt::socket_recv_buffer_size(socket).map(|size| size.to_string()),
        ),
        (
            "SO_SNDBUF",
            sockopt::socket_send_buffer_size(socket).map(|size| size.to_string()),
        ),
    ];
    let told = told.into_iter();
    told.filter_map(|(name, value)| Some((name.to_owned(), value.ok()?)))
        .collect()
}

fn address(socket: &OwnedFd) -> String {
    rustix::net::getsockname(socket)
        .ok()
        .and_then(|address| std::net::SocketAddr::try_from(address).ok())
        .map_or_else(|| "?".to_owned(), |address| address.to_string())
}
