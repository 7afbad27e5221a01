//! The zoo of successors that look good until clients reach them: whatever their vice, the incumbent serves again, the
//! upgrade ends with 4 and a reason that names it, and nothing of them is left.

use std::time::Duration;

use bench::ledger::Class;
use bench::load::{Expect, Load, Shape};
use bench::target::Target;
use harness::edge::Site as EdgeSite;
use harness::host::{Host, incumbent};
use harness::successors::{impostor, impostor_of, rogue};
use harness::traffic::{Site, Traffic};
use harness::wait;

/// Whether the clients that the successor accepted itself may have lost something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loses {
    Nothing,
    ItsOwn,
}

async fn rolled_back(vice: &str, reason: &str, loses: Loses) -> Host {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.set_supervisor_config("drain_timeout = \"2s\"\n");
    host.start().await;
    let traffic = site.rapid_load(12);
    traffic.flows(300).await;
    let before = host.incumbent().await.pid;
    let bad = rogue(host.path(), vice);
    let outcome = host.upgrade(&bad, &["--bake", "50s"]).await;
    assert_eq!(outcome.code, 4, "{vice}: {}", outcome.output);
    assert!(
        outcome.reason().contains(reason),
        "{vice}: {}",
        outcome.reason()
    );
    let now = host.serving().await;
    assert_eq!(incumbent(&now).map(|one| one.pid), Some(before), "{vice}");
    traffic.flows(300).await;
    let is_alone =
        |status: &control::Status| status.generations.len() == 1 && status.left_behind.is_empty();
    host.status_where("nothing of it is left", is_alone).await;
    wait::until("its processes' end", Duration::from_secs(10), || async {
        still_runs(&bad).is_empty().then_some(())
    })
    .await;
    let ledger = traffic.finish().await;
    for class in [Class::Refused, Class::Hung] {
        assert_eq!(ledger.count(class), 0, "{vice}: {:#?}", ledger.examples);
    }
    if loses == Loses::Nothing {
        assert!(ledger.is_clean(), "{vice}: {:#?}", ledger.examples);
    }
    host
}

/// Processes of this program, from the store or from here.
fn still_runs(program: &std::path::Path) -> Vec<u32> {
    let wanted = std::fs::read(program).expect("written").len();
    let processes = std::fs::read_dir("/proc").expect("proc");
    let pids = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let exe = format!("/proc/{pid}/exe");
        let path = std::fs::read_link(&exe).unwrap_or_default();
        let is_ours = path.starts_with(program.parent().expect("a folder"));
        let length = std::fs::metadata(&exe)
            .map(|data| data.len())
            .unwrap_or_default();
        is_ours && usize::try_from(length) == Ok(wanted)
    })
    .collect()
}

/// Without a vice it stays: what the others end for is their vice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_without_a_vice_is_committed() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.set_supervisor_config("bake = \"1s\"\n");
    host.start().await;
    let traffic = site.rapid_load(12);
    traffic.flows(300).await;
    let good = rogue(host.path(), "good");
    let outcome = host.upgrade(&good, &["--bake", "12s"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let outcome = host.command(&["rollback", "--json"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    traffic.finish_clean().await;
    assert_eq!(host.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow() {
    rolled_back("slow", "half of the answers take more than", Loses::Nothing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaks_memory() {
    rolled_back("leaks-memory", "memory grows", Loses::Nothing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaks_descriptors() {
    rolled_back("leaks-descriptors", "descriptors grow", Loses::Nothing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_accepts() {
    rolled_back("never-accepts", "it accepts nobody: ", Loses::Nothing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cannot_be_ended() {
    // It goes on accepting until it is killed, with whom it has then.
    let host = rolled_back("stubborn", "memory grows", Loses::ItsOwn).await;
    let log = host.log();
    assert!(log.contains("did not end in time: killed"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_children_behind() {
    let reason = "and left 2 processes behind";
    let host = rolled_back("leaves-children", reason, Loses::ItsOwn).await;
    let history = host.client().history().await.expect("is told");
    let left = history.iter().find(|entry| entry.event == "left-behind");
    assert!(left.is_some(), "{history:?}");
}

/// Told to end before it was ready, it does not, and has no time to finish anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_ready_and_deaf_to_signals() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.passing_load(12);
    traffic.flows(50).await;
    let deaf = impostor(
        host.path(),
        "deaf",
        "trap '' TERM INT HUP; while :; do sleep 1; done",
    );
    let outcome = host.upgrade(&deaf, &["--ready-timeout", "1s"]).await;
    assert_eq!(outcome.code, 4, "{}", outcome.output);
    assert!(
        outcome.reason().contains("did not become ready within 1s"),
        "{}",
        outcome.reason()
    );
    host.status_where("only the incumbent", |status| status.generations.len() == 1)
        .await;
    traffic.finish_clean().await;
}

/// Half a minute into the bake: the incumbent has been parked all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_after_thirty_seconds() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.passing_load(12);
    traffic.flows(50).await;
    let before = host.incumbent().await.pid;
    let dies = impostor(
        host.path(),
        "dies",
        "(sleep 30; kill -9 $$) & exec \"$LB\" \"$@\"",
    );
    let outcome = host.upgrade(&dies, &["--bake", "50s"]).await;
    assert_eq!(outcome.code, 4, "{}", outcome.output);
    assert!(
        outcome.reason().contains("killed by signal 9"),
        "{}",
        outcome.reason()
    );
    let now = host.serving().await;
    assert_eq!(incumbent(&now).map(|one| one.pid), Some(before));
    traffic.flows(50).await;
    let ledger = traffic.finish().await;
    for class in [Class::Refused, Class::Hung] {
        assert_eq!(ledger.count(class), 0, "{:#?}", ledger.examples);
    }
    assert_eq!(ledger.unaccounted(), 0);
}

/// It answers, and every answer is a 502 of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_answers_with_errors() {
    let site = EdgeSite::start();
    let (ports, config) = site.config_on_own_ports("", "");
    let mut host = Host::with_edge(&config);
    // It would find them before any client does.
    host.set_supervisor_config("self_test = false\n");
    host.start().await;
    let target = Target::http(([127, 0, 0, 1], ports[1]).into(), "/bytes/500");
    let mut load = Load::new(target, Shape::Short, 12);
    load.expect = Expect::Complete;
    load.pause = Duration::from_millis(5);
    let traffic = Traffic::of(vec![load.start().expect("the load starts")]);
    traffic.flows(200).await;
    let before = host.incumbent().await.pid;
    let backends = "[upstream.http]\nbackends = [";
    assert!(config.contains(backends));
    let broken = config.replace(backends, &format!("{backends}\"127.0.0.1:1\"] #"));
    let path = host.path().join("broken.toml");
    std::fs::write(&path, broken).expect("written");
    let run = format!("exec \"$REAL\" run --config {}", path.display());
    let bad = impostor_of("edge", host.path(), "broken", &run);
    let outcome = host.upgrade(&bad, &["--bake", "50s"]).await;
    assert_eq!(outcome.code, 4, "{}", outcome.output);
    let reason = outcome.reason();
    assert!(
        reason.contains("error rate") && reason.contains("the incumbent: 0.0 %"),
        "{reason}"
    );
    let now = host.serving().await;
    assert_eq!(incumbent(&now).map(|one| one.pid), Some(before));
    traffic.flows(200).await;
    let ledger = traffic.finish().await;
    for class in [Class::Refused, Class::Hung] {
        assert_eq!(ledger.count(class), 0, "{:#?}", ledger.examples);
    }
}
