//! The supervisor is replaced in its own process: nobody's connection, nobody's deadline and no exit is lost.

use std::time::{Duration, Instant};

use bench::ledger::Class;
use control::{Role, Verdict};
use harness::host::{Host, Outcome, incumbent};
use harness::ports::free_ports;
use harness::service_manager::ServiceManager;
use harness::successors::{another_lb, another_supervisor, executable, impostor_supervisor};
use harness::traffic::Site;
use harness::{binaries, proc, wait};
use rustix::process::Signal;

fn assert_committed(outcome: &Outcome) {
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let last = outcome.events.last().expect("events");
    assert_eq!(last.verdict, Some(Verdict::Committed), "{}", outcome.output);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_the_workers_and_the_sockets_stay_and_the_binary_is_another() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.load(80);
    traffic.flows(100).await;
    let before = host
        .status_where("its own digest", |status| {
            !status.supervisor_sha256.is_empty()
        })
        .await;
    let next = another_supervisor(host.path(), "next");
    let outcome = host.self_upgrade(&next).await;
    assert_committed(&outcome);
    let events: Vec<&str> = outcome
        .events
        .iter()
        .map(|one| one.event.as_str())
        .collect();
    assert_eq!(events, ["requested", "staged", "handing-over", "finished"]);
    println!("{}", outcome.events.last().expect("events").message);
    let after = host.serving().await;
    assert_eq!(after.supervisor_pid, before.supervisor_pid);
    assert_eq!(after.supervisor_pid, host.supervisor_pid());
    assert_ne!(after.supervisor_sha256, before.supervisor_sha256);
    let exe = std::fs::read_link(format!("/proc/{}/exe", after.supervisor_pid)).expect("lives");
    let store = host.path().join("state/load-balancer/supervisors");
    assert!(exe.starts_with(store), "{}", exe.display());
    let worker = |status: &control::Status| {
        let one = incumbent(status).expect("serves").clone();
        (one.pid, one.generation, one.sha256)
    };
    assert_eq!(worker(&after), worker(&before));
    assert_eq!(after.listeners, before.listeners);
    assert_eq!(proc::listening_sockets(site.echo_port), 16);
    let history = host.client().history().await.expect("history");
    let line = history.last().expect("a line");
    assert_eq!(line.event, "self-upgrade");
    assert_eq!(line.verdict, Some(Verdict::Committed));
    assert_eq!(line.from_sha256.as_ref(), Some(&before.supervisor_sha256));
    assert_eq!(line.to_sha256.as_ref(), Some(&after.supervisor_sha256));
    traffic.flows(100).await;

    // What a supervisor is for works as before: swap, rollback, the restart of a dead worker, and the end.
    let other = another_lb(host.path(), "other");
    for outcome in [
        host.upgrade(&other, &["--bake", "200ms"]).await,
        host.command(&["rollback", "--json"]).await,
    ] {
        assert_committed(&outcome);
        traffic.flows(50).await;
    }
    traffic.finish_clean().await;
    let victim = host.incumbent().await.pid;
    proc::signal(victim, Signal::KILL);
    host.status_where("another worker serves", |status| {
        incumbent(status).is_some_and(|one| one.pid != victim && one.accepting)
    })
    .await;
    assert_eq!(host.stop().await, Some(0));
}

