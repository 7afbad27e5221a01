//! Where connections come in: the listening sockets of one shard, watched or not.
//!
//! Room  listening sockets and accept4(2), with its limits. What an accepted connection does is `turn`'s matter.
//! In    listeners and the share to accept on from the control thread; readiness from epoll.
//! Out   connections in the shard's table, each with its first step done.
//! Holds a socket is watched only while the shard accepts; it is unwatched before it is let go, so that a
//!       drained process is never woken for its successor's clients. Level-triggered: what one round leaves
//!       in the queue is reported again.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use dataplane::listeners::never_block;
use handoff::Share;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use slab::Slab;

use super::event_loop::{Shard, guarded};
use super::mailbox::{Placed, Watched};
use super::poll::{Poller, SLOTS_MAX, Slot, Token};
use super::service::{Admission, Service};
use super::tools::SHORTAGE_PAUSE;
use super::turn::{self, Outcome};
use crate::connection::{Connection, Stage};
use crate::socket;
use crate::totals::{Counters, End};

/// Connections taken from one listening socket per round. Sized: about a millisecond of work; established
/// connections do not wait longer for a burst of new ones.
const ACCEPTS_PER_ROUND: usize = 64;

/// The listening sockets of one shard.
#[derive(Debug, Default)]
pub(super) struct Gate {
    members: Slab<Member>,
    ready: Vec<Slot>,
    /// `None`: nothing.
    accepting: Option<Share>,
    paused_until: Option<Instant>,
    generation: u32,
}

#[derive(Debug)]
struct Member {
    generation: u32,
    service: Arc<Service>,
    socket: Arc<OwnedFd>,
    place: usize,
    of: usize,
    shared: bool,
    watched: bool,
}

impl Gate {
    /// Adds a listener, or puts new settings and sockets in the place of the known ones.
    pub(super) fn set(
        &mut self,
        poller: &Poller,
        service: Arc<Service>,
        watched: Watched,
    ) -> rustix::io::Result<()> {
        let name = service.settings().name.clone();
        let kept = |socket: &Arc<OwnedFd>| {
            let mut sockets = watched.sockets.iter();
            sockets.any(|other| Arc::ptr_eq(socket, &other.socket))
        };
        self.drop_members(poller, |member| {
            member.is_of(&name) && !kept(&member.socket)
        })?;
        for Placed { socket, place, of } in watched.sockets {
            let known = self
                .members
                .iter_mut()
                .find(|(_, member)| Arc::ptr_eq(&member.socket, &socket));
            if let Some((_, member)) = known {
                member.service = Arc::clone(&service);
                continue;
            }
            self.generation = self.generation.wrapping_add(1);
            let (generation, service) = (self.generation, Arc::clone(&service));
            let shared = watched.shared;
            self.members.insert(Member {
                generation,
                service,
                socket,
                place,
                of,
                shared,
                watched: false,
            });
        }
        self.watch(poller)
    }

    /// Lets go of a listener's sockets.
    pub(super) fn remove(&mut self, poller: &Poller, name: &str) -> rustix::io::Result<()> {
        self.drop_members(poller, |member| member.is_of(name))
    }

    /// Watches the sockets of this share and no others.
    pub(super) fn accept(&mut self, poller: &Poller, share: Share) -> rustix::io::Result<()> {
        self.accepting = (!share.is_none()).then_some(share);
        let others = self.members.iter_mut().map(|(_, member)| member);
        let unwatched = others
            .filter(|member| !share.holds(member.place, member.of))
            .map(|member| member.unwatch(poller))
            .fold(Ok(()), Result::and);
        let watched = self.watch(poller);
        unwatched.and(watched)
    }

    /// The listener of this name.
    pub(super) fn service(&self, name: &str) -> Option<Arc<Service>> {
        let (_, member) = self.members.iter().find(|(_, member)| member.is_of(name))?;
        Some(Arc::clone(&member.service))
    }

    /// Stops accepting for good and lets go of every socket.
    pub(super) fn close(&mut self, poller: &Poller) {
        self.accepting = None;
        if let Err(error) = self.drop_members(poller, |_| true) {
            tracing::error!(%error, "a listening socket could not be taken out of epoll");
        }
    }

    /// Stops accepting for a moment, because this host is short of something.
    pub(super) fn pause(&mut self, poller: &Poller, now: Instant, counters: &Counters) {
        if self.paused_until.is_none() && self.accepting.is_some() {
            counters.accept_pauses.add(1);
            tracing::warn!(
                "out of descriptors or memory: accepting pauses for a moment; raise LimitNOFILE"
            );
        }
        self.paused_until = Some(now + SHORTAGE_PAUSE);
        if let Err(error) = self.unwatch(poller) {
            tracing::error!(%error, "a listening socket could not be taken out of epoll");
        }
    }

    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Accepts again when the pause is over.
    pub(super) fn resume_if_due(&mut self, poller: &Poller, now: Instant) {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
            if self.watch(poller).is_err() {
                // Registering needs kernel memory: the shortage is not over.
                self.paused_until = Some(now + SHORTAGE_PAUSE);
            }
        }
    }

    /// Notes that clients wait.
    pub(super) fn note_ready(&mut self, slot: Slot) {
        self.ready.push(slot);
    }

    fn find(&self, slot: Slot) -> Option<&Member> {
        self.members
            .get(slot.index)
            .filter(|member| member.watched && member.generation == slot.generation)
    }

    fn watch(&mut self, poller: &Poller) -> rustix::io::Result<()> {
        let Some(share) = self.accepting.filter(|_| self.paused_until.is_none()) else {
            return Ok(());
        };
        for (index, member) in &mut self.members {
            if !member.watched && share.holds(member.place, member.of) {
                let slot = Slot {
                    index,
                    generation: member.generation,
                };
                poller.watch_listener(&member.socket, Token::Listener(slot), member.shared)?;
                member.watched = true;
            }
        }
        Ok(())
    }

    fn unwatch(&mut self, poller: &Poller) -> rustix::io::Result<()> {
        self.members
            .iter_mut()
            .map(|(_, member)| member.unwatch(poller))
            .fold(Ok(()), Result::and)
    }

    fn drop_members(
        &mut self,
        poller: &Poller,
        condition: impl Fn(&Member) -> bool,
    ) -> rustix::io::Result<()> {
        let mut result = Ok(());
        self.members.retain(|_, member| {
            let drop = condition(member);
            if drop {
                let unwatched = member.unwatch(poller);
                result = result.and(unwatched);
            }
            !drop
        });
        result
    }
}

