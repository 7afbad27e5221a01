//! The harness that judges our swap, pointed at others: the same origins, clients and ledger, and each proxy's own way to
//! become its next version without losing anybody.
//!
//! `scripts/compare-reliability` runs it; what came of it is in docs/reliability.md.

mod cost;
mod haproxy;
mod live;
mod nginx;
mod ours;
mod pingora;
mod processes;
mod row;
mod site;

use std::time::{Duration, Instant};

use harness::traffic::Traffic;
use harness::wait;

use haproxy::Haproxy;
use nginx::Nginx;
use ours::Ours;
use pingora::Pingora;
use row::Row;
use site::{Layer, Site};

/// Swaps in a row, unless ZEITWORK_SWAPS says otherwise.
const SWAPS: u32 = 20;

/// Streams that begin before each swap and stay to the end.
const STREAMS: usize = 4;

/// Load between two swaps.
const BETWEEN: Duration = Duration::from_millis(500);

/// How long old processes are waited for when their clients have gone.
const LEAVING: Duration = Duration::from_secs(15);

/// A proxy that can be swapped.
trait Contender {
    fn name(&self) -> String;

    /// Becomes its next version in its own way; false: it cannot now.
    async fn swap(&mut self) -> bool;

    /// All of its processes that are alive.
    fn processes(&self) -> Vec<u32>;

    /// How many of them a service of one generation has.
    fn expected(&self) -> usize;

    /// Ends it.
    async fn stop(self);
}

fn swaps() -> u32 {
    let wanted = std::env::var("ZEITWORK_SWAPS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(SWAPS)
}

async fn judge<C: Contender>(mut contender: C, site: &Site) -> Row {
    let wanted = swaps();
    let passing = site.passing_load();
    let mut lasting = Vec::new();
    passing.flows(200).await;
    let (mut done, mut took) = (0, Vec::new());
    for _ in 0..wanted {
        // Every generation has some who stay.
        lasting.push(site.lasting_load(STREAMS));
        tokio::time::sleep(BETWEEN).await;
        let begun = Instant::now();
        if !contender.swap().await {
            continue;
        }
        done += 1;
        took.push(begun.elapsed());
    }
    let lasting = Traffic::of(lasting);
    passing.flows(100).await;
    let all = contender.processes();
    let old = all.len().saturating_sub(contender.expected());
    let resident = all
        .iter()
        .filter_map(|pid| harness::proc::resident_kib(*pid));
    let resident_kib: u64 = resident.sum();
    let (passing, lasting) = (passing.finish().await, lasting.finish().await);
    let begun = Instant::now();
    while contender.processes().len() > contender.expected() && begun.elapsed() < LEAVING {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let stay = contender
        .processes()
        .len()
        .saturating_sub(contender.expected());
    let row = Row {
        name: contender.name(),
        wanted,
        done,
        took,
        passing,
        lasting,
        old,
        resident_kib,
        stay,
    };
    contender.stop().await;
    row
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_load_for_everybody() {
    let mut rows = Vec::new();
    let site = Site::start(Layer::Four);
    rows.push(judge(Ours::start(&site).await, &site).await);
    assert!(rows[0].is_clean(), "{}", rows[0].line());
    let site = Site::start(Layer::Four);
    rows.push(judge(Haproxy::start(&site).await, &site).await);
    let site = Site::start(Layer::Seven);
    rows.push(judge(Ours::start(&site).await, &site).await);
    assert!(rows[2].is_clean(), "{}", rows[2].line());
    let site = Site::start(Layer::Seven);
    rows.push(judge(Haproxy::start(&site).await, &site).await);
    for way in nginx::WAYS {
        let site = Site::start(Layer::Seven);
        rows.push(judge(Nginx::start(&site, way).await, &site).await);
    }
    if let Some(built) = pingora::built() {
        let site = Site::start(Layer::Seven);
        rows.push(judge(Pingora::start(&site, &built).await, &site).await);
    }
    row::write(&rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_swap_costs() {
    let mut costs = Vec::new();
    for layer in [Layer::Four, Layer::Seven] {
        let site = Site::start(layer);
        costs.push(cost::measure(Ours::start(&site).await, &site).await);
        assert!(
            costs.iter().all(cost::Cost::is_clean),
            "{}",
            costs[0].line()
        );
        let site = Site::start(layer);
        costs.push(cost::measure(Haproxy::start(&site).await, &site).await);
    }
    let site = Site::start(Layer::Seven);
    let way = nginx::WAYS[0];
    costs.push(cost::measure(Nginx::start(&site, way).await, &site).await);
    cost::write(&costs);
}

/// So many live connections; a WebSocket costs the client more than a stream of bytes.
const LIVE: [usize; 2] = [8000, 3000];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_of_live_connections() {
    let mut rows = Vec::new();
    for (layer, connections) in [Layer::Four, Layer::Seven].into_iter().zip(LIVE) {
        let site = Site::start(layer);
        rows.push(live::measure(Ours::start(&site).await, &site, connections).await);
        let ours = rows.last().expect("just measured");
        assert!(ours.is_clean() && ours.has_left(), "{}", ours.line());
        let site = Site::start(layer);
        rows.push(live::measure(Haproxy::start(&site).await, &site, connections).await);
    }
    let site = Site::start(Layer::Seven);
    let way = nginx::WAYS[0];
    rows.push(live::measure(Nginx::start(&site, way).await, &site, LIVE[1]).await);
    live::write(&rows);
}

/// Waits until the proxy lets somebody through.
async fn until_answering(site: &Site) {
    wait::until("the proxy answers", Duration::from_secs(20), || async {
        let address = site.web();
        let connected = tokio::net::TcpStream::connect(address).await;
        connected.is_ok().then_some(())
    })
    .await;
}
