//! Live connections move to the successor: none is cut, no byte is lost, doubled or reordered, and the old process is gone.
//!
//! Thousands of them, moved dozens of times: `ZEITWORK_MOVING=8000x50` with binaries built for release; CI moves fewer.

use std::time::{Duration, Instant};

use bench::ledger::Class;
use bench::load::{Load, Shape};
use bench::target::Target;
use control::{MovedStatus, Verdict};
use harness::host::{Host, Outcome};
use harness::proc;
use harness::successors::another_lb;
use harness::traffic::{Site, Traffic};

/// Connections and moves without a variable.
const USUAL: (usize, u32) = (1500, 8);

/// How long the old process may take from the verdict to its end.
const GONE_WITHIN: Duration = Duration::from_secs(1);

fn wanted() -> (usize, u32) {
    let text = std::env::var("ZEITWORK_MOVING").unwrap_or_default();
    let numbers = text.split_once('x');
    let numbers = numbers.and_then(|(one, other)| Some((one.parse().ok()?, other.parse().ok()?)));
    numbers.unwrap_or(USUAL)
}

fn moved(outcome: &Outcome) -> MovedStatus {
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let last = outcome.events.last().expect("events");
    assert_eq!(last.verdict, Some(Verdict::Committed));
    last.moved
        .clone()
        .unwrap_or_else(|| panic!("nothing moved: {}", outcome.output))
}

async fn gone(host: &Host, pid: u32) -> Duration {
    let since = Instant::now();
    host.status_where("the old process is gone", |status| {
        status.generations.iter().all(|one| one.pid != pid)
    })
    .await;
    since.elapsed()
}

/// Numbered, checksummed blocks both ways on so many connections, each of them some times in a second or in some seconds.
fn numbered(site: &Site, connections: usize, trickle: Duration) -> Traffic {
    let address = ([127, 0, 0, 1], site.echo_port).into();
    let mut load = Load::new(Target::tcp(address), Shape::LongLived, connections);
    load.trickle = trickle;
    Traffic::of(vec![load.start().expect("the load starts")])
}

