//! Connections that move between two pools as between two processes: every state that a connection can be in.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use dataplane::upstream::{Upstream, UpstreamSettings};
use handoff::passage::{Arrived, Fate};
use lb::moving::{ArrivedConnection, FrozenConnection};
use lb::shard::{ShardPool, Timeouts};
use lb::totals::End;
use serde_json::Value;
use serde_json::value::to_raw_value;
use socket2::SockRef;

use crate::harness::{
    PATIENCE, Plan, Rig, assert_echoes, bind_group, echo_origin, is_reset, origin, read_pattern,
    until, upstream, write_pattern,
};

/// More than one batch of a passage.
pub(crate) const ROOM: usize = 252;

/// Two pools in front of one origin; clients come to the first.
pub(crate) struct Two {
    pub(crate) rig: Rig,
    pub(crate) other: ShardPool,
    /// The other process's own view of the backends.
    pub(crate) others_upstream: Arc<Upstream>,
}

impl Two {
    pub(crate) fn before(origin: SocketAddr, plan: &Plan) -> Self {
        let settings = UpstreamSettings::default;
        let rig = Rig::start(plan, upstream(&[origin], settings()));
        let other = ShardPool::start(plan.shards, plan.timeouts).unwrap();
        let others_upstream = upstream(&[origin], settings());
        let (sockets, _) = bind_group(plan.members);
        other
            .set_listener(plan.listener(&others_upstream), sockets)
            .unwrap();
        Self {
            rig,
            other,
            others_upstream,
        }
    }

    fn forth(&self) -> usize {
        move_all(&self.rig.pool, &self.other, &self.others_upstream)
    }

    fn back(&self) -> usize {
        move_all(&self.other, &self.rig.pool, &self.rig.upstream)
    }

    /// Nothing was left behind in either of them.
    pub(crate) fn until_empty(&self) {
        self.rig.until_empty();
        until("the other holds nothing", || {
            self.other.totals().active == 0
        });
        let totals = self.other.totals();
        assert_eq!((totals.bytes_pending, totals.pipes_lent), (0, 0));
        assert_eq!(self.others_upstream.backends()[0].active(), 0);
    }
}

/// What arrives of a connection, as it can be tampered with.
pub(crate) struct What {
    pub(crate) record: Value,
    pub(crate) descriptors: Vec<OwnedFd>,
    pub(crate) held: Vec<u8>,
}

pub(crate) fn arrived(frozen: &FrozenConnection) -> What {
    let item = frozen.item();
    let duplicate = |one: &std::os::fd::BorrowedFd<'_>| one.try_clone_to_owned().unwrap();
    What {
        record: serde_json::from_str(item.record.get()).unwrap(),
        descriptors: item.descriptors.iter().map(duplicate).collect(),
        held: item.held,
    }
}

pub(crate) fn prepare(
    to: &ShardPool,
    upstream: &Arc<Upstream>,
    what: What,
) -> Result<ArrivedConnection, String> {
    let arrived = Arrived {
        record: to_raw_value(&what.record).unwrap(),
        descriptors: what.descriptors,
        held: what.held,
    };
    to.prepare(arrived, |name| {
        (name == upstream.name()).then(|| Arc::clone(upstream))
    })
}

/// Everything that can move now; how many did.
pub(crate) fn move_all(from: &ShardPool, to: &ShardPool, upstream: &Arc<Upstream>) -> usize {
    let mut moved = 0;
    loop {
        let batch = from.freeze_some(ROOM).connections;
        if batch.is_empty() {
            return moved;
        }
        moved += batch.len();
        let prepared = batch
            .iter()
            .map(|one| prepare(to, upstream, arrived(one)).unwrap());
        let prepared: Vec<_> = prepared.collect();
        // As a giver does it: the taker serves first, then the copies here are closed.
        to.adopt_arrived(prepared);
        from.settle_fates(batch.into_iter().map(|one| (one, Fate::Taken)).collect());
    }
}

fn until_connected(two: &Two, count: u64) {
    until("the connections are there", || {
        two.rig.totals().active == count && two.forth_would(count)
    });
}

