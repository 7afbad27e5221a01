//! Thousands of live connections meet a swap: what becomes of them, of the old process, and of everybody else's latency.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use bench::ledger::{Class, Latency, Ledger};
use harness::{proc, wait};

use crate::Contender;
use crate::cost::{AROUND, Meter};
use crate::site::Site;

/// Load before the swap; the same after it.
const STEADY: Duration = Duration::from_secs(8);

/// How long the old process is watched after its swap.
const WATCH: Duration = Duration::from_secs(20);

/// What became of them.
pub(crate) struct Live {
    name: String,
    connections: usize,
    took: Duration,
    /// From the swap's end; `None`: it is still there when the watch ends.
    old_left: Option<Duration>,
    /// Resident memory of all processes, before the swap and at the end of the watch.
    resident_kib: (u64, u64),
    cpu_ms: f64,
    around: Latency,
    steady: Latency,
    live: Ledger,
    others: Ledger,
}

fn resident(processes: &[u32]) -> u64 {
    processes
        .iter()
        .filter_map(|pid| proc::resident_kib(*pid))
        .sum()
}

/// One swap with so many live connections and a load of fixed rates beside them.
pub(crate) async fn measure<C: Contender>(
    mut contender: C,
    site: &Site,
    connections: usize,
) -> Live {
    proc::raise_descriptor_limit();
    let live = site.live_load(connections);
    wait::until("all of them are open", Duration::from_secs(90), || async {
        let ledger = live.snapshot();
        let all = u64::try_from(connections).expect("few");
        (ledger.exchanges.count(Class::Ok) >= all).then_some(())
    })
    .await;
    let begun = Instant::now();
    let others = site.steady_load();
    others.flows(1000).await;
    let mut meter = Meter::default();
    let before = meter.read(&contender.processes());
    let steady_cpu = meter.watch(&contender, STEADY).await.saturating_sub(before);
    let resident_before = resident(&contender.processes());
    let from = meter.read(&contender.processes());
    let start = Instant::now();
    assert!(contender.swap().await, "{} swaps", contender.name());
    let took = start.elapsed();
    let cutover = (begun.elapsed().saturating_sub(took), begun.elapsed());
    let swapped = Instant::now();
    let mut old_left = None;
    let mut with_cpu = 0;
    while swapped.elapsed() < WATCH {
        with_cpu = match start.elapsed() < STEADY {
            // A thread that has ended takes its time along.
            true => meter.read(&contender.processes()).saturating_sub(from),
            false => with_cpu,
        };
        if old_left.is_none() && contender.processes().len() <= contender.expected() {
            old_left = Some(swapped.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let resident_kib = (resident_before, resident(&contender.processes()));
    // Thousands that end at once are not part of anybody's steady seconds.
    let others = others.finish().await;
    let live = live.finish().await;
    let (around, steady) = split(&others, cutover);
    #[expect(clippy::cast_precision_loss, reason = "milliseconds for a person")]
    let cpu_ms = (with_cpu as f64 - steady_cpu as f64) / 1e6;
    let name = contender.name();
    contender.stop().await;
    let row = Live {
        name,
        connections,
        took,
        old_left,
        resident_kib,
        cpu_ms,
        around,
        steady,
        live,
        others,
    };
    // At once: a peer that fails later takes nothing with it.
    let _ = writeln!(io::stdout(), "{}", row.line());
    row
}

/// Latencies near the cutover, and those far from it.
fn split(ledger: &Ledger, (from, to): (Duration, Duration)) -> (Latency, Latency) {
    let (mut around, mut steady) = (Latency::default(), Latency::default());
    let width = ledger.slices.width();
    for (at, slice) in ledger.slices.iter() {
        let near =
            |distance: Duration| at + width > from.saturating_sub(distance) && at < to + distance;
        if near(AROUND - width) {
            around.merge(&slice.latency);
        } else if !near(AROUND * 2) && at > STEADY / 4 {
            steady.merge(&slice.latency);
        }
    }
    (around, steady)
}

impl Live {
    pub(crate) fn is_clean(&self) -> bool {
        self.live.is_clean() && self.others.is_clean()
    }

    pub(crate) fn has_left(&self) -> bool {
        self.old_left.is_some()
    }

    pub(crate) fn line(&self) -> String {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let (steady, around) = (
            ms(self.steady.quantile(0.99)),
            ms(self.around.quantile(0.99)),
        );
        let left = match self.old_left {
            Some(after) => format!("{:.0} ms after the swap", ms(after)),
            None => format!("no: still there after {} s", WATCH.as_secs()),
        };
        format!(
            "| {} | {} | {} | {left} | {} → {} MiB | {:.0} | {:.0} | {steady:.2} | {around:.2} | {:.2} |",
            self.name,
            self.connections,
            self.live.losses() + self.others.losses(),
            self.resident_kib.0 >> 10,
            self.resident_kib.1 >> 10,
            ms(self.took),
            self.cpu_ms,
            around / steady,
        )
    }
}

/// Where `scripts/compare-reliability` finds it.
pub(crate) fn write(rows: &[Live]) {
    let mut text = String::from(
        "| proxy | live connections | cut | the old process is gone | memory of all processes before → 20 s after | the swap, ms | its processor time, ms | others' p99 in steady seconds, ms | in the second around the swap | ÷ |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in rows {
        text.push_str(&row.line());
        text.push('\n');
    }
    let _ = writeln!(io::stdout(), "{text}");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("live-connections.md");
    std::fs::write(path, text).expect("written");
}
