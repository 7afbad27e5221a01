//! Taking clients, stopping to, and draining: acknowledged, complete, and without burning a core.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::harness::{
    PATIENCE, Plan, Rig, assert_echoes, bind_group, echo_origin, is_reset, until, upstream,
};
use dataplane::upstream::UpstreamSettings;
use lb::shard::{ShardPool, Timeouts};
use lb::totals::End;

fn rig(shards: usize, members: usize) -> Rig {
    let plan = Plan {
        shards,
        members,
        ..Plan::default()
    };
    Rig::start(
        &plan,
        upstream(&[echo_origin()], UpstreamSettings::default()),
    )
}

#[test]
fn clients_that_come_during_a_pause_wait_in_the_queue_and_none_is_lost() {
    let rig = rig(2, 16);
    for _ in 0..5 {
        rig.pool.accept(handoff::Share::NONE).unwrap();
        let accepted = rig.totals().accepted;
        let wakeups = rig.totals().wakeups;
        let mut clients: Vec<TcpStream> = (0..40).map(|_| rig.client()).collect();
        clients
            .iter_mut()
            .for_each(|client| client.write_all(b"are you there?").unwrap());
        assert_eq!(
            rig.totals().accepted,
            accepted,
            "the pause was acknowledged before it was in force"
        );
        // A timer of an earlier connection may come due; forty clients are more than that.
        assert!(
            rig.totals().wakeups <= wakeups + 2,
            "a paused shard is woken for clients that it does not take"
        );
        rig.pool.accept(handoff::Share::ALL).unwrap();
        for client in &mut clients {
            let mut answer = [0; 14];
            client.read_exact(&mut answer).unwrap();
            assert_echoes(client);
        }
        assert_eq!(rig.totals().accepted, accepted + 40);
        drop(clients);
        rig.until_empty();
    }
    rig.until_ended(End::Finished, 200);
}

#[test]
fn open_connections_go_on_during_a_pause() {
    let rig = rig(2, 4);
    let mut client = rig.client();
    assert_echoes(&mut client);
    rig.pool.accept(handoff::Share::NONE).unwrap();
    assert_echoes(&mut client);
}

#[test]
fn sockets_that_are_only_bound_refuse_until_the_pool_accepts() {
    let pool = ShardPool::start(1, Timeouts::default()).unwrap();
    let (sockets, address) = bind_group(2);
    let upstream = upstream(&[echo_origin()], UpstreamSettings::default());
    pool.set_listener(Plan::default().listener(&upstream), sockets)
        .unwrap();
    assert_eq!(
        TcpStream::connect(address).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    pool.accept(handoff::Share::ALL).unwrap();
    assert_echoes(&mut TcpStream::connect(address).unwrap());
}

#[test]
fn a_listener_added_while_the_pool_accepts_accepts_too() {
    let rig = rig(2, 4);
    let (sockets, address) = bind_group(3);
    let mut settings = Plan::default().listener(&rig.upstream);
    settings.name = "second".to_owned();
    rig.pool.set_listener(settings, sockets).unwrap();
    assert_echoes(&mut TcpStream::connect(address).unwrap());
    assert_echoes(&mut rig.client());
}

#[test]
fn a_removed_listener_is_let_go_and_its_connections_go_on() {
    let Rig {
        pool,
        address,
        sockets,
        ..
    } = rig(2, 4);
    let mut client = TcpStream::connect(address).unwrap();
    assert_echoes(&mut client);
    pool.remove_listener("web").unwrap();
    pool.remove_listener("never heard of").unwrap();
    assert!(
        sockets.iter().all(|socket| Arc::strong_count(socket) == 1),
        "somebody still holds a socket"
    );
    drop(sockets);
    assert_eq!(
        TcpStream::connect(address).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    assert_echoes(&mut client);
}

#[test]
fn other_sockets_for_a_known_listener_replace_its_sockets() {
    let rig = rig(2, 4);
    let (sockets, address) = bind_group(2);
    rig.pool
        .set_listener(Plan::default().listener(&rig.upstream), sockets)
        .unwrap();
    assert!(
        rig.sockets
            .iter()
            .all(|socket| Arc::strong_count(socket) == 1)
    );
    assert_echoes(&mut TcpStream::connect(address).unwrap());
}

#[test]
fn a_drain_lets_connections_finish_and_cuts_those_left() {
    let rig = rig(2, 4);
    let mut clients: Vec<TcpStream> = (0..4).map(|_| rig.client()).collect();
    clients.iter_mut().for_each(assert_echoes);
    let cut_at = Instant::now() + Duration::from_secs(600);
    rig.pool.begin_drain(cut_at).unwrap();
    assert!(
        rig.pool.accept(handoff::Share::ALL).is_err(),
        "a drain is for good"
    );
    clients.iter_mut().for_each(assert_echoes);
    let mut finishing = clients.pop().unwrap();
    finishing.shutdown(Shutdown::Write).unwrap();
    assert_eq!(finishing.read(&mut [0; 1]).unwrap(), 0);
    until("one has finished", || rig.totals().active == 3);
    rig.pool
        .begin_drain(Instant::now() + Duration::from_millis(50))
        .unwrap();
    assert!(clients.iter_mut().all(is_reset));
    until("nothing is left", || rig.totals().active == 0);
    assert_eq!(
        (
            rig.totals().ended(End::Finished),
            rig.totals().ended(End::CutByDrain)
        ),
        (1, 3)
    );
}

#[test]
fn a_drained_process_is_not_woken_for_the_clients_of_its_successor() {
    let rig = rig(1, 1);
    let mut client = rig.client();
    assert_echoes(&mut client);
    // The successor holds the same open file description, as after a handoff.
    let successor = TcpListener::from(rig.sockets[0].try_clone().unwrap());
    successor.set_nonblocking(false).unwrap();
    rig.pool.begin_drain(Instant::now() + PATIENCE).unwrap();
    let wakeups = rig.totals().wakeups;
    for _ in 0..100 {
        let _client = TcpStream::connect(rig.address).unwrap();
        successor.accept().unwrap();
    }
    assert!(
        rig.totals().wakeups <= wakeups + 2,
        "the drained process woke for connections of its successor"
    );
    assert_echoes(&mut client);
}

#[test]
fn two_pools_on_the_same_sockets_hand_over_under_load_without_a_loss() {
    let first = rig(2, 4);
    let second = ShardPool::start(2, Timeouts::default()).unwrap();
    let duplicates: Vec<Arc<OwnedFd>> = first
        .sockets
        .iter()
        .map(|socket| Arc::new(socket.try_clone().unwrap()))
        .collect();
    second
        .set_listener(Plan::default().listener(&first.upstream), duplicates)
        .unwrap();
    let address = first.address;
    let load = std::thread::spawn(move || {
        for _ in 0..400 {
            let mut client = TcpStream::connect(address).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_echoes(&mut client);
        }
    });
    until("the load has begun", || first.totals().accepted > 20);
    second.accept(handoff::Share::ALL).unwrap();
    first.pool.begin_drain(Instant::now() + PATIENCE).unwrap();
    until("the successor serves", || second.totals().accepted > 20);
    load.join().unwrap();
    until("the first is empty", || first.totals().active == 0);
    assert_eq!(first.totals().accepted + second.totals().accepted, 400);
}
