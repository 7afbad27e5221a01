//! Self-upgrades that do not happen, and one that goes wrong after the point of no return.

use std::path::PathBuf;
use std::time::Duration;

use control::Verdict;
use harness::host::{Host, incumbent};
use harness::service_manager::ServiceManager;
use harness::successors::{another_lb, another_supervisor, impostor_supervisor, script};
use harness::traffic::Site;
use harness::{binaries, proc, wait};
use rustix::process::Signal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_middle_of_a_swap_it_is_refused_and_the_swap_goes_on() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.passing_load(20);
    let next = another_supervisor(host.path(), "next");
    let client = host.client();
    let request = control::UpgradeRequest {
        binary: another_lb(host.path(), "other"),
        bake_ms: Some(3_000),
        ready_timeout_ms: None,
        ..control::UpgradeRequest::default()
    };
    let swapping = tokio::spawn(async move { client.upgrade(&request, |_| {}).await });
    let baking = host
        .status_where("baking", |status| status.phase == "baking")
        .await;
    let outcome = host.self_upgrade(&next).await;
    assert_eq!(outcome.code, 6, "{}", outcome.output);
    let reason = outcome.reason();
    assert!(reason.contains("in the middle of a swap"), "{reason}");
    assert!(reason.contains("baking"), "{reason}");
    let last = swapping.await.expect("joins").expect("a verdict");
    assert_eq!(last.verdict, Some(Verdict::Committed), "{last:?}");
    // Afterwards it is not refused, and while it runs a swap is.
    let outcome = host.self_upgrade(&next).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    assert_eq!(host.status().await.supervisor_pid, baking.supervisor_pid);
    traffic.flows(20).await;
    traffic.finish_clean().await;
}

struct Case {
    name: &'static str,
    make: fn(&Host) -> PathBuf,
    reason: &'static str,
}