async fn all_open(traffic: &Traffic, connections: usize) {
    harness::wait::until(
        "all connections carry blocks",
        Duration::from_secs(60),
        || async {
            let ledger = traffic.snapshot();
            let enough = u64::try_from(connections).expect("few");
            (ledger.connections.started() >= enough && ledger.exchanges.count(Class::Ok) >= enough)
                .then_some(())
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_connections_move_forth_and_back_and_lose_no_byte() {
    proc::raise_descriptor_limit();
    let (connections, moves) = wanted();
    let site = Site::start();
    let mut host = Host::with_lb(&format!("workers = 2\n{}", site.config("")));
    host.start().await;
    // As much as the cores can take beside the moves.
    let trickle = Duration::from_millis(u64::try_from(connections).expect("few") * 2);
    let traffic = numbered(&site, connections, trickle);
    all_open(&traffic, connections).await;
    let other = another_lb(host.path(), "other");
    let original = harness::binaries::find("lb");
    let (mut took, mut stalls, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..moves {
        let binary = if round % 2 == 0 { &other } else { &original };
        let old = host.incumbent().await.pid;
        let outcome = host.upgrade(binary, &["--bake", "0s"]).await;
        ends.push(gone(&host, old).await);
        let moved = moved(&outcome);
        assert!(
            moved.connections >= u64::try_from(connections).expect("few"),
            "round {round}: {moved:?}"
        );
        assert!(moved.stayed.is_empty(), "round {round}: {moved:?}");
        took.push(moved.took_ms);
        stalls.push(moved.stall_max_ms);
    }
    let ledger = traffic.finish_clean().await;
    assert_eq!(
        ledger.connections.started(),
        u64::try_from(connections).expect("few"),
        "nobody had to connect again"
    );
    let stalls_max = stalls.iter().copied().fold(0.0, f64::max);
    took.sort_by(f64::total_cmp);
    let last = ends.iter().max().expect("some");
    println!(
        "{connections} connections moved {moves} times, {} blocks, 0 lost; a move takes {:.0} ms (median; most {:.0}); nobody was unserved longer than {stalls_max:.1} ms; a block and its echo p50 {:?}, p99 {:?}, most {:?}; the old process was gone after {last:?} at most",
        ledger.exchanges.started(),
        took[took.len() / 2],
        took[took.len() - 1],
        ledger.latency.quantile(0.5),
        ledger.latency.quantile(0.99),
        ledger.latency.max(),
    );
    assert!(*last < GONE_WITHIN, "{ends:?}");
}

/// Who rolls back gets what the successor has accepted, and what moved to it before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_moves_connections_back() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let early = site.long_lived_load(60);
    early.flows(120).await;
    let next = another_lb(host.path(), "next");
    let request = control::UpgradeRequest {
        binary: next,
        bake_ms: Some(60_000),
        canary: Some(vec![50]),
        step_ms: Some(500),
        migrate: Some(control::Migrate::Canary),
        ..control::UpgradeRequest::default()
    };
    let client = host.client();
    let upgrading = tokio::spawn(async move { client.upgrade(&request, |_| {}).await });
    let incumbent = host.incumbent().await.pid;
    let holds = |status: &control::Status, least: u64| {
        let mut others = status.generations.iter().filter(|one| one.pid != incumbent);
        others.any(|one| one.connections >= Some(least))
    };
    host.status_where("half of them moved in the canary", |status| {
        holds(status, 30)
    })
    .await;
    host.status_where("all moved", |status| {
        status.phase == "baking" && holds(status, 60)
    })
    .await;
    let late = site.long_lived_load(20);
    late.flows(40).await;
    assert_eq!(host.command(&["abort"]).await.code, 0);
    let last = upgrading.await.expect("joins").expect("a verdict");
    assert_eq!(last.verdict, Some(Verdict::RolledBack));
    host.status_where("the incumbent has everything", |status| {
        status.generations.len() == 1
            && status.generations[0].pid == incumbent
            && status.generations[0].connections >= Some(80)
    })
    .await;
    early.flows(60).await;
    late.flows(20).await;
    for traffic in [early, late] {
        let ledger = traffic.finish_clean().await;
        assert!(ledger.connections.started() <= 60);
    }
    let history = host.client().history().await.expect("history");
    let drained = history
        .iter()
        .find(|entry| entry.event == "drained")
        .expect("the successor left");
    let outcomes = drained.outcomes.expect("outcomes");
    assert_eq!(
        (outcomes.moved >= 80, outcomes.cut),
        (true, 0),
        "{outcomes:?}"
    );
}

/// Counted where they are: by the listener, by the backend, and as active; a backend that is gone from the new
/// configuration keeps its connections and is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_move_along_and_a_removed_backend_is_seen() {
    let mut site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.long_lived_load(40);
    traffic.flows(80).await;
    let active = |host: &Host| {
        let port = site.admin_port;
        let _ = host;
        backends(port)
    };
    let before = active(&host);
    assert_eq!(
        before.iter().map(|(_, _, count)| count).sum::<u64>(),
        40,
        "{before:?}"
    );
    let next = another_lb(host.path(), "next");
    let first = moved(&host.upgrade(&next, &["--bake", "0s"]).await);
    assert_eq!(first.connections, 40, "{first:?}");
    assert_eq!(active(&host), before, "each backend has as many as before");
    host.status_where("the supervisor is told, too", |status| {
        status.generations.len() == 1 && status.generations[0].connections == Some(40)
    })
    .await;

    let gone = site.echo_addresses()[0].clone();
    let shorter = site.config("").replace(&format!("\"{gone}\", "), "");
    assert_ne!(
        shorter,
        site.config(""),
        "the configuration has one backend less"
    );
    std::fs::write(host.config_path(), shorter).expect("written");
    let original = harness::binaries::find("lb");
    let second = moved(&host.upgrade(&original, &["--bake", "0s"]).await);
    assert_eq!(second.connections, 40, "{second:?}");
    let after = backends(site.admin_port);
    let removed = after.iter().find(|(id, _, _)| *id == gone);
    assert_eq!(
        removed.map(|(_, status, _)| status.as_str()),
        Some("removed"),
        "{after:?}"
    );
    assert_eq!(
        after.iter().map(|(_, _, count)| count).sum::<u64>(),
        40,
        "{after:?}"
    );
    traffic.flows(40).await;
    traffic.finish_clean().await;
    site.lose_an_echo_origin().await;
}

/// Name, status and connections of every backend of the echo upstream.
fn backends(admin: u16) -> Vec<(String, String, u64)> {
    let (_, text) = harness::edge::get(([127, 0, 0, 1], admin).into(), "/api/v1/backends");
    let all: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
    let echo = all.into_iter().filter(|one| one["upstream"] == "echo");
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    echo.map(|one| {
        let count = one["connections"].as_u64().unwrap_or_default();
        (word(&one["id"]), word(&one["status"]), count)
    })
    .collect()
}

/// Whoever has no room leaves the rest where it is, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_successor_has_no_descriptors_for_drains() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.long_lived_load(200);
    traffic.flows(300).await;
    let old = host.incumbent().await;
    let next = another_lb(host.path(), "next").display().to_string();
    let arguments = ["upgrade", "--json", "--binary", &next, "--bake", "3s"];
    let narrowing = async {
        let status = host
            .status_where("baking", |status| status.phase == "baking")
            .await;
        let mut others = status.generations.iter().filter(|one| one.pid != old.pid);
        proc::limit_descriptors(others.next().expect("a successor").pid, 330);
    };
    let (outcome, ()) = tokio::join!(host.command(&arguments), narrowing);
    let moved = moved(&outcome);
    let stayed: u64 = moved.stayed.values().sum();
    assert!(moved.connections > 50 && stayed > 20, "{moved:?}");
    assert!(
        moved.stayed.keys().any(|why| why.contains("descriptors")),
        "{moved:?}"
    );
    traffic.flows(400).await;
    let status = host.status().await;
    assert!(
        status.generations.iter().any(|one| one.pid == old.pid),
        "it drains: {status:?}"
    );
    traffic.finish_clean().await;
    host.status_where("the old one's end", |status| status.generations.len() == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_moves_where_a_person_says_never() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.long_lived_load(10);
    traffic.flows(20).await;
    let old = host.incumbent().await;
    let next = another_lb(host.path(), "next");
    let outcome = host
        .upgrade(&next, &["--bake", "0s", "--migrate", "never"])
        .await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    assert!(outcome.events.iter().all(|event| event.moved.is_none()));
    host.status_where("it drains with all of them", |status| {
        let mut all = status.generations.iter();
        all.any(|one| one.pid == old.pid && one.connections == Some(10))
    })
    .await;
    traffic.finish_clean().await;
    let wrong = host
        .command(&["upgrade", "--binary", "/bin/true", "--migrate", "soon"])
        .await;
    assert_eq!(wrong.code, 1, "{}", wrong.output);
    assert!(wrong.output.contains("commit, canary"), "{}", wrong.output);
}
