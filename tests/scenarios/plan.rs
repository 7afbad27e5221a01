//! A dry run says what an upgrade would do and does nothing; what it refuses, the upgrade refuses too.

use std::net::TcpListener;

use control::{ListenerChange, Plan, Verdict};
use harness::host::{Host, Outcome};
use harness::ports::free_ports;
use harness::successors::{another_lb, impostor};
use harness::traffic::Site;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

fn plan_of(outcome: &Outcome) -> Plan {
    let mut plans = outcome.events.iter().filter_map(|event| event.plan.clone());
    *plans
        .next_back()
        .unwrap_or_else(|| panic!("a plan: {}", outcome.output))
}

fn changes(plan: &Plan) -> Vec<(&str, ListenerChange)> {
    let all = plan.listeners.iter();
    all.map(|listener| (listener.name.as_str(), listener.change))
        .collect()
}

fn names_below(dir: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .expect("a directory")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Everything that the plan of [`a_dry_run_tells_everything_and_does_nothing`] has to say.
fn assert_complete(plan: &Plan) {
    let same_version = plan.from.version == plan.to.version;
    assert!(same_version && plan.from.sha256 != plan.to.sha256);
    assert_eq!(
        changes(plan),
        [
            ("echo", ListenerChange::Kept),
            ("http", ListenerChange::Kept),
            ("more", ListenerChange::Added),
            ("admin", ListenerChange::Kept),
        ]
    );
    assert_eq!(plan.listeners[0].sockets, 16);
    assert!(
        plan.listeners
            .iter()
            .all(|listener| listener.options.is_empty())
    );
    assert_eq!(plan.protocols.incumbent, plan.protocols.successor);
    assert!(!plan.protocols.supervisor.is_empty());
    assert!(plan.descriptors.incumbent > Some(40) && plan.descriptors.limit.is_some());
    assert!(plan.memory.incumbent > Some(0) && plan.memory.available > Some(0));
    assert_eq!(plan.drains.len(), 1);
}

async fn assert_fits_a_screen(host: &Host, other: &std::path::Path) {
    let text = host
        .command(&[
            "upgrade",
            "--dry-run",
            "--binary",
            &other.display().to_string(),
        ])
        .await;
    assert_eq!(text.code, 0);
    for word in [
        "version ",
        "handoff ",
        "more 127.0.0.1",
        "descriptors ",
        "memory ",
        "moves ",
    ] {
        assert!(text.output.contains(word), "{word}: {}", text.output);
    }
    assert!(text.output.lines().count() <= 24, "{}", text.output);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_tells_everything_and_does_nothing() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.long_lived_load(20);
    traffic.flows(40).await;
    let more = free_ports(1)[0];
    let added = format!(
        "[[listener]]\nname = \"more\"\naddress = \"127.0.0.1:{more}\"\nupstream = \"echo\"\n"
    );
    std::fs::write(host.config_path(), site.config(&added)).expect("written");
    let other = another_lb(host.path(), "other");
    let state = host.path().join("state/load-balancer");
    let before = (
        host.status().await,
        names_below(&state),
        names_below(&state.join("store")),
    );

    let outcome = host.upgrade(&other, &["--dry-run"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let last = outcome.events.last().expect("events");
    assert_eq!(last.verdict, Some(Verdict::Allowed));
    let plan = plan_of(&outcome);
    assert_complete(&plan);
    assert_fits_a_screen(&host, &other).await;

    let after = (
        host.status().await,
        names_below(&state),
        names_below(&state.join("store")),
    );
    assert_eq!(
        (&before.1, &before.2),
        (&after.1, &after.2),
        "nothing stays behind"
    );
    assert_eq!(before.0.generations[0].pid, after.0.generations[0].pid);
    assert_eq!(after.0.generations.len(), 1);
    assert_eq!(after.0.phase, "idle");
    traffic.finish_clean().await;

    // The real upgrade tells the same plan before it starts anything.
    let outcome = host.upgrade(&other, &["--bake", "100ms"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    assert_eq!(changes(&plan_of(&outcome)), changes(&plan));
    let order: Vec<&str> = outcome
        .events
        .iter()
        .map(|event| event.event.as_str())
        .collect();
    assert_eq!(
        order.get(..4),
        Some(&["requested", "planned", "staged", "started"][..])
    );
    assert_eq!(host.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_another_program_serves_is_refused_before_anything_starts() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let stranger = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = stranger.local_addr().expect("an address");
    let added =
        format!("[[listener]]\nname = \"more\"\naddress = \"{address}\"\nupstream = \"echo\"\n");
    std::fs::write(host.config_path(), site.config(&added)).expect("written");
    let other = another_lb(host.path(), "other");
    let store = host.path().join("state/load-balancer/store");
    let stored = names_below(&store);
    for more in [&["--dry-run"][..], &[]] {
        let outcome = host.upgrade(&other, more).await;
        assert_eq!(outcome.code, 7, "{}", outcome.output);
        assert!(
            outcome.reason().contains("is in use"),
            "{}",
            outcome.reason()
        );
        assert!(
            outcome.reason().contains("ss -ltnp"),
            "{}",
            outcome.reason()
        );
        let started = outcome.events.iter().any(|event| event.event == "started");
        assert!(!started, "{}", outcome.output);
        assert_eq!(names_below(&store), stored);
    }
    assert_eq!(host.incumbent().await.generation, 1);
    assert_eq!(host.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_descriptors_are_refused_before_anything_starts() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let other = another_lb(host.path(), "other");
    assert_eq!(host.upgrade(&other, &["--dry-run"]).await.code, 0);
    let supervisor = i32::try_from(host.supervisor_pid()).ok();
    // The supervisor itself has room enough for what it does; a successor with 33 sockets has not.
    let few = Rlimit {
        current: Some(90),
        maximum: Some(90),
    };
    prlimit(supervisor.and_then(Pid::from_raw), Resource::Nofile, few).expect("limited");
    for more in [&["--dry-run"][..], &[]] {
        let outcome = host.upgrade(&other, more).await;
        assert_eq!(outcome.code, 7, "{}", outcome.output);
        assert!(
            outcome.reason().contains("descriptors"),
            "{}",
            outcome.reason()
        );
        assert!(
            outcome.reason().contains("LimitNOFILE"),
            "{}",
            outcome.reason()
        );
    }
    assert_eq!(host.incumbent().await.generation, 1);
    assert_eq!(host.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_does_not_say_what_it_wants_is_planned_as_unknown() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    // As binaries before this did: `check` is silent about listeners.
    let older = impostor(host.path(), "older", "exec \"$LB\" \"$@\"");
    let script = std::fs::read_to_string(&older).expect("readable");
    let silent = script.replacen(
        "case",
        "case \"$1\" in check) unset ZEITWORK_PROBE;; esac\ncase",
        1,
    );
    std::fs::write(&older, silent).expect("written");
    let outcome = host.upgrade(&older, &["--dry-run"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let plan = plan_of(&outcome);
    assert_eq!(plan.listeners.len(), 3);
    assert!(
        changes(&plan)
            .iter()
            .all(|(_, change)| *change == ListenerChange::Unknown)
    );
    let told = plan
        .remarks
        .iter()
        .any(|remark| remark.contains("does not say"));
    assert!(told, "{:?}", plan.remarks);
    assert_eq!(host.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_of_a_bad_binary_or_beside_an_upgrade_answers_as_the_upgrade_would() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let missing = host.path().join("missing");
    let outcome = host.upgrade(&missing, &["--dry-run"]).await;
    assert_eq!(outcome.code, 7, "{}", outcome.output);
    assert!(outcome.reason().contains("does not exist"));
    let other = another_lb(host.path(), "other");
    let client = host.client();
    let request = control::UpgradeRequest {
        binary: other.clone(),
        bake_ms: Some(60_000),
        ready_timeout_ms: None,
        ..control::UpgradeRequest::default()
    };
    let running = tokio::spawn(async move { client.upgrade(&request, |_| {}).await });
    host.status_where("baking", |status| status.phase == "baking")
        .await;
    assert_eq!(host.upgrade(&other, &["--dry-run"]).await.code, 6);
    assert_eq!(host.command(&["abort"]).await.code, 0);
    let last = running.await.expect("joined").expect("a verdict");
    assert_eq!(last.verdict, Some(Verdict::RolledBack));
    assert_eq!(host.stop().await, Some(0));
}
