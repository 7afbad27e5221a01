//! A plan on one screen.
//!
//! Room  text only.

use std::time::Duration;

use control::{ListenerChange, Plan, PlannedListener};

use crate::plan::mebibytes;

/// Most listeners that are named one by one; the others are counted.
const LISTENERS_SHOWN: usize = 12;

/// The lines of a plan.
pub(crate) fn lines(plan: &Plan) -> Vec<String> {
    let mut lines = vec![
        format!(
            "version      {} ({}) → {} ({})",
            plan.from.version,
            digest(&plan.from.sha256),
            plan.to.version,
            digest(&plan.to.sha256)
        ),
        format!(
            "handoff      supervisor {}, incumbent {}, successor {}",
            or_none(&plan.protocols.supervisor),
            or_none(&plan.protocols.incumbent),
            or_none(&plan.protocols.successor)
        ),
    ];
    lines.extend(plan.listeners.iter().take(LISTENERS_SHOWN).map(listener));
    let more = plan.listeners.len().saturating_sub(LISTENERS_SHOWN);
    if more > 0 {
        lines.push(format!("listener     … and {more} more (--json has all)"));
    }
    lines.push(descriptors(plan));
    lines.push(memory(plan));
    for drain in &plan.drains {
        let connections = drain
            .connections
            .map_or_else(|| "?".to_owned(), |n| n.to_string());
        lines.push(format!(
            "{:<12} generation {} ({}, {}): {connections} connections, started {} ago",
            if drain.moves { "moves" } else { "drains" },
            drain.generation,
            drain.version,
            drain.role,
            humantime::format_duration(Duration::from_secs(drain.age_s))
        ));
    }
    lines.extend(
        plan.remarks
            .iter()
            .map(|remark| format!("remark       {remark}")),
    );
    for refusal in &plan.refusals {
        lines.push(format!("refused      {}", refusal.why));
        lines.push(format!("  next step  {}", refusal.next));
    }
    lines
}

fn listener(listener: &PlannedListener) -> String {
    let change = match listener.change {
        ListenerChange::Unknown => "unknown: this version does not say".to_owned(),
        change => change.to_string(),
    };
    let mut line = format!(
        "listener     {} {} ({} sockets): {change}",
        listener.name, listener.address, listener.sockets
    );
    for option in &listener.options {
        line += &format!("; {option}");
    }
    line
}

fn descriptors(plan: &Plan) -> String {
    let known = &plan.descriptors;
    format!(
        "descriptors  incumbent {}, successor {} of {}; supervisor {} of {}; host {} of {}",
        count(known.incumbent),
        count(known.successor),
        count(known.limit),
        count(known.supervisor),
        count(known.supervisor_limit),
        count(known.host),
        count(known.host_limit)
    )
}

fn memory(plan: &Plan) -> String {
    let size = |bytes: Option<u64>| {
        bytes.map_or_else(
            || "?".to_owned(),
            |bytes| format!("{} MiB", mebibytes(bytes)),
        )
    };
    let mut line = format!(
        "memory       incumbent {}; the host has {} available",
        size(plan.memory.incumbent),
        size(plan.memory.available)
    );
    if plan.memory.cgroup_left.is_some() {
        line += &format!(", the cgroup {}", size(plan.memory.cgroup_left));
    }
    line
}

fn count(number: Option<u64>) -> String {
    number.map_or_else(|| "?".to_owned(), |number| number.to_string())
}

fn digest(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}

fn or_none(range: &str) -> &str {
    if range.is_empty() { "none told" } else { range }
}
