//! Bytes arrive, all of them, once and in order: small, in bulk, past slow readers, on any number of shards.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::harness::{
    PATIENCE, Pattern, Plan, Rig, assert_echoes, echo_origin, origin, read_pattern, until,
    upstream, write_pattern,
};
use dataplane::upstream::UpstreamSettings;
use lb::shard::{ShardPool, Timeouts};
use lb::totals::End;

const MESSAGES: usize = 1_500;
const CLIENTS: u64 = 6;

fn exchange_small_messages(address: SocketAddr, seed: u64) -> usize {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    let (mut sent, mut received) = (Pattern::new(seed), Pattern::new(seed));
    let mut total = 0;
    for message in 0..MESSAGES {
        let bytes = sent.next(1 + message * 37 % 900);
        socket.write_all(&bytes).unwrap();
        let mut answer = vec![0; bytes.len()];
        socket.read_exact(&mut answer).unwrap();
        received.check(&answer);
        total += bytes.len();
    }
    socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0);
    total
}

fn small_messages_arrive(shards: usize, members: usize) {
    let plan = Plan {
        shards,
        members,
        ..Plan::default()
    };
    let rig = Rig::start(
        &plan,
        upstream(&[echo_origin()], UpstreamSettings::default()),
    );
    let address = rig.address;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|seed| thread::spawn(move || exchange_small_messages(address, seed)))
        .collect();
    let sent: usize = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .sum();
    rig.until_ended(End::Finished, CLIENTS);
    rig.until_empty();
    let totals = rig.totals();
    assert_eq!(totals.bytes_to_backends, sent as u64);
    assert_eq!(totals.bytes_to_clients, sent as u64);
    assert_eq!(
        totals.bytes_spliced, 0,
        "small messages never leave the copy path"
    );
    assert_eq!(totals.duration.count(), CLIENTS);
    assert_eq!(totals.connect_time.count(), CLIENTS);
}

#[test]
fn thousands_of_small_messages_arrive_on_one_shard() {
    small_messages_arrive(1, 4);
}

#[test]
fn thousands_of_small_messages_arrive_on_two_shards() {
    small_messages_arrive(2, 16);
}

#[test]
fn fewer_sockets_than_shards_are_watched_by_all_of_them() {
    small_messages_arrive(4, 1);
}