/// A drain that began before the self-upgrade ends when it would have ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_middle_of_a_drain_connections_are_kept_and_the_deadline_stays_what_it_was() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.set_supervisor_config("drain_timeout = \"8s\"\nmigrate = \"never\"\n");
    host.start().await;
    let held = site.long_lived_load(10);
    held.flows(20).await;
    let old = host.incumbent().await;
    let other = another_lb(host.path(), "other");
    assert_committed(&host.upgrade(&other, &["--bake", "100ms"]).await);
    let began = Instant::now();
    let traffic = site.passing_load(20);
    // Half of its time is over when the supervisor is replaced.
    wait::until("half of the drain", Duration::from_secs(10), || async {
        (began.elapsed() > Duration::from_secs(4)).then_some(())
    })
    .await;
    let next = another_supervisor(host.path(), "next");
    assert_committed(&host.self_upgrade(&next).await);
    let status = host.status().await;
    let draining: Vec<u32> = status
        .generations
        .iter()
        .filter(|one| one.role == Role::Draining)
        .map(|one| one.pid)
        .collect();
    assert_eq!(draining, [old.pid]);
    held.flows(20).await;
    let kept_for = began.elapsed();
    assert!(
        kept_for < Duration::from_secs(8),
        "the machine is too slow: {kept_for:?}"
    );
    host.status_where("the old one left", |status| status.generations.len() == 1)
        .await;
    let lasted = began.elapsed();
    println!("the drain of 8 s took {lasted:?}");
    assert!(
        lasted > Duration::from_millis(7_500),
        "cut too early: {lasted:?}"
    );
    assert!(
        lasted < Duration::from_millis(11_500),
        "begun anew: {lasted:?}"
    );
    traffic.finish_clean().await;
    let cut = held.finish().await;
    assert_eq!(cut.count(Class::Refused), 0, "{:?}", cut.examples);
    assert_eq!(host.stop().await, Some(0));
}

/// The supervisor's own deadline for a worker that does not even listen any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_worker_that_hangs_is_killed_when_it_would_have_been_killed() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.set_supervisor_config("drain_timeout = \"3s\"\nmigrate = \"never\"\n");
    host.start().await;
    let held = site.long_lived_load(2);
    held.flows(4).await;
    let old = host.incumbent().await;
    let other = another_lb(host.path(), "other");
    assert_committed(&host.upgrade(&other, &["--bake", "100ms"]).await);
    let began = Instant::now();
    proc::signal(old.pid, Signal::STOP);
    wait::until("half of its time", Duration::from_secs(10), || async {
        (began.elapsed() > Duration::from_secs(3)).then_some(())
    })
    .await;
    // It does not return, and nobody waits for it.
    assert_committed(
        &host
            .self_upgrade(&another_supervisor(host.path(), "next"))
            .await,
    );
    assert!(proc::is_alive(old.pid));
    wait::until("its end", Duration::from_secs(20), || async {
        (!proc::is_alive(old.pid)).then_some(())
    })
    .await;
    // 3 s to drain and 3 s of grace.
    let lasted = began.elapsed();
    assert!(lasted > Duration::from_millis(5_500), "{lasted:?}");
    assert!(lasted < Duration::from_millis(8_500), "{lasted:?}");
    host.status_where("it is reaped", |status| status.generations.len() == 1)
        .await;
    let children = proc::children(host.supervisor_pid());
    assert!(children.iter().all(|(_, zombie)| !zombie), "{children:?}");
    held.finish().await;
}

