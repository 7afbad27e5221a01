//! What the demo says while it plays and when it ends.
//!
//! Room  words and events; every judgement comes from `findings`.
//! In    loads, swaps, findings.
//! Out   progress, lines, JSON events.
//! Holds the last line is the verdict, and the last JSON event says the same.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Program;
use super::findings::{Findings, Swap};
use super::loads::Loads;
use super::play::PlayError;
use super::processes::Leftover;
use crate::ledger::Ledger;
use crate::output::{Output, complain};
use crate::report;

/// Between two progress events for programs.
const EVENT_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Narrator<'a> {
    output: &'a mut Output,
    last_event: Option<Instant>,
    concurrent: Option<(usize, usize)>,
}

/// The file name of an artifact.
pub(super) fn name_of(artifact: &Path) -> String {
    artifact
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

impl<'a> Narrator<'a> {
    pub(super) fn new(output: &'a mut Output) -> Self {
        Self {
            output,
            last_event: None,
            concurrent: None,
        }
    }

    pub(super) fn progress(&mut self, step: &str, loads: &Loads) {
        let (ledger, established) = (loads.snapshot(), loads.established());
        let (fewest, most) = self.concurrent.unwrap_or((established, established));
        self.concurrent = Some((fewest.min(established), most.max(established)));
        let at = loads.epoch.elapsed().as_secs_f64();
        self.output.progress(&format!(
            "{at:>6.1} s  {step}  {}",
            report::progress(&ledger, established)
        ));
        if self
            .last_event
            .is_none_or(|last| last.elapsed() >= EVENT_INTERVAL)
        {
            self.last_event = Some(Instant::now());
            self.output.event(&json!({
                "event": "progress", "at": at, "step": step, "established": established,
                "connections": ledger.connections, "exchanges": ledger.exchanges, "latency": ledger.latency,
            }));
        }
    }

    /// Fewest and most connections seen open at the same time.
    pub(super) fn concurrent(&self) -> (usize, usize) {
        self.concurrent.unwrap_or((0, 0))
    }

    pub(super) fn upgrade_event(&mut self, name: &str, line: &str) {
        let said: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        self.output
            .event(&json!({ "event": "upgrade", "step": name, "said": said }));
    }

    pub(super) fn swapped(&mut self, swap: &Swap, loads: &Loads) {
        let ledger = loads.snapshot();
        self.output.line(&row(swap, &ledger));
        self.output.event(&json!({
            "event": "swapped", "step": swap.name, "exit_code": swap.outcome.exit_code,
            "upgrade_verdict": swap.outcome.verdict, "reason": swap.outcome.reason, "moved": swap.outcome.moved,
            "old_gone_ms": swap.old_gone.map(|after| after.as_millis()),
            "seconds": (swap.until - swap.from).as_secs_f64(),
            "longest_stall_ms": swap.longest_stall(&ledger).map(|stall| stall.lasted.as_millis()),
        }));
    }

    pub(super) fn injected(&mut self, pid: u32) {
        self.output.line(&format!(
            "injecting a loss: killing the process that serves, {pid}"
        ));
        self.output
            .event(&json!({ "event": "injected", "pid": pid }));
    }

    pub(super) fn ending(&mut self, generations: usize) {
        self.output.line(&format!(
            "ending the loads; {generations} generations are alive, all but one draining"
        ));
        self.output
            .event(&json!({ "event": "ending", "generations": generations }));
    }
}

fn row(swap: &Swap, ledger: &Ledger) -> String {
    let exit_code = swap
        .outcome
        .exit_code
        .map_or_else(|| "none".to_owned(), |code| code.to_string());
    let stall = swap
        .longest_stall(ledger)
        .map_or_else(|| "-".to_owned(), |stall| report::short(stall.lasted));
    let moved = match (swap.outcome.moved, swap.old_gone) {
        (0, _) => String::new(),
        (moved, Some(after)) => format!(
            "  {moved} moved, old process gone after {}",
            report::short(after)
        ),
        (moved, None) => format!("  {moved} moved, the rest drains"),
    };
    format!(
        "{:<32} {:<12} exit {exit_code:<4} {:>8}  longest stall around it {stall:>8}{moved}",
        swap.name,
        swap.outcome.verdict,
        report::short(swap.until - swap.from),
    )
}

/// The account and the verdict.
pub(super) fn conclude(findings: &Findings, output: &mut Output) {
    let Findings { ledger, swaps, .. } = findings;
    let mut text = format!("\n{}\n", report::table(ledger));
    text.push_str(&by_kind(&findings.parts));
    for swap in swaps {
        writeln!(text, "{}", row(swap, ledger)).unwrap_or_default();
    }
    if let Some(stall) = findings.longest_elsewhere() {
        writeln!(
            text,
            "longest stall while no swap was under way {}",
            report::short(stall.lasted)
        )
        .unwrap_or_default();
    }
    let (fewest, most) = findings.concurrent;
    writeln!(text, "\n{fewest} to {most} connections open at any time").unwrap_or_default();
    let drained = if findings.is_drained {
        "all ended after the loads"
    } else {
        "NOT all ended after the loads"
    };
    writeln!(
        text,
        "{} generations were draining; {drained}",
        findings.generations_draining
    )
    .unwrap_or_default();
    let faults = findings.faults();
    for fault in &faults {
        writeln!(text, "fault: {fault}").unwrap_or_default();
    }
    text.push_str(&verdict(findings, faults.is_empty()));
    output.line(&text);
    output.event(&json!({
        "event": "ledger", "program": findings.program.name(), "verdict": if faults.is_empty() { "clean" } else { "failed" }, "faults": faults,
        "swaps_committed": findings.committed(), "bad_refused": findings.refused(),
        "concurrent_min": fewest, "concurrent_max": most, "drained": findings.is_drained,
        "losses": ledger.losses(), "ledger": ledger,
        "kinds": findings.parts.iter().map(|(name, part)| json!({
            "kind": name, "losses": part.losses(), "connections": part.connections, "exchanges": part.exchanges,
            "idle_closes": part.idle_closes, "retried": part.retried, "ended_at_bound": part.ended_at_bound,
        })).collect::<Vec<_>>(),
    }));
}

/// One line for each kind of traffic.
fn by_kind(parts: &[(&'static str, Ledger)]) -> String {
    let mut text = String::new();
    for (name, part) in parts {
        let extras = [
            ("closed while idle", part.idle_closes),
            ("asked once more", part.retried),
            ("lived to the bound of a drain", part.ended_at_bound),
        ];
        let extras: String = extras
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!(", {} {what}", report::grouped(count)))
            .collect();
        writeln!(
            text,
            "{name:<32} {}, {} connections, {} exchanges{extras}",
            report::losses(part),
            report::grouped(part.connections.started()),
            report::grouped(part.exchanges.started()),
        )
        .unwrap_or_default();
    }
    text.push('\n');
    text
}

/// After several programs: the one word for all of them.
pub(super) fn conclude_all(verdicts: &[(Program, bool)], output: &mut Output) {
    let is_success = verdicts.iter().all(|(_, is_good)| *is_good);
    let each: Vec<_> = verdicts
        .iter()
        .map(|(program, is_good)| {
            format!(
                "{program} {}",
                if *is_good { "as it must be" } else { "FAILED" }
            )
        })
        .collect();
    let word = if is_success { "NOTHING LOST" } else { "FAILED" };
    output.line(&format!("{word}: {}", each.join(", ")));
    output.event(&json!({
        "event": "demo", "verdict": if is_success { "clean" } else { "failed" },
        "programs": verdicts.iter().map(|(program, is_good)| json!({ "program": program.name(), "clean": is_good }))
            .collect::<Vec<_>>(),
    }));
}

fn verdict(findings: &Findings, is_success: bool) -> String {
    let word = if is_success { "NOTHING LOST" } else { "FAILED" };
    let injected = if findings.injected {
        " (a loss was injected)"
    } else {
        ""
    };
    format!(
        "{word}{injected}: {}: {} swaps committed, {} bad binary refused; {} connections, {} exchanges: {}",
        findings.program,
        findings.committed(),
        findings.refused(),
        report::grouped(findings.ledger.connections.started()),
        report::grouped(findings.ledger.exchanges.started()),
        report::every_class(&findings.ledger),
    )
}

/// The play did not come to its end.
pub(super) fn give_up(error: &PlayError, log: &str, left: &[Leftover], output: &mut Output) {
    output.event(&json!({ "event": "failed", "verdict": "failed", "reason": error.to_string() }));
    output.line("");
    complain(&format!("the demo failed: {error}"));
    if !log.is_empty() {
        complain(&format!("the end of the supervisor's log:\n{log}"));
    }
    for Leftover { pid, command } in left {
        complain(&format!(
            "process {pid} was left over and had to be killed: {command}"
        ));
    }
}