impl Two {
    /// All of them relay: a frozen and thawed batch has them all.
    fn forth_would(&self, count: u64) -> bool {
        let batch = self.rig.pool.freeze_some(usize::MAX).connections;
        let all = batch.len() as u64 == count;
        self.rig.pool.settle_fates(
            batch
                .into_iter()
                .map(|one| (one, Fate::Unanswered))
                .collect(),
        );
        all
    }
}

#[test]
fn bulk_at_full_speed_moves_fifty_times_in_mid_stream() {
    const SIZE: usize = 96 << 20;
    let (tell, told) = channel();
    let two = Two::before(
        origin(move |mut socket| {
            let mut writer = socket.try_clone().unwrap();
            let writing = thread::spawn(move || {
                write_pattern(&mut writer, 2, SIZE);
                writer.shutdown(Shutdown::Write).unwrap();
            });
            tell.send(read_pattern(&mut socket, 1)).unwrap();
            writing.join().unwrap();
        }),
        &Plan::default(),
    );
    let mut client = two.rig.client();
    let mut writer = client.try_clone().unwrap();
    let writing = thread::spawn(move || {
        write_pattern(&mut writer, 1, SIZE);
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let reading = thread::spawn(move || read_pattern(&mut client, 2));
    let spliced = || two.rig.totals().bytes_spliced + two.other.totals().bytes_spliced;
    let carried = || two.rig.totals().bytes() + two.other.totals().bytes();
    for round in 0..50 {
        // Each move meets other bytes on their way.
        let before = carried();
        until("bytes flow", || carried() > before + (1 << 20));
        let moved = if round % 2 == 0 {
            two.forth()
        } else {
            two.back()
        };
        assert_eq!(moved, 1, "round {round}");
    }
    assert!(
        spliced() > 1 << 20,
        "nothing was spliced; the test shows nothing"
    );
    assert_eq!(reading.join().unwrap(), SIZE);
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), SIZE);
    writing.join().unwrap();
    two.until_empty();
    assert_eq!(
        two.rig.totals().ended(End::Finished) + two.other.totals().ended(End::Finished),
        1
    );
}

#[test]
fn a_reader_that_is_blocked_gets_what_was_held_for_it_in_order() {
    const SIZE: usize = 24 << 20;
    let two = Two::before(
        origin(|mut socket| {
            write_pattern(&mut socket, 7, SIZE);
            socket.shutdown(Shutdown::Write).unwrap();
            let _ = socket.read(&mut [0; 1]);
        }),
        &Plan::default(),
    );
    let mut client = two.rig.client();
    // All buffers on the way are full.
    let totals = || two.rig.totals();
    until("bytes are held", || totals().bytes_pending > 0);
    let mut last = 0;
    until("nothing moves any more", || {
        thread::sleep(Duration::from_millis(20));
        std::mem::replace(&mut last, totals().bytes()) == totals().bytes()
    });
    let held = totals().bytes_pending;
    assert_eq!(two.forth(), 1);
    assert_eq!(totals().bytes_pending, 0, "nothing is left here");
    assert_eq!(
        (two.other.totals().bytes_pending, two.other.totals().active),
        (held, 1)
    );
    assert_eq!(two.back(), 1);
    assert_eq!(two.forth(), 1);
    assert_eq!(read_pattern(&mut client, 7), SIZE);
    drop(client);
    two.until_empty();
}

#[test]
fn what_nobody_has_read_yet_and_an_end_of_file_that_waits_behind_it_arrive() {
    let (tell, told) = channel();
    let two = Two::before(
        origin(move |mut socket| tell.send(read_pattern(&mut socket, 3)).unwrap()),
        &Plan::default(),
    );
    let mut client = two.rig.client();
    until_connected(&two, 1);
    let frozen = two.rig.pool.freeze_some(ROOM).connections;
    // Nobody reads the connection now.
    write_pattern(&mut client, 3, 50_000);
    client.shutdown(Shutdown::Write).unwrap();
    let prepared = prepare(&two.other, &two.others_upstream, arrived(&frozen[0])).unwrap();
    two.other.adopt_arrived(vec![prepared]);
    two.rig
        .pool
        .settle_fates(frozen.into_iter().map(|one| (one, Fate::Taken)).collect());
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), 50_000);
    assert_eq!(read_pattern(&mut client, 9), 0);
    two.until_empty();
}

