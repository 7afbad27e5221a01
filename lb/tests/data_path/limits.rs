//! Limits refuse what is too much, at once and counted, and give the place back.

use std::env;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{Plan, Rig, assert_echoes, echo_origin, is_reset, until, upstream};
use dataplane::upstream::UpstreamSettings;
use lb::totals::End;
use rustix::process::{Resource, getrlimit, setrlimit};

#[test]
fn a_listener_takes_no_more_connections_than_its_limit_over_all_shards() {
    let plan = Plan {
        shards: 2,
        members: 16,
        max_connections: Some(3),
        ..Plan::default()
    };
    let rig = Rig::start(
        &plan,
        upstream(&[echo_origin()], UpstreamSettings::default()),
    );
    let mut clients: Vec<TcpStream> = (0..3).map(|_| rig.client()).collect();
    clients.iter_mut().for_each(assert_echoes);
    for _ in 0..5 {
        assert!(is_reset(&mut rig.client()));
    }
    until("all are counted", || rig.totals().ended(End::Limit) == 5);
    drop(clients.pop());
    until("the place is free", || rig.totals().active == 2);
    assert_echoes(&mut rig.client());
}

#[test]
fn a_reload_changes_the_limit_and_keeps_counting_the_open_connections() {
    let plan = Plan {
        max_connections: Some(1),
        ..Plan::default()
    };
    let rig = Rig::start(
        &plan,
        upstream(&[echo_origin()], UpstreamSettings::default()),
    );
    let mut first = rig.client();
    assert_echoes(&mut first);
    let plan = Plan {
        max_connections: Some(2),
        ..plan
    };
    rig.pool
        .set_listener(plan.listener(&rig.upstream), rig.sockets.clone())
        .unwrap();
    let mut second = rig.client();
    assert_echoes(&mut second);
    assert!(is_reset(&mut rig.client()));
    assert_echoes(&mut first);
}

/// Names the origin to the child process of the test below.
const ORIGIN: &str = "LB_TEST_ORIGIN";

/// Descriptors that the child may have. Sized: room for about 25 connections of two descriptors each.
const DESCRIPTORS: u64 = 80;

/// The child: a load balancer with few descriptors. Says its address, waits for the end of its input, then
/// says how often it paused.
#[test]
fn child_with_few_descriptors() {
    let Ok(origin) = env::var(ORIGIN) else {
        return; // not started by the test below
    };
    let origin: SocketAddr = origin.parse().unwrap();
    let settings = UpstreamSettings {
        connect_timeout: Duration::from_secs(60),
        ..UpstreamSettings::default()
    };
    let rig = Rig::start(&Plan::default(), upstream(&[origin], settings));
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        rustix::process::Rlimit {
            current: Some(DESCRIPTORS),
            ..limit
        },
    )
    .unwrap();
    println!("address {}", rig.address);
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    println!(
        "pauses {} open {}",
        rig.totals().accept_pauses,
        rig.totals().active
    );
}

fn is_answered(mut client: &TcpStream) -> bool {
    client.set_nonblocking(true).unwrap();
    match client.read(&mut [0; 5]) {
        Ok(count) => {
            assert_eq!(count, 5, "an end of file instead of an answer");
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
            false
        }
    }
}

#[test]
fn a_host_out_of_descriptors_keeps_clients_waiting_and_serves_them_later() {
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "limits::child_with_few_descriptors",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(ORIGIN, echo_origin().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut value = |key: &str| -> String {
        let line = lines
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.contains(key))
            .unwrap();
        line.split_once(key).unwrap().1.trim().to_owned()
    };
    let address: SocketAddr = value("address ").parse().unwrap();
    let mut clients = Vec::new();
    for _ in 0..60 {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"hello").unwrap();
        clients.push(client);
    }
    // Each is answered in the end, when others have left; none is reset.
    let mut waited = 0;
    until("every client was answered", || {
        clients.retain(|client| !is_answered(client));
        waited = waited.max(clients.len());
        clients.is_empty()
    });
    assert!(waited > 0, "the host was never short");
    drop(child.stdin.take());
    let pauses = value("pauses ");
    assert!(!pauses.starts_with("0 "), "it never paused: {pauses}");
    assert!(child.wait().unwrap().success());
}
