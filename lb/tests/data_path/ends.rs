//! How connections end: half-closed, clean, reset. A cut is never shown as a clean end.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::harness::{
    PATIENCE, Rig, assert_echoes, echo_origin, is_reset, origin, read_pattern, write_pattern,
};
use lb::totals::End;
use socket2::SockRef;

fn reset(socket: TcpStream) {
    SockRef::from(&socket)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(socket);
}

#[test]
fn a_client_that_ends_its_side_still_gets_the_whole_answer() {
    const SIZE: usize = 3_000_000;
    let rig = Rig::before(origin(|mut socket| {
        assert_eq!(read_pattern(&mut socket, 1), SIZE);
        write_pattern(&mut socket, 2, SIZE);
    }));
    let mut client = rig.client();
    write_pattern(&mut client, 1, SIZE);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_pattern(&mut client, 2), SIZE);
    rig.until_ended(End::Finished, 1);
    rig.until_empty();
}

#[test]
fn a_backend_that_ends_its_side_still_gets_all_the_client_sends() {
    const SIZE: usize = 3_000_000;
    let (tell, told) = channel();
    let rig = Rig::before(origin(move |mut socket| {
        write_pattern(&mut socket, 2, 1000);
        socket.shutdown(Shutdown::Write).unwrap();
        tell.send(read_pattern(&mut socket, 1)).unwrap();
    }));
    let mut client = rig.client();
    assert_eq!(read_pattern(&mut client, 2), 1000);
    write_pattern(&mut client, 1, SIZE);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), SIZE);
    rig.until_ended(End::Finished, 1);
    rig.until_empty();
}

#[test]
fn bytes_before_an_end_of_file_reach_a_slow_reader() {
    const SIZE: usize = 3_000_000;
    let (tell, told) = channel();
    let rig = Rig::before(origin(move |mut socket| {
        write_pattern(&mut socket, 4, SIZE);
        drop(socket);
        tell.send(()).unwrap();
    }));
    let mut client = rig.client();
    told.recv_timeout(PATIENCE)
        .expect("the kernel's buffers hold that much");
    assert_eq!(read_pattern(&mut client, 4), SIZE);
    drop(client);
    rig.until_ended(End::Finished, 1);
}

#[test]
fn a_request_with_an_end_of_file_sent_before_the_backend_was_connected_is_answered() {
    let rig = Rig::before(echo_origin());
    let mut client = rig.client();
    client.write_all(b"at once").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"at once");
    rig.until_ended(End::Finished, 1);
}

#[test]
fn a_client_that_leaves_without_a_word_ends_both_sides_cleanly() {
    let (tell, told) = channel();
    let rig = Rig::before(origin(move |mut socket| {
        tell.send(socket.read(&mut [0; 1]).unwrap()).unwrap()
    }));
    drop(rig.client());
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), 0);
    rig.until_ended(End::Finished, 1);
    rig.until_empty();
}

#[test]
fn a_client_that_resets_resets_its_backend() {
    let (tell, told) = channel();
    let rig = Rig::before(origin(move |mut socket| {
        let mut greeting = [0; 5];
        socket.read_exact(&mut greeting).unwrap();
        socket.write_all(&greeting).unwrap();
        tell.send(is_reset(&mut socket)).unwrap();
    }));
    let mut client = rig.client();
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    reset(client);
    assert!(
        told.recv_timeout(PATIENCE).unwrap(),
        "the backend saw a clean end"
    );
    rig.until_ended(End::ClientReset, 1);
    rig.until_empty();
}

#[test]
fn a_backend_that_resets_resets_its_client() {
    let rig = Rig::before(origin(|mut socket| {
        socket.read_exact(&mut [0; 5]).unwrap();
        reset(socket);
    }));
    let mut client = rig.client();
    client.write_all(b"hello").unwrap();
    assert!(is_reset(&mut client), "the client saw a clean end");
    rig.until_ended(End::BackendReset, 1);
    rig.until_empty();
}

#[test]
fn what_a_backend_said_before_its_reset_is_passed_on() {
    const SIZE: usize = 100_000;
    let rig = Rig::before(origin(|mut socket| {
        write_pattern(&mut socket, 6, SIZE);
        // Waits for the client to have all of it, so that only the reset is left to pass on.
        socket.read_exact(&mut [0; 1]).unwrap();
        reset(socket);
    }));
    let mut client = rig.client();
    let mut received = vec![0; SIZE];
    client.read_exact(&mut received).unwrap();
    crate::harness::Pattern::new(6).check(&received);
    client.write_all(b"!").unwrap();
    assert!(is_reset(&mut client));
    rig.until_ended(End::BackendReset, 1);
}

#[test]
fn a_backend_that_resets_while_the_client_is_sending_bulk_resets_the_client() {
    let rig = Rig::before(origin(|mut socket| {
        let mut buffer = vec![0; 100_000];
        socket.read_exact(&mut buffer).unwrap();
        reset(socket);
    }));
    let mut client = rig.client();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    let block = vec![1; 64 * 1024];
    while client.write_all(&block).is_ok() {}
    rig.until_ended(End::BackendReset, 1);
    rig.until_empty();
}

#[test]
fn a_client_that_resets_under_a_bulk_answer_resets_the_backend() {
    let (tell, told) = channel();
    let rig = Rig::before(origin(move |mut socket| {
        let block = vec![1; 64 * 1024];
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        while socket.write_all(&block).is_ok() {}
        tell.send(()).unwrap();
    }));
    let mut client = rig.client();
    let mut buffer = vec![0; 1_000_000];
    client.read_exact(&mut buffer).unwrap();
    reset(client);
    told.recv_timeout(PATIENCE).unwrap();
    rig.until_ended(End::ClientReset, 1);
    rig.until_empty();
}

#[test]
fn a_pool_that_shuts_down_resets_what_is_open() {
    let rig = Rig::before(echo_origin());
    let mut client = rig.client();
    assert_echoes(&mut client);
    rig.pool.shutdown();
    assert!(is_reset(&mut client));
}
