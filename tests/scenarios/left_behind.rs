//! A main process that ends and leaves children behind, with the listener in their hands: they are told to end, have the
//! time that their generation has, and no more.

use std::path::{Path, PathBuf};
use std::time::Duration;

use control::{HistoryEntry, Status};
use harness::host::Host;
use harness::ports::free_ports;
use harness::proc;
use harness::successors::executable;
use harness::wait;
use rustix::process::Signal;

/// The main process only waits for its end; its child accepts and answers with its own number and version. Told to end,
/// the main process ends at once; its child does not hear it (`stubborn`), or ends when it is told itself (`polite`).
const PROGRAM: &str = r#"#!/usr/bin/env python3
import os, signal, socket, sys, time
if "--version" in sys.argv:
    print("parent VERSION")
    sys.exit(0)
listener = socket.socket(fileno=3)
listener.setblocking(True)
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "TEMPER" == "stubborn" else signal.SIG_DFL)
    while True:
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            time.sleep(0.01)
            continue
        with client:
            client.sendall(f"{os.getpid()} VERSION".encode())
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
signal.pause()
"#;

fn program(dir: &Path, version: &str, temper: &str) -> PathBuf {
    let text = PROGRAM.replace("VERSION", version);
    let text = text.replace("TEMPER", temper);
    executable(dir, &format!("parent-{version}"), text.as_bytes())
}

fn host(first: PathBuf, port: u16, settings: &str) -> Host {
    let mut host = Host::with_program(first, &[], &["--listen", &format!("web=127.0.0.1:{port}")]);
    host.set_supervisor_config(settings);
    host
}

/// The children of a main process.
fn children(main: u32) -> Vec<u32> {
    proc::children(main).iter().map(|(pid, _)| *pid).collect()
}

async fn until_ended(what: &str, within: Duration, pid: u32) {
    wait::until(what, within, || async {
        (!proc::is_alive(pid)).then_some(())
    })
    .await;
}

async fn left_behind(host: &Host) -> HistoryEntry {
    wait::until(
        "its line in the history",
        Duration::from_secs(10),
        || async {
            let history = host.client().history().await.expect("is told");
            history
                .into_iter()
                .find(|entry| entry.event == "left-behind")
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_leaves_a_stubborn_child_is_rid_of_it_when_its_drain_is_over() {
    let scratch = tempfile::tempdir().expect("scratch");
    let port = free_ports(1)[0];
    let first = program(scratch.path(), "1.0", "stubborn");
    let settings = "drain_timeout = \"1s\"\nstop_timeout = \"1s\"\n";
    let mut host = host(first, port, settings);
    host.start().await;
    let main = host.incumbent().await.pid;
    let [child] = children(main)[..] else {
        panic!("one child: {:?}", children(main));
    };
    let next = program(scratch.path(), "2.0", "stubborn");
    let outcome = host.upgrade(&next, &["--bake", "0s"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let is_seen = |status: &Status| status.left_behind.iter().any(|left| left.processes == 1);
    let status = host.status_where("it is shown", is_seen).await;
    assert_eq!(status.left_behind[0].version, "1.0");
    assert!(status.left_behind[0].killed_in_s <= 4, "{status:?}");
    assert!(!proc::is_alive(main) && proc::is_alive(child));
    // Nobody replaces the supervisor meanwhile: the next one would not know them.
    let itself = harness::binaries::find("supervisor");
    let refused = host.self_upgrade(&itself).await;
    assert_eq!(refused.code, 7, "{}", refused.output);
    assert!(
        refused.output.contains("left 1 process"),
        "{}",
        refused.output
    );
    until_ended("the child's end", Duration::from_secs(10), child).await;
    let told = left_behind(&host).await;
    assert_eq!(told.generation, Some(1));
    let reason = told.reason.expect("a reason");
    assert!(
        reason.contains("left 1 process behind; not ended in time, killed"),
        "{reason}"
    );
    assert!(host.status().await.left_behind.is_empty());
    assert_eq!(host.stop().await, Some(0));
    assert_eq!(
        proc::listening_sockets(port),
        0,
        "nobody holds the listener"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_hears_it_ends_at_once() {
    let scratch = tempfile::tempdir().expect("scratch");
    let port = free_ports(1)[0];
    let first = program(scratch.path(), "1.0", "polite");
    // With the default drain of ten minutes.
    let mut host = host(first, port, "");
    host.start().await;
    let main = host.incumbent().await.pid;
    let child = children(main)[0];
    let next = program(scratch.path(), "2.0", "polite");
    let outcome = host.upgrade(&next, &["--bake", "0s"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    until_ended("the child's end", Duration::from_secs(10), child).await;
    let reason = left_behind(&host).await.reason.expect("a reason");
    assert!(reason.ends_with("ended when told to"), "{reason}");
    assert_eq!(host.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_and_a_stop_leave_nobody_behind_either() {
    let scratch = tempfile::tempdir().expect("scratch");
    let port = free_ports(1)[0];
    let first = program(scratch.path(), "1.0", "stubborn");
    let settings = "drain_timeout = \"2s\"\nstop_timeout = \"1s\"\n";
    let mut host = host(first, port, settings);
    host.start().await;
    let main = host.incumbent().await.pid;
    let child = children(main)[0];
    proc::signal(main, Signal::KILL);
    let is_replaced = |status: &Status| status.crashes_total == 1;
    host.status_where("the crash", is_replaced).await;
    until_ended("the child's end", Duration::from_secs(10), child).await;
    let history = host.client().history().await.expect("is told");
    let crash = history.iter().find(|entry| entry.event == "crash");
    let reason = crash
        .and_then(|entry| entry.reason.clone())
        .expect("a crash");
    assert!(
        reason.contains("killed by signal 9, and left 1 process behind"),
        "{reason}"
    );
    host.serving().await;
    let child = children(host.incumbent().await.pid)[0];
    assert_eq!(host.stop().await, Some(0));
    assert!(!proc::is_alive(child), "the supervisor left before it");
    assert_eq!(proc::listening_sockets(port), 0);
}
