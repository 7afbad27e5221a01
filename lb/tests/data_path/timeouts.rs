//! Every wait of the data path is bounded, and activity puts off what it should put off.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{
    PATIENCE, Plan, Rig, assert_echoes, echo_origin, is_reset, origin, read_pattern, until,
    upstream, write_pattern,
};
use dataplane::upstream::UpstreamSettings;
use lb::shard::Timeouts;
use lb::totals::End;

const SHORT: Duration = Duration::from_millis(400);

fn rig(timeouts: Timeouts, origin: std::net::SocketAddr) -> Rig {
    let plan = Plan {
        timeouts,
        ..Plan::default()
    };
    Rig::start(&plan, upstream(&[origin], UpstreamSettings::default()))
}

/// A timeout that a stalled test machine does not reach by itself.
const LONG: Duration = Duration::from_millis(1500);

/// Bytes that [`keeps_sending`] sends, over three times `LONG`.
const KEPT_SENDING: usize = 45;

/// Sends bytes with pauses far below `LONG`.
fn keeps_sending(mut socket: std::net::TcpStream) {
    for _ in 0..KEPT_SENDING {
        thread::sleep(LONG / 15);
        if socket.write_all(b".").is_err() {
            return;
        }
    }
}

#[test]
fn an_idle_connection_is_cut() {
    let rig = rig(
        Timeouts {
            idle: SHORT,
            ..Timeouts::default()
        },
        echo_origin(),
    );
    let mut client = rig.client();
    assert_echoes(&mut client);
    let since = Instant::now();
    assert!(is_reset(&mut client));
    assert!(
        since.elapsed() >= SHORT * 9 / 10,
        "cut after {:?}",
        since.elapsed()
    );
    rig.until_ended(End::IdleTimeout, 1);
    rig.until_empty();
}

#[test]
fn bytes_in_one_direction_keep_a_connection_from_being_idle() {
    let rig = rig(
        Timeouts {
            idle: LONG,
            ..Timeouts::default()
        },
        origin(keeps_sending),
    );
    let mut client = rig.client();
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), KEPT_SENDING);
    drop(client);
    rig.until_ended(End::Finished, 1);
}

#[test]
fn a_half_closed_connection_that_moves_nothing_is_cut() {
    let (hold, held) = channel();
    let rig = rig(
        Timeouts {
            half_close: SHORT,
            ..Timeouts::default()
        },
        origin(move |socket| hold.send(socket).unwrap()),
    );
    let mut client = rig.client();
    let _backend_side = held.recv_timeout(PATIENCE).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(
        is_reset(&mut client),
        "the client still waited for an answer: a clean end would be a lie"
    );
    rig.until_ended(End::HalfCloseTimeout, 1);
    rig.until_empty();
}

#[test]
fn bytes_of_the_other_side_put_the_half_close_timeout_off() {
    let rig = rig(
        Timeouts {
            half_close: LONG,
            ..Timeouts::default()
        },
        origin(keeps_sending),
    );
    let mut client = rig.client();
    client.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), KEPT_SENDING);
    rig.until_ended(End::Finished, 1);
}

#[test]
fn a_half_close_timeout_does_not_take_back_what_the_kernel_still_delivers() {
    const SIZE: usize = 1_000_000;
    let rig = rig(
        Timeouts {
            half_close: SHORT,
            ..Timeouts::default()
        },
        origin(|mut socket| write_pattern(&mut socket, 8, SIZE)),
    );
    let mut client = rig.client();
    rig.until_ended(End::HalfCloseTimeout, 1);
    assert_eq!(
        read_pattern(&mut client, 8),
        SIZE,
        "the answer ended cleanly, only the client did not"
    );
}

#[test]
fn a_connection_does_not_outlive_its_lifetime_however_busy() {
    let rig = rig(
        Timeouts {
            lifetime: Some(SHORT),
            ..Timeouts::default()
        },
        echo_origin(),
    );
    let mut client = rig.client();
    let since = Instant::now();
    while client.write_all(b"x").is_ok() && client.read_exact(&mut [0; 1]).is_ok() {
        assert!(since.elapsed() < PATIENCE, "it lives on");
    }
    assert!(since.elapsed() >= SHORT * 9 / 10);
    rig.until_ended(End::Lifetime, 1);
    rig.until_empty();
}

#[test]
fn shorter_timeouts_apply_to_connections_that_are_open_already() {
    let rig = rig(Timeouts::default(), echo_origin());
    let mut client = rig.client();
    assert_echoes(&mut client);
    rig.pool
        .set_timeouts(Timeouts {
            idle: SHORT,
            ..Timeouts::default()
        })
        .unwrap();
    assert!(is_reset(&mut client));
    rig.until_ended(End::IdleTimeout, 1);
}

#[test]
fn absurdly_long_timeouts_are_no_error() {
    let long = Duration::MAX;
    let timeouts = Timeouts {
        idle: long,
        half_close: long,
        lifetime: Some(long),
        proxy_header: long,
        keepalive: long,
        user_timeout: long,
    };
    let rig = rig(timeouts, echo_origin());
    let mut client = rig.client();
    assert_echoes(&mut client);
    drop(client);
    until("it ended", || rig.totals().ended(End::Finished) == 1);
}