#[test]
fn bulk_in_both_directions_at_once_is_spliced_and_complete() {
    const BULK: usize = 128 * 1024 * 1024;
    let rig = Rig::before(origin(|mut socket| {
        let mut writer = socket.try_clone().unwrap();
        let sender = thread::spawn(move || {
            write_pattern(&mut writer, 2, BULK);
            writer.shutdown(Shutdown::Write).unwrap();
        });
        assert_eq!(read_pattern(&mut socket, 1), BULK);
        sender.join().unwrap();
    }));
    let mut client = rig.client();
    let mut writer = client.try_clone().unwrap();
    let sender = thread::spawn(move || {
        write_pattern(&mut writer, 1, BULK);
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert_eq!(read_pattern(&mut client, 2), BULK);
    sender.join().unwrap();
    rig.until_ended(End::Finished, 1);
    rig.until_empty();
    let totals = rig.totals();
    assert_eq!(totals.bytes_to_backends, BULK as u64);
    assert_eq!(totals.bytes_to_clients, BULK as u64);
    // A sender that is slower than lb lets it run dry, and then it copies by design (`SPLICE_WORTH`): how much
    // is spliced depends on who gets the two cores. That bulk takes the pipe at all does not.
    assert!(
        totals.bytes_spliced > BULK as u64 / 8,
        "spliced only {}",
        totals.bytes_spliced
    );
}

#[test]
fn a_connection_goes_from_bulk_to_small_messages_and_back() {
    const BULK: usize = 8 * 1024 * 1024;
    let rig = Rig::before(echo_origin());
    let mut client = rig.client();
    let mut spliced = 0;
    for _ in 0..3 {
        for _ in 0..100 {
            assert_echoes(&mut client);
        }
        let mut writer = client.try_clone().unwrap();
        let sender = thread::spawn(move || write_pattern(&mut writer, 3, BULK));
        let mut received = vec![0; BULK];
        client.read_exact(&mut received).unwrap();
        Pattern::new(3).check(&received);
        sender.join().unwrap();
        assert!(rig.totals().bytes_spliced > spliced);
        spliced = rig.totals().bytes_spliced;
    }
    until("idle pipes are back", || rig.totals().pipes_lent == 0);
    drop(client);
    rig.until_empty();
}

#[test]
fn many_bulk_connections_share_few_pipes_and_lose_nothing() {
    const BULK: usize = 2 * 1024 * 1024;
    let rig = Rig::before(origin(|mut socket| {
        let _ = socket.set_write_timeout(Some(PATIENCE));
        write_pattern(&mut socket, 9, BULK);
    }));
    // More than a shard has pipes; those without copy. Their buffers do not grow: else the kernel may take all of it, and
    // nothing ever waits here.
    let mut clients: Vec<_> = (0..120).map(|_| rig.narrow_client()).collect();
    until("all readers are slow", || rig.totals().bytes_pending > 0);
    for client in &mut clients {
        assert_eq!(read_pattern(client, 9), BULK);
    }
    drop(clients);
    rig.until_ended(End::Finished, 120);
    rig.until_empty();
}

#[test]
fn a_slow_reader_holds_its_sender_back_and_costs_bounded_memory() {
    const BULK: usize = 64 * 1024 * 1024;
    let (blocked, is_blocked) = std::sync::mpsc::channel();
    let rig = Rig::before(origin(move |mut socket| {
        // Writes until the load balancer takes no more, says so, then goes on when it does.
        socket
            .set_write_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let mut pattern = Pattern::new(5);
        let mut left = BULK;
        let mut waiting: Vec<u8> = Vec::new();
        while left > 0 {
            if waiting.is_empty() {
                waiting = pattern.next(left.min(64 * 1024));
            }
            match socket.write(&waiting) {
                Ok(count) => {
                    waiting.drain(..count);
                    left -= count;
                }
                Err(_) => {
                    let _ = blocked.send(BULK - left);
                }
            }
        }
    }));
    let mut client = rig.client();
    let taken = is_blocked
        .recv_timeout(PATIENCE)
        .expect("the sender is held back");
    assert!(
        taken < BULK / 2,
        "{taken} bytes were taken for a reader that reads nothing"
    );
    let pending = rig.totals().bytes_pending;
    assert!(
        pending <= 256 * 1024,
        "{pending} bytes are held for one slow direction"
    );
    assert_eq!(read_pattern(&mut client, 5), BULK);
    drop(client);
    rig.until_ended(End::Finished, 1);
    rig.until_empty();
}

#[test]
fn a_busy_bulk_connection_does_not_starve_small_ones() {
    let rig = Rig::before(origin(|mut socket| {
        let mut kind = [0; 1];
        socket.read_exact(&mut kind).unwrap();
        if kind == *b"b" {
            let block = vec![7; 256 * 1024];
            while socket.write_all(&block).is_ok() {}
            return;
        }
        while socket.read_exact(&mut kind).is_ok() && socket.write_all(&kind).is_ok() {}
    }));
    let mut bulk = rig.client();
    bulk.write_all(b"b").unwrap();
    let reader = thread::spawn(move || {
        let mut buffer = vec![0; 256 * 1024];
        for _ in 0..2_000 {
            bulk.read_exact(&mut buffer).unwrap();
        }
    });
    let mut small = rig.client();
    small.write_all(b"s").unwrap();
    for _ in 0..500 {
        small.write_all(b"x").unwrap();
        small.read_exact(&mut [0; 1]).unwrap();
    }
    reader.join().unwrap();
}

#[test]
fn ipv6_clients_reach_ipv6_backends() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return; // a host without IPv6
    };
    let backend = TcpListener::bind("[::1]:0").unwrap();
    let upstream = upstream(
        &[backend.local_addr().unwrap()],
        UpstreamSettings::default(),
    );
    let address = listener.local_addr().unwrap();
    let pool = ShardPool::start(1, Timeouts::default()).unwrap();
    let sockets = vec![Arc::new(listener.into())];
    pool.set_listener(Plan::default().listener(&upstream), sockets)
        .unwrap();
    pool.accept(handoff::Share::ALL).unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    let (mut far, _) = backend.accept().unwrap();
    client.write_all(b"six").unwrap();
    let mut got = [0; 3];
    far.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"six");
}