const CASES: [Case; 9] = [
    Case {
        name: "missing",
        make: |host| host.path().join("nowhere"),
        reason: "does not exist for the supervisor",
    },
    Case {
        name: "another program",
        make: |_| PathBuf::from("/bin/true"),
        reason: "no supervisor that can be upgraded in place",
    },
    Case {
        name: "a worker",
        make: |_| binaries::find("lb"),
        reason: "service load-balancer, and no supervisor",
    },
    Case {
        name: "hangs",
        make: |host| script(host.path(), "hangs", "exec sleep 600"),
        reason: "did not end within",
    },
    Case {
        name: "fails at --version",
        make: |host| script(host.path(), "fails", "echo no >&2; exit 3"),
        reason: "`--version` failed",
    },
    Case {
        name: "knows no adoption",
        make: |host| {
            let real = binaries::find("supervisor");
            let body = format!(
                "case \"$1\" in adopt) echo 'unrecognized subcommand' >&2; exit 2;; esac\nexec {} \"$@\"",
                real.display()
            );
            script(host.path(), "old", &body)
        },
        reason: "does not go on from this state (exit code 2):\nunrecognized subcommand",
    },
    Case {
        name: "says yes to everything",
        make: |host| {
            let real = binaries::find("supervisor");
            let body = format!(
                "case \"$1\" in --version) exec {} \"$@\";; esac\necho fine",
                real.display()
            );
            script(host.path(), "yes", &body)
        },
        reason: "does not go on from this state (exit code 0):\nfine",
    },
    Case {
        name: "refuses the settings",
        make: |host| {
            let real = binaries::find("supervisor");
            let settings = host.path().join("supervisor.toml");
            let body = format!(
                "case \"$1\" in adopt) echo 'bkae = 3' > {settings}; {real} \"$@\"; code=$?; echo > {settings}; exit $code;; esac\nexec {real} \"$@\"",
                settings = settings.display(),
                real = real.display(),
            );
            script(host.path(), "picky", &body)
        },
        reason: "bkae",
    },
    Case {
        // Its interpreter is gone when its turn comes: execve(2) fails.
        name: "cannot be executed after all",
        make: |host| {
            let shell = host.path().join("shell");
            let _ = std::fs::remove_file(&shell);
            std::os::unix::fs::symlink("/bin/sh", &shell).expect("linked");
            let text = format!(
                "#!{shell}\ncase \"$1\" in adopt) rm {shell};; esac\nexec {} \"$@\"\n",
                binaries::find("supervisor").display(),
                shell = shell.display(),
            );
            harness::successors::executable(host.path(), "vanishes", text.as_bytes())
        },
        reason: "cannot be executed: No such file",
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binary_that_cannot_go_on_is_refused_and_everything_is_as_before() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.set_supervisor_config("");
    host.start().await;
    let traffic = site.load(40);
    traffic.flows(50).await;
    let before = host
        .status_where("its own digest", |status| {
            !status.supervisor_sha256.is_empty()
        })
        .await;
    let quiet = proc::descriptors(host.supervisor_pid());
    for case in &CASES {
        let binary = (case.make)(&host);
        let outcome = host.self_upgrade(&binary).await;
        assert_eq!(outcome.code, 7, "{}: {}", case.name, outcome.output);
        let reason = outcome.reason();
        assert!(reason.contains(case.reason), "{}: {reason}", case.name);
        let now = host.serving().await;
        assert_eq!(now.supervisor_pid, before.supervisor_pid, "{}", case.name);
        assert_eq!(
            now.supervisor_sha256, before.supervisor_sha256,
            "{}",
            case.name
        );
        let pid = |status: &control::Status| incumbent(status).expect("serves").pid;
        assert_eq!(pid(&now), pid(&before), "{}", case.name);
        traffic.flows(20).await;
    }
    let history = host.client().history().await.expect("history");
    assert_eq!(history.len(), CASES.len());
    for line in &history {
        assert_eq!(line.verdict, Some(Verdict::Refused), "{line:?}");
    }
    // A client that has its answer is gone a moment later.
    let supervisor = host.supervisor_pid();
    wait::until(
        "as few descriptors as before",
        Duration::from_secs(10),
        || async { (proc::descriptors(supervisor) <= quiet).then_some(()) },
    )
    .await;
    // The same process still does everything, a stop by SIGTERM too.
    let other = another_lb(host.path(), "other");
    assert_eq!(host.upgrade(&other, &["--bake", "200ms"]).await.code, 0);
    traffic.finish_clean().await;
    proc::signal(host.supervisor_pid(), Signal::TERM);
    let exit = wait::until("the end", Duration::from_secs(20), || {
        let exit = host.supervisor_exit();
        async move { exit }
    })
    .await;
    assert_eq!(exit.code(), Some(0));
}

/// The answer to a reload would be lost, and with it what the reload changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_reload_runs_it_is_refused_and_afterwards_it_is_not() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    let manager = ServiceManager::listen(host.path());
    host.set_variable("NOTIFY_SOCKET", &manager.path().display().to_string());
    host.start().await;
    let next = another_supervisor(host.path(), "next");
    let worker = host.incumbent().await.pid;
    proc::signal(worker, Signal::STOP);
    let client = host.client();
    let reloading = tokio::spawn(async move { client.ask("reload").await });
    wait::until("the reload", Duration::from_secs(5), || async {
        (manager.count("RELOADING=1") > 0).then_some(())
    })
    .await;
    let outcome = host.self_upgrade(&next).await;
    let reason = outcome.reason();
    assert!(reason.contains("a reload is running"), "{reason}");
    assert_eq!(outcome.code, 7, "{}", outcome.output);
    proc::signal(worker, Signal::CONT);
    let answer = reloading.await.expect("joins").expect("an answer");
    assert!(answer.ok, "{}", answer.message);
    let outcome = host.self_upgrade(&next).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_while_the_next_binary_is_looked_at_ends_both() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let slow = script(host.path(), "slow", "exec sleep 600");
    let client = host.client();
    let request = control::SelfUpgradeRequest { binary: slow };
    let asking = tokio::spawn(async move { client.self_upgrade(&request, |_| {}).await });
    host.status_where("it is looked at", |status| status.phase == "self-upgrade")
        .await;
    let again = host
        .self_upgrade(&another_supervisor(host.path(), "next"))
        .await;
    assert_eq!(again.code, 6, "one at a time: {}", again.output);
    assert_eq!(host.stop().await, Some(0));
    let last = asking.await.expect("joins").expect("an answer");
    let last = last.expect("a verdict");
    assert_eq!(last.verdict, Some(Verdict::Refused));
    let reason = last.reason.expect("a reason");
    assert!(reason.contains("stopping"), "{reason}");
}

/// The worst case: it passed every check, became the process, and ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_next_supervisor_that_dies_at_once_is_survived_and_told() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.load(60);
    traffic.flows(100).await;
    let worker = host.incumbent().await;
    let dies = impostor_supervisor(host.path(), "dies", "exit 3");
    let args = ["upgrade", "--self", "--json", "--binary"].map(str::to_owned);
    let mut asking = tokio::process::Command::new(binaries::find("supervisor"))
        .args(args)
        .arg(&dies)
        .arg("--runtime-dir")
        .arg(host.path().join("run"))
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("starts");
    let exit = wait::until("the new one's end", Duration::from_secs(20), || {
        let exit = host.supervisor_exit();
        async move { exit }
    })
    .await;
    assert_eq!(exit.code(), Some(3), "the impostor's own exit");
    assert!(proc::is_alive(worker.pid));
    traffic.flows(100).await;
    // What systemd does then: the unit's own binary starts.
    host.start().await;
    let after = host.incumbent().await;
    assert_eq!(
        (after.pid, after.generation),
        (worker.pid, worker.generation)
    );
    let code = tokio::time::timeout(Duration::from_secs(60), asking.wait()).await;
    let code = code
        .expect("the command ends")
        .expect("is waited for")
        .code();
    assert_eq!(code, Some(4), "failed, and everything is as it was");
    let history = host.client().history().await.expect("history");
    let kinds: Vec<_> = history
        .iter()
        .map(|line| (line.event.as_str(), line.verdict))
        .collect();
    assert_eq!(
        kinds,
        [
            ("self-upgrade", Some(Verdict::RolledBack)),
            ("re-adopted", None)
        ]
    );
    traffic.flows(100).await;
    traffic.finish_clean().await;
    assert_eq!(proc::listening_sockets(site.echo_port), 16);
    assert_eq!(host.stop().await, Some(0));
}

