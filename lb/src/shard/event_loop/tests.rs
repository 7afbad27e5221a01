//! A shard without its thread, round by round.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::upstream::{BackendSpec, Upstream, UpstreamSettings};

use super::Shard;
use crate::shard::mailbox::{self, Placed, Watched};
use crate::shard::poll::{Readiness, Slot};
use crate::shard::service::Service;
use crate::shard::{ListenerSettings, Timeouts};
use crate::totals::{Counters, End, Totals};

struct Stand {
    shard: Shard,
    counters: Arc<Counters>,
    listener: TcpListener,
    backend: TcpListener,
    _mailbox: mailbox::Mailbox,
}

fn stand() -> Stand {
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let label = backend.local_addr().unwrap().to_string();
    let spec = BackendSpec {
        id: None,
        label,
        weight: 1,
        max_connections: None,
        drain: false,
    };
    let upstream = Upstream::new("app".to_owned(), UpstreamSettings::default(), vec![spec]);
    let settings = ListenerSettings {
        name: "web".to_owned(),
        upstream,
        proxy_protocol_in: false,
        trusted: Vec::new(),
        max_connections: None,
    };
    let counters = Arc::new(Counters::default());
    let (mailbox, inbox) = mailbox::open().unwrap();
    let mut shard = Shard::new(0, 1, Timeouts::default(), inbox, Arc::clone(&counters)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let socket = Arc::new(OwnedFd::from(listener.try_clone().unwrap()));
    let placed = Placed {
        socket,
        place: 0,
        of: 1,
    };
    let watched = Watched {
        sockets: vec![placed],
        shared: false,
    };
    shard
        .gate
        .set(&shard.tools.poller, Service::new(settings, None), watched)
        .unwrap();
    shard
        .gate
        .accept(&shard.tools.poller, handoff::Share::ALL)
        .unwrap();
    Stand {
        shard,
        counters,
        listener,
        backend,
        _mailbox: mailbox,
    }
}

impl Stand {
    /// Connects a client through to the backend; returns both ends and the connection's slot.
    fn connect(&mut self) -> (TcpStream, TcpStream, Slot) {
        let mut client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        client.write_all(b"hello").unwrap();
        let before = self.shard.generation;
        self.rounds_until(|shard| shard.generation != before);
        let (mut backend, _) = self.backend.accept().unwrap();
        let generation = self.shard.generation;
        let (index, _) = self
            .shard
            .connections
            .iter()
            .find(|(_, connection)| connection.generation == generation)
            .unwrap();
        self.rounds_until(|shard| {
            shard
                .connections
                .iter()
                .all(|(_, one)| one.times.connected.is_some())
        });
        // The backend's part of the way is the kernel's: what was sent is there.
        self.rounds_until(|shard| {
            shard
                .connections
                .iter()
                .all(|(_, one)| one.to_backend.bytes > 0)
        });
        backend.read_exact(&mut [0; 5]).unwrap();
        (client, backend, Slot { index, generation })
    }

    fn rounds_until(&mut self, mut condition: impl FnMut(&Shard) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition(&self.shard) {
            assert!(Instant::now() < deadline, "the condition does not come");
            self.shard.round().unwrap();
        }
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::zero();
        self.counters.add_to(&mut totals);
        totals
    }
}

#[test]
fn an_event_or_timer_of_an_earlier_connection_does_not_touch_the_one_in_its_slot() {
    let mut stand = stand();
    let (_first_client, _first_backend, first) = stand.connect();
    stand.shard.end(first, End::InternalError);
    let (mut client, _backend, second) = stand.connect();
    assert_eq!(
        first.index, second.index,
        "the slot was not reused; the test shows nothing"
    );
    assert_ne!(first.generation, second.generation);

    let failed = Readiness {
        readable: true,
        writable: true,
        hung_up: true,
        failed: true,
    };
    for of_client in [true, false] {
        stand.shard.note(first, failed, of_client);
    }
    stand.shard.look_at(first);
    stand.shard.give_turn(first);
    stand.shard.end(first, End::InternalError);
    let nowhere = Slot {
        index: 1_000_000,
        generation: 1,
    };
    stand.shard.note(nowhere, failed, true);
    stand.shard.look_at(nowhere);

    assert_eq!(stand.totals().ended_all(), 1);
    client.write_all(b" again").unwrap();
    stand.rounds_until(|shard| {
        shard
            .connections
            .iter()
            .all(|(_, one)| one.to_backend.bytes == 11)
    });
}

#[test]
fn activity_does_not_touch_the_timer_wheel() {
    let mut stand = stand();
    let (mut client, _backend, slot) = stand.connect();
    let entry = stand.shard.connections[slot.index].times.due_entry;
    assert!(entry.is_some());
    for count in 1..=20_u64 {
        client.write_all(b"x").unwrap();
        stand.rounds_until(|shard| {
            shard
                .connections
                .iter()
                .all(|(_, one)| one.to_backend.bytes == 5 + count)
        });
    }
    assert_eq!(stand.shard.connections[slot.index].times.due_entry, entry);
}

#[test]
fn an_idle_connection_owns_no_buffer_and_no_pipe() {
    let mut stand = stand();
    let (_client, _backend, slot) = stand.connect();
    let connection = &stand.shard.connections[slot.index];
    assert_eq!(
        (connection.to_backend.held(), connection.to_client.held()),
        (0, 0)
    );
    assert!(connection.to_backend.pipe.is_none() && connection.to_client.pipe.is_none());
    assert!(connection.tried.capacity() == 0);
    assert!(
        size_of_val(connection.as_ref()) <= 640,
        "{} bytes",
        size_of_val(connection.as_ref())
    );
}
