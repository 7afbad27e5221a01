//! SIGTERM: finish what is held, take nothing more, and end.

use std::net::TcpStream;
use std::time::Instant;

use rustix::process::Signal;

use crate::origin::{Client, Origin};
use crate::worker::{ConfigFile, DEADLINE, Worker, until};

fn started(origin: &Origin, drain: &str) -> (ConfigFile, Worker) {
    let file = ConfigFile::new(&format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n[drain]\ntimeout = \"{drain}\"\n\
         [[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\nupstream = \"app\"\n\
         [upstream.app]\nbackends = [\"{}\"]\n",
        origin.address()
    ));
    let worker = Worker::configured(&file.path());
    (file, worker)
}

#[test]
fn connections_finish_new_ones_are_refused_and_the_exit_code_is_0() {
    let origin = Origin::start('a');
    let (_file, worker) = started(&origin, "1h");
    let web = worker.address("web");
    let mut held = Client::connect(web);
    worker.signal(Signal::TERM);
    worker.line(&["draining", "connections=1"]);
    until("new connections are refused", || {
        TcpStream::connect(web).is_err()
    });
    held.echo("what is held goes on");
    let (status, body) = worker.get("/health");
    assert_eq!(status, 503);
    assert!(body.contains("\"draining\""), "{body}");
    drop(held);
    worker.line(&["drained", "finished=1", "cut=0"]);
    assert_eq!(worker.exit().code(), Some(0));
}

#[test]
fn nothing_held_ends_at_once() {
    let origin = Origin::start('a');
    let (_file, worker) = started(&origin, "1h");
    worker.address("web");
    worker.signal(Signal::INT);
    assert_eq!(worker.exit().code(), Some(0));
}

#[test]
fn what_is_left_at_the_deadline_is_cut() {
    let origin = Origin::start('a');
    let (_file, worker) = started(&origin, "300ms");
    let mut held = Client::connect(worker.address("web"));
    let begun = Instant::now();
    worker.signal(Signal::TERM);
    worker.line(&["drained", "finished=0", "cut=1"]);
    assert_eq!(worker.exit().code(), Some(0));
    assert!(begun.elapsed() < DEADLINE);
    assert!(held.try_echo("gone").is_err());
}

#[test]
fn a_second_signal_ends_it_now() {
    let origin = Origin::start('a');
    let (_file, worker) = started(&origin, "1h");
    let _held = Client::connect(worker.address("web"));
    worker.signal(Signal::TERM);
    worker.line(&["draining", "connections=1"]);
    worker.signal(Signal::TERM);
    worker.line(&["drained", "cut=1"]);
    assert_eq!(worker.exit().code(), Some(0));
}