#[test]
fn a_connection_that_is_half_closed_in_either_direction_stays_so() {
    for by_client in [true, false] {
        let (tell, told) = channel();
        let two = Two::before(
            origin(move |mut socket| {
                if by_client {
                    assert_eq!(read_pattern(&mut socket, 1), 100);
                    tell.send(0).unwrap();
                    // Asked for in the other process.
                    write_pattern(&mut socket, 2, 4_000_000);
                } else {
                    write_pattern(&mut socket, 2, 100);
                    socket.shutdown(Shutdown::Write).unwrap();
                    tell.send(read_pattern(&mut socket, 1)).unwrap();
                }
            }),
            &Plan::default(),
        );
        let mut client = two.rig.client();
        if by_client {
            write_pattern(&mut client, 1, 100);
            client.shutdown(Shutdown::Write).unwrap();
        } else {
            assert_eq!(read_pattern(&mut client, 2), 100);
        }
        until_connected(&two, 1);
        assert_eq!(
            (two.forth(), two.back(), two.forth()),
            (1, 1, 1),
            "by client: {by_client}"
        );
        if by_client {
            assert_eq!(told.recv_timeout(PATIENCE).unwrap(), 0);
            assert_eq!(read_pattern(&mut client, 2), 4_000_000);
        } else {
            write_pattern(&mut client, 1, 4_000_000);
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(told.recv_timeout(PATIENCE).unwrap(), 4_000_000);
        }
        two.until_empty();
    }
}

/// What happens while nobody serves the connection is seen by whoever serves it next.
#[test]
fn both_sides_may_end_or_break_while_the_connection_is_frozen() {
    type Deed = fn(TcpStream);
    let reset: Deed = |socket| {
        SockRef::from(&socket)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(socket);
    };
    let end: Deed = |socket| drop(socket);
    for (taken, client_does, expected) in [
        (true, end, End::Finished),
        (true, reset, End::ClientReset),
        (false, end, End::Finished),
        (false, reset, End::ClientReset),
    ] {
        let (tell, told) = channel();
        let two = Two::before(
            origin(move |mut socket| {
                let mut byte = [0; 1];
                tell.send(socket.read(&mut byte).map_err(|error| error.kind()))
                    .unwrap();
            }),
            &Plan::default(),
        );
        let client = two.rig.client();
        until_connected(&two, 1);
        let frozen = two.rig.pool.freeze_some(ROOM).connections;
        client_does(client);
        let fate = if taken {
            let prepared = prepare(&two.other, &two.others_upstream, arrived(&frozen[0])).unwrap();
            two.other.adopt_arrived(vec![prepared]);
            Fate::Taken
        } else {
            Fate::Unanswered
        };
        two.rig
            .pool
            .settle_fates(frozen.into_iter().map(|one| (one, fate.clone())).collect());
        let heard = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(
            heard.is_ok(),
            expected == End::Finished,
            "{taken} {expected:?}: {heard:?}"
        );
        two.until_empty();
        let ended = two.rig.totals().ended(expected) + two.other.totals().ended(expected);
        assert_eq!(ended, 1, "{taken} {expected:?}");
    }
}

#[test]
fn timers_go_on_with_the_time_that_is_left() {
    let plan = Plan {
        timeouts: Timeouts {
            idle: Duration::from_millis(1500),
            ..Timeouts::default()
        },
        ..Plan::default()
    };
    let two = Two::before(echo_origin(), &plan);
    let mut client = two.rig.client();
    assert_echoes(&mut client);
    let quiet_since = Instant::now();
    until("most of the time is over", || {
        quiet_since.elapsed() > Duration::from_millis(1000)
    });
    assert_eq!((two.forth(), two.back(), two.forth()), (1, 1, 1));
    assert!(is_reset(&mut client));
    let cut_after = quiet_since.elapsed();
    assert!(
        cut_after >= Duration::from_millis(1400) && cut_after < Duration::from_millis(2300),
        "cut after {cut_after:?}: the time began anew"
    );
    until("it is counted there", || {
        two.other.totals().ended(End::IdleTimeout) == 1
    });
    two.until_empty();
}