impl Member {
    fn is_of(&self, name: &str) -> bool {
        self.service.settings().name == name
    }

    fn unwatch(&mut self, poller: &Poller) -> rustix::io::Result<()> {
        if !std::mem::take(&mut self.watched) {
            return Ok(());
        }
        poller.forget(&self.socket)
    }
}

impl Shard {
    /// Accepts from the sockets that are ready, a bounded number from each.
    pub(super) fn accept_ready(&mut self) {
        for slot in std::mem::take(&mut self.gate.ready) {
            if let Some(member) = self.gate.find(slot) {
                // An error comes again with the accept.
                let _ = never_block(&member.socket);
            }
            for _ in 0..ACCEPTS_PER_ROUND {
                if !self.accept_one(slot) {
                    break;
                }
            }
        }
    }

    /// `false`: nothing more to accept from this socket now.
    fn accept_one(&mut self, slot: Slot) -> bool {
        let Some(Member {
            socket, service, ..
        }) = self.gate.find(slot)
        else {
            return false;
        };
        let counters = &self.tools.bench.counters;
        match acceptfrom_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok((client, peer)) => {
                counters.accepted.add(1);
                let peer = peer.and_then(|address| SocketAddr::try_from(address).ok());
                let service = Arc::clone(service);
                self.admit(&service, client, peer);
                true
            }
            Err(Errno::AGAIN) => false,
            Err(errno) if is_clients_own(errno) => {
                counters.accept_errors.add(1);
                true
            }
            // A shortage, or something unheard of: level-triggered, it would be reported again at once.
            Err(_) => {
                self.gate
                    .pause(&self.tools.poller, self.tools.now, counters);
                false
            }
        }
    }

    fn admit(&mut self, service: &Arc<Service>, client: OwnedFd, peer: Option<SocketAddr>) {
        // An IPv4 client of an IPv6 socket is an IPv4 client: for trust, hashing and PROXY headers.
        let peer = peer.map(|peer| SocketAddr::new(peer.ip().to_canonical(), peer.port()));
        let refused = match peer {
            // Gone before it was accepted.
            None => Err(End::ClientReset),
            Some(peer) if service.settings().proxy_protocol_in && !service.trusts(peer.ip()) => {
                Err(End::UntrustedPeer)
            }
            Some(peer) => service
                .admit()
                .map(|admission| (admission, peer))
                .ok_or(End::Limit),
        };
        match refused {
            Ok((admission, peer)) if self.connections.len() < SLOTS_MAX => {
                self.begin(admission, client, peer);
            }
            refused => {
                socket::reset_on_close(&client);
                self.tools
                    .bench
                    .counters
                    .end(refused.err().unwrap_or(End::HostExhausted));
            }
        }
    }

    /// A connection that somebody else has made, in the place of one accepted on the listener `name`: whoever hands
    /// it in answers for its peer.
    pub(super) fn serve(&mut self, name: &str, client: OwnedFd) -> rustix::io::Result<()> {
        let service = self.gate.service(name).ok_or(Errno::NOENT)?;
        let peer = rustix::net::getpeername(&client)?.ok_or(Errno::NOTCONN)?;
        let peer = SocketAddr::try_from(peer).map_err(|_| Errno::AFNOSUPPORT)?;
        rustix::io::ioctl_fionbio(&client, true)?;
        let admission = service.admit().ok_or(Errno::BUSY)?;
        if self.connections.len() >= SLOTS_MAX {
            return Err(Errno::BUSY);
        }
        self.tools.bench.counters.accepted.add(1);
        self.begin(admission, client, peer);
        Ok(())
    }

    fn begin(&mut self, admission: Admission, client: OwnedFd, peer: SocketAddr) {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let connection = Connection::new(generation, admission, client, peer, self.tools.now);
        let entry = self.connections.vacant_entry();
        let slot = Slot {
            index: entry.key(),
            generation,
        };
        let connection = entry.insert(Box::new(connection));
        let watched = self
            .tools
            .poller
            .watch_connection(&connection.client.socket, Token::Client(slot));
        let outcome = match (watched, connection.stage) {
            (Err(_), _) => Outcome::End(End::HostExhausted),
            (Ok(()), Stage::Header) => Outcome::Wait,
            (Ok(()), _) => guarded(|| turn::seek_backend(connection, slot, &mut self.tools)),
        };
        self.settle(slot, outcome);
    }
}

/// Errors of accept(2) that belong to the connection that was to be accepted: the next one may be fine.
fn is_clients_own(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::INTR
            | Errno::CONNABORTED
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NONET
            | Errno::OPNOTSUPP
            | Errno::PERM
    )
}
