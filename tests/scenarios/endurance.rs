//! Many swaps in a row under load: nothing is lost, and nothing grows with their number.
//!
//! `scripts/nightly` runs a thousand (`ZEITWORK_SWAPS=1000`); its result is in docs/reliability.md.

use std::time::{Duration, Instant};

use control::Role;
use harness::host::Host;
use harness::proc;
use harness::successors::another_lb;
use harness::traffic::Site;

/// Long enough for a load to meet the swap.
const BAKE: &str = "100ms";

/// Swaps without a variable: what CI runs.
const SWAPS: u32 = 200;

/// Between two looks at what the processes use.
const EVERY: u32 = 20;

/// Looks that are not compared: allocators and caches warm up.
const WARM_UP: usize = 2;

/// How much the supervisor's memory may grow with each swap, in KiB. Sized: a history of a thousand swaps is kept on
/// disk only; 1 MiB in a thousand is the noise of an allocator.
const SLOPE_KIB_MAX: f64 = 1.0;

/// How long wake-ups are counted when nothing happens.
const QUIET: Duration = Duration::from_secs(3);

/// What is used, while only one generation lives.
#[derive(Clone, Copy, Debug)]
struct Look {
    swaps: u32,
    supervisor_descriptors: usize,
    supervisor_kib: u64,
    supervisor_threads: u64,
    worker_descriptors: usize,
    worker_kib: u64,
}

async fn look(host: &Host, swaps: u32) -> Look {
    let quiet = host
        .status_where("old generations gone", |status| {
            status.generations.len() == 1
        })
        .await;
    let worker = &quiet.generations[0];
    assert_eq!(worker.role, Role::Incumbent);
    let supervisor = host.supervisor_pid();
    Look {
        swaps,
        supervisor_descriptors: proc::descriptors(supervisor).expect("alive"),
        supervisor_kib: proc::resident_kib(supervisor).expect("alive"),
        supervisor_threads: proc::threads(supervisor).expect("alive"),
        worker_descriptors: proc::descriptors(worker.pid).expect("alive"),
        worker_kib: proc::resident_kib(worker.pid).expect("alive"),
    }
}

/// Wake-ups a second of the supervisor and of the worker, without any client.
async fn wakes(host: &Host) -> [f64; 2] {
    let pids = [host.supervisor_pid(), host.incumbent().await.pid];
    let count = || pids.map(|pid| proc::sleeps(pid).expect("alive"));
    let (before, begun) = (count(), Instant::now());
    tokio::time::sleep(QUIET).await;
    let (after, took) = (count(), begun.elapsed().as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = |place: usize| (after[place] - before[place]) as f64 / took;
    [rate(0), rate(1)]
}

/// The same once the deadlines of the last connections are past: as few as before, or what was seen last.
async fn wakes_again(host: &Host, before: [f64; 2]) -> [f64; 2] {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let now = wakes(host).await;
        if is_as_quiet(before, now) || Instant::now() > deadline {
            return now;
        }
    }
}

fn is_as_quiet(before: [f64; 2], after: [f64; 2]) -> bool {
    let mut both = before.into_iter().zip(after);
    both.all(|(before, after)| after < before * 1.2 + 5.0)
}

/// Least squares: how much `value` grows with each swap.
#[expect(clippy::cast_precision_loss, reason = "kibibytes against a threshold")]
fn slope(looks: &[Look], value: impl Fn(&Look) -> u64) -> f64 {
    let count = looks.len() as f64;
    let mean = |of: &dyn Fn(&Look) -> f64| looks.iter().map(of).sum::<f64>() / count;
    let x = mean(&|look| f64::from(look.swaps));
    let y = mean(&|look| value(look) as f64);
    let along = |look: &Look| (f64::from(look.swaps) - x) * (value(look) as f64 - y);
    let across = |look: &Look| (f64::from(look.swaps) - x).powi(2);
    looks.iter().map(along).sum::<f64>() / looks.iter().map(across).sum::<f64>()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_swaps_in_a_row_lose_nothing_and_leave_nothing_behind() {
    let wanted = std::env::var("ZEITWORK_SWAPS").ok();
    let wanted = wanted.and_then(|text| text.parse().ok()).unwrap_or(SWAPS);
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.set_supervisor_config("drain_timeout = \"20s\"\n");
    host.start().await;
    let wakes_before = wakes(&host).await;
    let traffic = site.passing_load(60);
    traffic.flows(100).await;
    let other = another_lb(host.path(), "other");
    let original = harness::binaries::find("lb");
    let (mut looks, begun) = (Vec::new(), Instant::now());
    for round in 1..=wanted {
        let binary = if round % 2 == 1 { &other } else { &original };
        let outcome = host.upgrade(binary, &["--bake", BAKE]).await;
        assert_eq!(outcome.code, 0, "swap {round}: {}", outcome.output);
        if round.is_multiple_of(EVERY) {
            looks.push(look(&host, round).await);
        }
    }
    let took = begun.elapsed().as_secs_f64();
    let ledger = traffic.finish_clean().await;
    let wakes_after = wakes_again(&host, wakes_before).await;
    let warm = looks.get(WARM_UP..).expect("at least a hundred swaps");
    let supervisor_slope = slope(warm, |look| look.supervisor_kib);
    let worker_slope = slope(warm, |look| look.worker_kib);
    println!(
        "{wanted} swaps in {took:.0} s under {} connections and {} exchanges, 0 lost; longest stall {:?}; memory per swap: supervisor {supervisor_slope:+.2} KiB, worker {worker_slope:+.2} KiB; wake-ups a second without clients (supervisor, worker): {wakes_before:.1?} before, {wakes_after:.1?} after; first {:?}; last {:?}",
        ledger.connections.started(),
        ledger.exchanges.started(),
        ledger.longest_stall().map(|stall| stall.lasted),
        warm.first(),
        warm.last(),
    );
    let (first, last) = (warm[0], warm[warm.len() - 1]);
    assert!(
        last.supervisor_descriptors <= first.supervisor_descriptors + 2
            && last.supervisor_threads <= first.supervisor_threads,
        "{looks:#?}"
    );
    // Each worker is new: what grows is what it was handed.
    assert!(
        last.worker_descriptors <= first.worker_descriptors + 130,
        "{looks:#?}"
    );
    assert!(supervisor_slope < SLOPE_KIB_MAX, "{looks:#?}");
    assert!(worker_slope < 4.0 * SLOPE_KIB_MAX, "{looks:#?}");
    assert!(
        is_as_quiet(wakes_before, wakes_after),
        "{wakes_before:?} {wakes_after:?}"
    );
    let children = proc::children(host.supervisor_pid());
    assert_eq!(children.len(), 1, "one worker: {children:?}");
    assert!(children.iter().all(|(_, zombie)| !zombie), "{children:?}");
    let stored = std::fs::read_dir(host.path().join("state/load-balancer/store")).expect("store");
    assert!(
        stored.count() <= 2,
        "the store keeps committed and previous"
    );
    assert_eq!(host.stop().await, Some(0));
}