#[test]
fn limits_and_counts_hold_in_both_and_a_connection_that_is_there_is_not_refused() {
    let plan = Plan {
        max_connections: Some(3),
        shards: 2,
        ..Plan::default()
    };
    let two = Two::before(echo_origin(), &plan);
    let mut clients: Vec<_> = (0..3).map(|_| two.rig.client()).collect();
    clients.iter_mut().for_each(assert_echoes);
    assert!(is_reset(&mut two.rig.client()), "the limit is reached");
    assert_eq!(two.forth(), 3);
    // Room again here, and three there.
    let mut more: Vec<_> = (0..3).map(|_| two.rig.client()).collect();
    more.iter_mut().for_each(assert_echoes);
    assert_eq!((two.rig.totals().active, two.other.totals().active), (3, 3));
    assert_eq!(two.rig.upstream.backends()[0].active(), 3);
    assert_eq!(two.others_upstream.backends()[0].active(), 3);
    // Beyond the limit there, and served all the same.
    assert_eq!(two.forth(), 3);
    assert_eq!((two.rig.totals().active, two.other.totals().active), (0, 6));
    clients.iter_mut().chain(&mut more).for_each(assert_echoes);
    assert_eq!(
        (
            two.rig.totals().ended(End::Moved),
            two.other.totals().adopted
        ),
        (6, 6)
    );
    drop((clients, more));
    two.until_empty();
}

#[test]
fn a_refused_connection_is_served_on_and_not_offered_again() {
    let two = Two::before(echo_origin(), &Plan::default());
    let mut client = two.rig.client();
    assert_echoes(&mut client);
    let frozen = two.rig.pool.freeze_some(ROOM).connections;
    assert_eq!(frozen.len(), 1);
    let no = Fate::Refused("not here".to_owned());
    two.rig
        .pool
        .settle_fates(frozen.into_iter().map(|one| (one, no.clone())).collect());
    assert_echoes(&mut client);
    assert!(two.rig.pool.freeze_some(ROOM).connections.is_empty());
    let kept: Vec<_> = two.rig.pool.kept_here().into_iter().collect();
    assert_eq!(kept, [("refused: not here".to_owned(), 1)]);
    drop(client);
    two.until_empty();
}

#[test]
fn a_connection_that_still_looks_for_its_backend_waits() {
    let (full, address) = crate::harness::refusing_address();
    // Nobody answers: the handshake stays open (the queue of length 0 is full with one).
    full.listen(0).unwrap();
    let _first = TcpStream::connect(address).unwrap();
    let two = Two::before(address, &Plan::default());
    let _client = two.rig.client();
    until("it is there", || two.rig.totals().active == 1);
    let batch = two.rig.pool.freeze_some(ROOM);
    if batch.connections.is_empty() {
        assert!(batch.others_wait);
        let kept: Vec<_> = two.rig.pool.kept_here().into_keys().collect();
        assert_eq!(kept, ["waits for a backend"]);
    } else {
        panic!("the backend answered; the test shows nothing");
    }
}

#[test]
fn a_drain_ends_what_came_back_after_it_had_nobody_left() {
    let two = Two::before(echo_origin(), &Plan::default());
    let mut client = two.rig.client();
    assert_echoes(&mut client);
    let frozen = two.rig.pool.freeze_some(ROOM).connections;
    two.rig.pool.begin_drain(Instant::now()).unwrap();
    // Nobody was left to cut; now somebody is.
    two.rig.pool.settle_fates(
        frozen
            .into_iter()
            .map(|one| (one, Fate::Unanswered))
            .collect(),
    );
    assert!(is_reset(&mut client));
    until("it is counted", || {
        two.rig.totals().ended(End::CutByDrain) == 1
    });
    let mut byte = [0; 1];
    let _ = client.read(&mut byte);
    let _ = client.write_all(b"x");
    two.until_empty();
}
