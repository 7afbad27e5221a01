//! Upgrades and rollbacks across versions of the handoff: today's supervisor with a worker that speaks
//! only protocol 1, by hand, and with one of a later version.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use harness::binaries;
use harness::host::Host;
use harness::successors::another_lb;
use harness::traffic::Site;

/// The worker of another version; its name decides which.
fn worker(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::copy(binaries::find("frozen-worker"), &path).expect("copied");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

async fn runs(host: &Host, version: &str) {
    let serving = host.incumbent().await;
    assert_eq!(serving.version, version, "{serving:?}");
}

async fn upgrade(host: &mut Host, binary: &Path) {
    let outcome = host.upgrade(binary, &["--bake", "700ms"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    host.serving().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_worker_is_upgraded_and_rolled_back_to_under_load() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    let frozen = worker(host.path(), "lb-frozen");
    host.set_binary(&frozen);
    host.start().await;
    runs(&host, "0.9.0").await;
    let traffic = site.passing_load(30);
    traffic.flows(100).await;

    // It comes back to the next supervisor, like a worker of today.
    let pid = host.incumbent().await.pid;
    host.kill_supervisor();
    traffic.flows(50).await;
    host.start().await;
    assert_eq!(host.incumbent().await.pid, pid);

    let current = another_lb(host.path(), "current");
    for _ in 0..2 {
        upgrade(&mut host, &current).await;
        let today = host.incumbent().await.version;
        assert_ne!(today, "0.9.0");
        traffic.flows(100).await;
        let back = host.command(&["rollback", "--json"]).await;
        assert_eq!(back.code, 0, "{}", back.output);
        host.serving().await;
        runs(&host, "0.9.0").await;
        traffic.flows(100).await;
    }

    // Aborted in the bake: the older incumbent is un-paused.
    let pid = host.incumbent().await.pid;
    let client = host.client();
    let aborting = async {
        host.status_where("baking", |status| status.phase == "baking")
            .await;
        client.ask("abort").await.expect("aborts")
    };
    let bake = ["upgrade", "--json", "--bake", "60s", "--binary"];
    let path = current.display().to_string();
    let args: Vec<&str> = bake.iter().copied().chain([path.as_str()]).collect();
    let (outcome, _) = tokio::join!(host.command(&args), aborting);
    assert_eq!(outcome.code, 4, "{}", outcome.output);
    host.serving().await;
    assert_eq!(host.incumbent().await.pid, pid);
    traffic.flows(50).await;
    traffic.finish_clean().await;
    assert_eq!(host.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_worker_is_upgraded_to_and_rolled_back_from_under_load() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let today = host.incumbent().await.version;
    let traffic = site.passing_load(30);
    traffic.flows(100).await;
    let newer = worker(host.path(), "lb-newer");
    upgrade(&mut host, &newer).await;
    runs(&host, "9.0.0").await;
    traffic.flows(100).await;
    let pid = host.incumbent().await.pid;
    host.kill_supervisor();
    host.start().await;
    assert_eq!(host.incumbent().await.pid, pid);
    let back = host.command(&["rollback", "--json"]).await;
    assert_eq!(back.code, 0, "{}", back.output);
    host.serving().await;
    runs(&host, &today).await;
    traffic.flows(100).await;
    traffic.finish_clean().await;
    assert_eq!(host.stop().await, Some(0));
}
