//! What one proxy did to its clients, and the table.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use bench::ledger::{Class, Ledger};

/// One proxy's account.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) wanted: u32,
    pub(crate) done: u32,
    /// How long each swap took.
    pub(crate) took: Vec<Duration>,
    pub(crate) passing: Ledger,
    pub(crate) lasting: Ledger,
    /// Processes of earlier generations after the last swap.
    pub(crate) old: usize,
    /// Memory of all processes then.
    pub(crate) resident_kib: u64,
    /// Old processes that were still there after their clients had gone.
    pub(crate) stay: usize,
}

const HEAD: &str = "| proxy | swaps | requests | refused | reset or failed | connections ended between requests (asked again) | longest wait | streams cut | old processes at the end | memory of all | left after 15 s without clients |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";

impl Row {
    /// Nobody lost anything.
    pub(crate) fn is_clean(&self) -> bool {
        self.passing.is_clean() && self.lasting.is_clean() && self.done == self.wanted
    }

    pub(crate) fn line(&self) -> String {
        let refused = self.passing.count(Class::Refused);
        let failed = self.passing.losses().saturating_sub(refused);
        let longest = self.passing.longest_stall().map(|stall| stall.lasted);
        let mut took = self.took.clone();
        took.sort_unstable();
        let median = took.get(took.len() / 2).copied().unwrap_or_default();
        format!(
            "| {} | {} of {}, each {:.0} ms | {} | {refused} | {failed} | {} ({}) | {:.0} ms | {} | {} | {} MiB | {} |",
            self.name,
            self.done,
            self.wanted,
            median.as_secs_f64() * 1000.0,
            self.passing.exchanges.count(Class::Ok),
            self.passing.idle_closes,
            self.passing.retried,
            longest.unwrap_or_default().as_secs_f64() * 1000.0,
            format_args!(
                "{} of {}",
                self.lasting.connections.lost(),
                self.lasting.connections.started()
            ),
            self.old,
            self.resident_kib / 1024,
            self.stay,
        )
    }
}

/// Where `scripts/compare-reliability` finds it.
pub(crate) fn write(rows: &[Row]) {
    let lines: Vec<String> = rows.iter().map(Row::line).collect();
    let text = format!("{HEAD}{}\n", lines.join("\n"));
    let _ = writeln!(io::stdout(), "{text}");
    for row in rows.iter().filter(|row| !row.is_clean()) {
        let examples = row.passing.examples.iter().chain(&row.lasting.examples);
        for example in examples.take(5) {
            let _ = writeln!(io::stdout(), "{}: {example:?}", row.name);
        }
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers.md");
    std::fs::write(path, text).expect("written");
}