/// It lives, and what it was left did not reach it: it begins as after a crash, in the same process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_next_supervisor_without_its_inheritance_finds_the_workers_as_after_a_crash() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.load(40);
    traffic.flows(50).await;
    let before = host.status().await;
    let run = "exec \"$SUPERVISOR\" \"$@\" </dev/null";
    let loses = impostor_supervisor(host.path(), "loses", run);
    let outcome = host.self_upgrade(&loses).await;
    assert_eq!(outcome.code, 4, "{}", outcome.output);
    let reason = outcome.reason();
    assert!(reason.contains("did not take over"), "{reason}");
    let after = host.serving().await;
    assert_eq!(after.supervisor_pid, before.supervisor_pid);
    assert_eq!(after.listeners, before.listeners);
    let worker = |status: &control::Status| incumbent(status).expect("serves").pid;
    assert_eq!(worker(&after), worker(&before));
    assert!(host.log().contains("the predecessor's state is lost"));
    let other = another_lb(host.path(), "other");
    let outcome = host.upgrade(&other, &["--bake", "200ms"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    traffic.flows(50).await;
    traffic.finish_clean().await;
    assert_eq!(host.stop().await, Some(0));
}

/// The other moment in which a supervisor can die: it has taken over, and the workers are not back yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_the_workers_return_is_survived_and_told() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let worker = host.incumbent().await;
    let next = another_supervisor(host.path(), "next");
    // It cannot return, so that the moment lasts.
    proc::signal(worker.pid, Signal::STOP);
    let client = host.client();
    let request = control::SelfUpgradeRequest { binary: next };
    let handed_over = client.self_upgrade(&request, |_| {}).await;
    assert!(matches!(handed_over, Ok(None)), "{handed_over:?}");
    let exe = format!("/proc/{}/exe", host.supervisor_pid());
    wait::until("the new binary", Duration::from_secs(10), || async {
        let exe = std::fs::read_link(&exe).expect("lives");
        exe.ends_with("supervisor-next").then_some(())
    })
    .await;
    let status = host.status_where("it answers", |_| true).await;
    assert_eq!(status.phase, "self-upgrade");
    let busy = host.upgrade(&another_lb(host.path(), "other"), &[]).await;
    assert_eq!(busy.code, 6, "{}", busy.output);
    host.kill_supervisor();
    proc::signal(worker.pid, Signal::CONT);
    host.start().await;
    let after = host.incumbent().await;
    assert_eq!(
        (after.pid, after.generation),
        (worker.pid, worker.generation)
    );
    let history = host.client().history().await.expect("history");
    let told = history.iter().find(|line| line.event == "self-upgrade");
    assert_eq!(told.expect("a line").verdict, Some(Verdict::RolledBack));
    assert_eq!(host.stop().await, Some(0));
}

/// The dry run, asked directly: a state of tomorrow is refused by its number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_of_a_newer_form_is_refused_by_the_dry_run() {
    let first = include_str!("../../supervisor/src/carried.json");
    let newer = first.replacen("\"format\": 1", "\"format\": 2", 1);
    assert_ne!(first, newer);
    let scratch = tempfile::tempdir().expect("scratch");
    for (state, name, code, said) in [
        (first, "load-balancer", 0, "can go on"),
        (newer.as_str(), "load-balancer", 7, "the state has form 2"),
        (first, "edge-proxy", 7, "of the service \"load-balancer\""),
        ("", "load-balancer", 7, "not understood"),
    ] {
        let path = scratch.path().join("state.json");
        std::fs::write(&path, state).expect("written");
        let output = tokio::process::Command::new(binaries::find("supervisor"))
            .args(["adopt", "--check", "--", "run", "--name", name])
            .args(["--binary", "/nowhere/lb", "--", "run"])
            .stdin(std::fs::File::open(&path).expect("opens"))
            .output()
            .await
            .expect("runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(said), "{text}");
    }
}
