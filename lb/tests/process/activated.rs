//! Started by a service manager: sockets by LISTEN_FDS, words by NOTIFY_SOCKET.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::Signal;

use crate::origin::{Client, Origin};
use crate::worker::{ConfigFile, DEADLINE, Worker};

fn config(address: &str, origin: &Origin) -> ConfigFile {
    ConfigFile::new(&format!(
        "[[listener]]\nname = \"web\"\naddress = \"{address}\"\nupstream = \"app\"\n\
         [upstream.app]\nbackends = [\"{}\"]\n",
        origin.address()
    ))
}

/// A shell that becomes `lb`: LISTEN_PID must be the number of the process itself.
fn activated(file: &ConfigFile, socket: OwnedFd, names: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .env_clear()
        .args([
            "-c",
            "LISTEN_PID=$$ exec \"$0\" run --config \"$1\"",
            env!("CARGO_BIN_EXE_lb"),
        ])
        .arg(file.path())
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", names);
    let mapping = FdMapping {
        parent_fd: socket,
        child_fd: 3,
    };
    command.fd_mappings(vec![mapping]).expect("no collision");
    command
}

#[test]
fn a_socket_of_the_service_manager_is_adopted_with_its_queue() {
    let origin = Origin::start('a');
    let socket = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = socket.local_addr().expect("bound");
    let file = config(&address.to_string(), &origin);
    // Connected before lb exists: waits in the queue of the socket.
    let waiting = std::thread::spawn(move || Client::connect(address).origin);
    let kept = socket.try_clone().expect("duplicates");
    let worker = Worker::start(&mut activated(&file, socket.into(), "web"));
    assert_eq!(worker.address("web"), address);
    assert_eq!(waiting.join().expect("is served"), 'a');
    Client::connect(address).echo("hello");
    drop(kept);
}

#[test]
fn an_activated_socket_on_another_address_is_not_used_and_said_so() {
    let origin = Origin::start('a');
    let socket = TcpListener::bind("127.0.0.2:0").expect("binds");
    let file = config("127.0.0.1:0", &origin);
    let worker = Worker::start(&mut activated(&file, socket.into(), "web"));
    worker.line(&["listener web was handed over on 127.0.0.2", "bound anew"]);
    Client::connect(worker.address("web")).echo("hello");
}

#[test]
fn the_service_manager_hears_ready_status_and_stopping() {
    let origin = Origin::start('a');
    let file = config("127.0.0.1:0", &origin);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("binds");
    manager.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let worker = Worker::start(
        crate::worker::lb()
            .args(["run", "--config"])
            .arg(file.path())
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "2000000"),
    );
    let hear = |wanted: &str| {
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = manager
                .recv(&mut buffer)
                .unwrap_or_else(|_| panic!("no {wanted} in {heard:?}"));
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.contains(wanted) {
                return text;
            }
            heard.push(text);
        }
    };
    let ready = hear("READY=1");
    assert!(
        ready.contains("STATUS=accepting; 0 connections; 1 of 1 backends healthy"),
        "{ready}"
    );
    hear("WATCHDOG=1");
    hear("STATUS=accepting");
    worker.signal(Signal::HUP);
    hear("RELOADING=1");
    hear("READY=1");
    worker.signal(Signal::TERM);
    hear("STOPPING=1");
    assert_eq!(worker.exit().code(), Some(0));
}