/// A client that is neither refused nor cut off, also not during an exec; ends only by a panic.
async fn ask_all_the_time(client: control::client::Client, supervisor: u32) {
    loop {
        let status = client.status().await.expect("an answer");
        assert_eq!(status.supervisor_pid, supervisor);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_in_a_row_lose_nothing_and_leave_nothing_behind() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.load(60);
    traffic.flows(100).await;
    let binaries = [
        another_supervisor(host.path(), "one"),
        another_supervisor(host.path(), "two"),
    ];
    let supervisor = host.supervisor_pid();
    let worker = host.incumbent().await.pid;
    let asking = tokio::spawn(ask_all_the_time(host.client(), supervisor));
    let held_by_worker = proc::descriptors(worker).expect("alive");
    let mut samples = Vec::new();
    let mut lasted = Vec::new();
    for round in 0..10 {
        let outcome = host.self_upgrade(&binaries[round % 2]).await;
        assert_committed(&outcome);
        let quiet = wait::until("its threads are few", Duration::from_secs(10), || async {
            // The digest's thread and the pool of blocking tasks end by themselves.
            let threads = proc::threads(supervisor).expect("alive");
            (threads <= 3).then_some(threads)
        })
        .await;
        samples.push((proc::descriptors(supervisor).expect("alive"), quiet));
        let history = host.client().history().await.expect("history");
        lasted.push(
            history
                .last()
                .and_then(|line| line.duration_ms)
                .expect("a duration"),
        );
        traffic.flows(20).await;
    }
    println!("(descriptors, threads) after each: {samples:?}; each lasted (ms): {lasted:?}");
    let (first, last) = (samples[0], samples[9]);
    // Less than one for each; the client that asks may have one open in either sample.
    assert!(last.0 <= first.0 + 3, "descriptors grow: {samples:?}");
    assert!(last.1 <= first.1 + 1, "threads grow: {samples:?}");
    assert_eq!(proc::children(supervisor), [(worker, false)]);
    assert_eq!(host.incumbent().await.pid, worker);
    assert_eq!(host.supervisor_pid(), supervisor);
    let stored = std::fs::read_dir(host.path().join("state/load-balancer/supervisors"));
    assert_eq!(
        stored.expect("the store").count(),
        2,
        "the running one and the one before"
    );
    traffic.finish_clean().await;
    wait::until(
        "the load left the worker",
        Duration::from_secs(10),
        || async {
            // It held connections of the load when it was counted first.
            (proc::descriptors(worker).expect("alive") <= held_by_worker).then_some(())
        },
    )
    .await;
    assert!(!asking.is_finished(), "it was cut off: {:?}", asking.await);
    asking.abort();
    assert_eq!(host.stop().await, Some(0));
}

/// Says how often it was heard, so that a test sees whether somebody still listens.
const PROGRAM: &str = r#"#!/usr/bin/env python3
import os, signal, socket, sys, threading, time
if "--version" in sys.argv:
    print("echo 1.0")
    sys.exit(0)
listener = socket.socket(fileno=3)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect(os.environ["NOTIFY_SOCKET"])
notify.send(b"READY=1")
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
def tell():
    for number in range(10**9):
        notify.send(b"STATUS=%d" % number)
        time.sleep(0.05)
threading.Thread(target=tell, daemon=True).start()
while True:
    client, _ = listener.accept()
    with client:
        while data := client.recv(65536):
            client.sendall(data)
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_of_level_1_stays_is_heard_and_its_exit_is_seen() {
    let scratch = tempfile::tempdir().expect("scratch");
    let listen = format!("web=127.0.0.1:{}", free_ports(1)[0]);
    let program = executable(scratch.path(), "echo", PROGRAM.as_bytes());
    let mut host = Host::with_program(program, &[], &["--listen", &listen]);
    host.start().await;
    let number = |status: &control::Status| -> u64 {
        let one = incumbent(status).expect("serves");
        one.status.parse().unwrap_or_default()
    };
    let before = host
        .status_where("it is heard", |status| number(status) > 2)
        .await;
    let pid = host.incumbent().await.pid;
    assert_committed(
        &host
            .self_upgrade(&another_supervisor(host.path(), "next"))
            .await,
    );
    host.status_where("it is heard again", |status| {
        number(status) > number(&before) + 2
    })
    .await;
    let after = host.incumbent().await;
    assert_eq!((after.pid, after.generation), (pid, 1));
    proc::signal(pid, Signal::KILL);
    host.status_where("it was started anew", |status| {
        incumbent(status).is_some_and(|one| one.pid != pid && one.accepting)
    })
    .await;
    let history = host.client().history().await.expect("history");
    let crash = history
        .iter()
        .find(|line| line.event == "crash")
        .expect("a crash");
    let reason = crash.reason.clone().expect("a reason");
    assert!(
        reason.contains("killed by signal 9"),
        "it is still our child: {reason}"
    );
    assert_eq!(host.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_manager_sees_no_gap_and_its_store_is_not_touched() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    let manager = ServiceManager::listen(host.path());
    host.set_variable("NOTIFY_SOCKET", &manager.path().display().to_string());
    host.set_variable("WATCHDOG_USEC", "2000000");
    host.start().await;
    let heard = |what: &'static str, count: usize| {
        let manager = &manager;
        wait::until(what, Duration::from_secs(10), move || async move {
            (manager.count(what) >= count).then_some(())
        })
    };
    heard("WATCHDOG=1", 1).await;
    let (stored, ready) = (manager.stored(), manager.count("READY=1"));
    let (puts, removals) = (manager.count("FDSTORE=1"), manager.count("FDSTOREREMOVE=1"));
    assert_committed(
        &host
            .self_upgrade(&another_supervisor(host.path(), "next"))
            .await,
    );
    let signs = manager.count("WATCHDOG=1");
    heard("WATCHDOG=1", signs + 2).await;
    let lines = manager.count("STATUS=");
    heard("STATUS=", lines + 1).await;
    assert_eq!(manager.stored(), stored);
    assert_eq!(manager.count("FDSTORE=1"), puts);
    assert_eq!(manager.count("FDSTOREREMOVE=1"), removals);
    assert_eq!(
        manager.count("READY=1"),
        ready,
        "it has been ready all the time"
    );
    assert_eq!(manager.count("STOPPING=1"), 0);
    assert_eq!(host.stop().await, Some(0));
    heard("STOPPING=1", 1).await;
}

/// Ends the worker whose number is its first argument and becomes the rest. `WNOWAIT`: its exit is still to be
/// seen by the next supervisor; `0`: the predecessor had already seen it.
const ENDS_A_WORKER: &str = r#"#!/usr/bin/env python3
import os, sys
victim, supervisor, options = int("VICTIM"), "SUPERVISOR", os.WEXITED | OPTIONS
if sys.argv[1] == "run":
    os.kill(victim, 9)
    os.waitid(os.P_PID, victim, options)
os.execv(supervisor, [supervisor, *sys.argv[1:]])
"#;

/// A worker that ends between two supervisors is a crash like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_in_the_moment_of_the_exec_is_seen_and_replaced() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    for (round, (options, seen)) in [
        ("os.WNOWAIT", "killed by signal 9"),
        ("0", "ended while the supervisor was replaced"),
    ]
    .into_iter()
    .enumerate()
    {
        let victim = host.incumbent().await.pid;
        let text = ENDS_A_WORKER
            .replace("VICTIM", &victim.to_string())
            .replace(
                "SUPERVISOR",
                &binaries::find("supervisor").display().to_string(),
            )
            .replace("OPTIONS", options);
        let binary = executable(host.path(), &format!("ends-{round}"), text.as_bytes());
        let request = control::SelfUpgradeRequest { binary };
        let _handed_over = host.client().self_upgrade(&request, |_| {}).await;
        let status = host
            .status_where("another worker serves", |status| {
                incumbent(status).is_some_and(|one| one.pid != victim && one.accepting)
                    && status.phase == "idle"
            })
            .await;
        assert_eq!(status.supervisor_pid, host.supervisor_pid());
        assert_eq!(
            status.crashes_total,
            u64::try_from(round).expect("small") + 1
        );
        assert_eq!(proc::listening_sockets(site.echo_port), 16, "carried");
        let history = host.client().history().await.expect("history");
        let crash = history.iter().rfind(|line| line.event == "crash");
        let reason = crash.and_then(|line| line.reason.clone()).expect("a crash");
        assert!(reason.contains(seen), "{reason}");
        let children = proc::children(host.supervisor_pid());
        assert!(children.iter().all(|(_, zombie)| !zombie), "{children:?}");
        let traffic = site.passing_load(20);
        traffic.flows(40).await;
        traffic.finish_clean().await;
    }
    assert_eq!(host.stop().await, Some(0));
}

/// A stop that arrives between two supervisors is not lost and does not kill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_the_moment_of_the_exec_is_obeyed_by_the_next_one() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let worker = host.incumbent().await.pid;
    let run = "kill -TERM $$\nexec \"$SUPERVISOR\" \"$@\"";
    let stopped = impostor_supervisor(host.path(), "stopped", run);
    let client = host.client();
    let request = control::SelfUpgradeRequest { binary: stopped };
    let handed_over = client.self_upgrade(&request, |_| {}).await;
    assert!(!matches!(handed_over, Ok(Some(_))), "{handed_over:?}");
    let exit = wait::until("the end", Duration::from_secs(20), || {
        let exit = host.supervisor_exit();
        async move { exit }
    })
    .await;
    assert_eq!(exit.code(), Some(0), "{exit:?}: {}", host.log());
    assert!(!proc::is_alive(worker), "it was stopped first");
}
