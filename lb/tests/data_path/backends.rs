//! Backends that refuse, are slow or are full cost no client more than they must.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::{
    Plan, Rig, assert_echoes, backend, echo_origin, is_reset, refusing_address, until, upstream,
};
use dataplane::upstream::{Upstream, UpstreamSettings};
use lb::totals::End;
use socket2::{Domain, Socket, Type};

/// A listener whose queue is full: the kernel drops further handshakes, so a connect hangs.
struct Full {
    address: SocketAddr,
    _listener: Socket,
    _queued: Vec<Socket>,
}

fn full_backend() -> Full {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener
        .bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
        .unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let connect = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let connected = socket
            .connect_timeout(&address.into(), Duration::from_millis(100))
            .is_ok();
        (socket, connected)
    };
    let queued = std::iter::repeat_with(connect).take_while(|(_, connected)| *connected);
    let queued = queued.map(|(socket, _)| socket).collect();
    Full {
        address,
        _listener: listener,
        _queued: queued,
    }
}

#[test]
fn one_dead_backend_among_several_costs_no_client_its_connection() {
    let (_bound, dead) = refusing_address();
    let addresses = [echo_origin(), dead, echo_origin(), echo_origin()];
    let rig = Rig::start(
        &Plan::default(),
        upstream(&addresses, UpstreamSettings::default()),
    );
    for _ in 0..100 {
        let mut client = rig.client();
        assert_echoes(&mut client);
    }
    rig.until_ended(End::Finished, 100);
    rig.until_empty();
    let totals = rig.totals();
    assert!(totals.connect_failures > 0, "the dead one was never tried");
    assert_eq!(totals.retries, totals.connect_failures);
}

#[test]
fn a_client_whose_every_backend_refuses_is_reset() {
    let (_bound, dead) = refusing_address();
    let (_bound_too, dead_too) = refusing_address();
    let rig = Rig::start(
        &Plan::default(),
        upstream(&[dead, dead_too], UpstreamSettings::default()),
    );
    assert!(is_reset(&mut rig.client()));
    rig.until_ended(End::ConnectFailed, 1);
    rig.until_empty();
    assert_eq!(
        (rig.totals().connect_failures, rig.totals().retries),
        (2, 1)
    );
}

#[test]
fn no_more_backends_are_tried_than_the_settings_say() {
    let dead: Vec<_> = (0..5).map(|_| refusing_address()).collect();
    let addresses: Vec<_> = dead.iter().map(|(_, address)| *address).collect();
    let settings = UpstreamSettings {
        retries: 2,
        ..UpstreamSettings::default()
    };
    let rig = Rig::start(&Plan::default(), upstream(&addresses, settings));
    assert!(is_reset(&mut rig.client()));
    rig.until_ended(End::ConnectFailed, 1);
    assert_eq!(rig.totals().connect_failures, 3);
}

#[test]
fn a_client_without_any_backend_is_reset() {
    let rig = Rig::start(&Plan::default(), upstream(&[], UpstreamSettings::default()));
    assert!(is_reset(&mut rig.client()));
    rig.until_ended(End::NoBackend, 1);
}

#[test]
fn a_backend_that_does_not_answer_in_time_is_given_up_for_another() {
    let full = full_backend();
    let settings = UpstreamSettings {
        connect_timeout: Duration::from_millis(200),
        ..UpstreamSettings::default()
    };
    let rig = Rig::start(
        &Plan::default(),
        upstream(&[full.address, echo_origin()], settings),
    );
    for _ in 0..4 {
        let mut client = rig.client();
        client
            .write_all(b"sent before there was a backend; ")
            .unwrap();
        let mut early = [0; 33];
        std::io::Read::read_exact(&mut client, &mut early).unwrap();
        assert_eq!(
            &early, b"sent before there was a backend; ",
            "each byte is sent once"
        );
        assert_echoes(&mut client);
    }
    assert!(
        rig.totals().connect_failures > 0,
        "the full one was never tried"
    );
}

#[test]
fn a_client_whose_only_backend_does_not_answer_is_reset_after_the_connect_timeout() {
    let full = full_backend();
    let settings = UpstreamSettings {
        connect_timeout: Duration::from_millis(200),
        ..UpstreamSettings::default()
    };
    let rig = Rig::start(&Plan::default(), upstream(&[full.address], settings));
    assert!(is_reset(&mut rig.client()));
    rig.until_ended(End::ConnectFailed, 1);
    rig.until_empty();
}

#[test]
fn a_client_that_resets_while_its_backend_is_sought_is_forgotten() {
    let full = full_backend();
    let rig = Rig::start(
        &Plan::default(),
        upstream(&[full.address], UpstreamSettings::default()),
    );
    let client = rig.client();
    until("it was accepted", || rig.totals().active == 1);
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    rig.until_ended(End::ClientReset, 1);
    rig.until_empty();
}

#[test]
fn a_backend_takes_no_more_connections_than_its_limit() {
    let mut spec = backend(echo_origin());
    spec.max_connections = Some(2);
    let upstream = Upstream::new("app".to_owned(), UpstreamSettings::default(), vec![spec]);
    let rig = Rig::start(&Plan::default(), upstream);
    let mut clients: Vec<TcpStream> = (0..2).map(|_| rig.client()).collect();
    clients.iter_mut().for_each(assert_echoes);
    assert!(is_reset(&mut rig.client()));
    until("it is counted", || rig.totals().ended(End::NoBackend) == 1);
    drop(clients.pop());
    until("the place is free", || {
        rig.upstream
            .backends()
            .iter()
            .all(|backend| backend.active() == 1)
    });
    assert_echoes(&mut rig.client());
}
