//! The swap's own cost: latency in the second around a cutover beside that of steady seconds, the time from order to commit, and
//! the processor's.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use bench::ledger::{Class, Latency, Ledger};
use harness::proc::cpu_ns;

use crate::Contender;
use crate::site::Site;

/// Swaps of everybody.
const SWAPS: usize = 10;

/// Steady load before each swap, and after the last.
const STEADY: Duration = Duration::from_secs(3);

/// How far from a cutover a moment counts to it.
pub(crate) const AROUND: Duration = Duration::from_millis(500);

/// How often the processes' time is read: what one that ends has used since is not seen.
const SAMPLE: Duration = Duration::from_millis(20);

/// What swaps cost one proxy and its clients.
pub(crate) struct Cost {
    name: String,
    took: Vec<Duration>,
    around: Latency,
    steady: Latency,
    /// Processor time of the seconds with a swap, beyond that of the seconds before.
    cpu: Vec<f64>,
    ledger: Ledger,
}

/// Processor time of all processes, those that have ended included.
#[derive(Default)]
pub(crate) struct Meter(HashMap<u32, u64>);

impl Meter {
    pub(crate) fn read(&mut self, processes: &[u32]) -> u64 {
        for pid in processes {
            if let Some(now) = cpu_ns(*pid) {
                self.0.insert(*pid, now);
            }
        }
        self.0.values().sum()
    }

    /// Waits, and reads meanwhile.
    pub(crate) async fn watch<C: Contender>(&mut self, contender: &C, time: Duration) -> u64 {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.read(&contender.processes());
            tokio::time::sleep(SAMPLE).await;
        }
        self.read(&contender.processes())
    }
}

/// Swaps under a load of fixed rates.
pub(crate) async fn measure<C: Contender>(mut contender: C, site: &Site) -> Cost {
    let begun = Instant::now();
    let load = site.steady_load();
    load.flows(1000).await;
    let mut meter = Meter::default();
    let (mut took, mut cutovers, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..SWAPS {
        let before = meter.read(&contender.processes());
        let steady = meter.watch(&contender, STEADY).await - before;
        let from = meter.read(&contender.processes());
        let start = Instant::now();
        assert!(contender.swap().await, "{} swaps", contender.name());
        took.push(start.elapsed());
        cutovers.push((begun.elapsed() - start.elapsed(), begun.elapsed()));
        let rest = STEADY.saturating_sub(start.elapsed());
        let with = meter.watch(&contender, rest).await - from;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds for a person")]
        cpu.push((with as f64 - steady as f64) / 1e6);
    }
    let ledger = load.finish().await;
    let (mut around, mut steady) = (Latency::default(), Latency::default());
    let width = ledger.slices.width();
    for (at, slice) in ledger.slices.iter() {
        let near = |distance: Duration| {
            let touches = |(from, to): &(Duration, Duration)| {
                at + width > from.saturating_sub(distance) && at < *to + distance
            };
            cutovers.iter().any(touches)
        };
        if near(AROUND - width) {
            around.merge(&slice.latency);
        } else if !near(AROUND * 2) && at > STEADY / 3 {
            steady.merge(&slice.latency);
        }
    }
    let cost = Cost {
        name: contender.name(),
        took,
        around,
        steady,
        cpu,
        ledger,
    };
    contender.stop().await;
    cost
}

impl Cost {
    pub(crate) fn is_clean(&self) -> bool {
        self.ledger.is_clean() && self.around.count() > 0 && self.steady.count() > 0
    }

    pub(crate) fn line(&self) -> String {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let three = |latency: &Latency| {
            let [median, most, nearly_all] = [0.5, 0.99, 0.999].map(|q| ms(latency.quantile(q)));
            format!("{median:.2} / {most:.2} / {nearly_all:.2}")
        };
        let ratio = ms(self.around.quantile(0.99)) / ms(self.steady.quantile(0.99));
        let mut took = self.took.clone();
        took.sort_unstable();
        let mut cpu = self.cpu.clone();
        cpu.sort_unstable_by(f64::total_cmp);
        let middle = |length: usize| length / 2;
        format!(
            "| {} | {:.0} ({:.0}) | {} | {} | {} | {} | {ratio:.2} | {:.0} |",
            self.name,
            took.get(middle(took.len())).map_or(0.0, |time| ms(*time)),
            took.last().map_or(0.0, |time| ms(*time)),
            self.ledger.exchanges.count(Class::Ok),
            self.ledger.losses(),
            three(&self.steady),
            three(&self.around),
            cpu.get(middle(cpu.len())).copied().unwrap_or_default(),
        )
    }
}

/// Where `scripts/compare-reliability` finds it.
pub(crate) fn write(costs: &[Cost]) {
    let mut text = String::from(
        "| proxy | a swap, ms: median (longest) | requests | lost | steady p50 / p99 / p999, ms | in the second around a swap | p99 ÷ steady | processor time of a swap, ms |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for cost in costs {
        text.push_str(&cost.line());
        text.push('\n');
    }
    let _ = writeln!(io::stdout(), "{text}");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("swap-cost.md");
    std::fs::write(path, text).expect("written");
}
