//! The plan of an upgrade: what would change, what it needs, what speaks against it.
//!
//! Room  pure.
//! In    [`Facts`]: what both versions say, what is held, what the kernel has left.
//! Out   a [`Plan`] with remarks and refusals.
//! Holds a fact that nobody knows refuses nothing; every refusal names the next step.

use control::{
    ArtifactStatus, ListenerChange, Plan, PlannedDescriptors, PlannedDrain, PlannedListener,
    PlannedMemory, PlannedProtocols, Refusal,
};
use handoff::wants::WantedListener;

mod listeners;

/// Descriptors that a process needs beside its listeners before it has a connection: channel, epoll, timers,
/// logs, configuration files. Sized: `lb` and `edge` hold about 30 on two cores.
const DESCRIPTORS_TO_START: u64 = 64;

/// Share of a limit, in percent, above which a person is told.
const TIGHT_PERCENT: u64 = 80;

/// A listener that is held now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) sockets: u64,
    /// By name, as `getsockopt` has them.
    pub(crate) options: Vec<(String, String)>,
}

/// An address that cannot be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unbindable {
    pub(crate) name: String,
    pub(crate) why: String,
    pub(crate) next: String,
}

/// Everything a plan is made from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) from: ArtifactStatus,
    pub(crate) to: ArtifactStatus,
    pub(crate) protocols: PlannedProtocols,
    /// False: a program that takes whatever listeners are handed to it.
    pub(crate) native: bool,
    pub(crate) held: Vec<Held>,
    /// What the committed version wants; `None`: it does not say.
    pub(crate) wanted_before: Option<Vec<WantedListener>>,
    /// What the new version wants; `None`: it does not say.
    pub(crate) wanted: Option<Vec<WantedListener>>,
    pub(crate) unbindable: Vec<Unbindable>,
    /// Without `successor`, which is worked out here.
    pub(crate) descriptors: PlannedDescriptors,
    pub(crate) memory: PlannedMemory,
    pub(crate) drains: Vec<PlannedDrain>,
}

/// Makes the plan.
pub(crate) fn plan(facts: Facts) -> Plan {
    let mut plan = Plan {
        listeners: listeners::changes(&facts),
        from: facts.from,
        to: facts.to,
        protocols: facts.protocols,
        descriptors: facts.descriptors,
        memory: facts.memory,
        drains: facts.drains,
        ..Plan::default()
    };
    if facts.native && facts.wanted.is_none() {
        plan.remarks
            .push("listeners: unknown, this version does not say what it wants".to_owned());
    }
    if plan.from.sha256 == plan.to.sha256 {
        plan.remarks
            .push("the new binary is the one that runs: only its process is new".to_owned());
    }
    for listener in &plan.listeners {
        if listener.change == ListenerChange::Removed {
            plan.remarks.push(format!(
                "{} ({}) is closed at the commit: clients are refused there from then on",
                listener.name, listener.address
            ));
        }
    }
    for Unbindable { name, why, next } in facts.unbindable {
        plan.refusals.push(Refusal {
            why: format!("listener {name}: {why}"),
            next,
        });
    }
    weigh_descriptors(&mut plan);
    weigh_memory(&mut plan);
    plan
}

fn weigh_descriptors(plan: &mut Plan) {
    let sockets = |change| -> u64 {
        let all = plan.listeners.iter();
        all.filter(|listener| listener.change == change)
            .map(|listener| listener.sockets)
            .sum()
    };
    let added = sockets(ListenerChange::Added);
    let handed_over = sockets(ListenerChange::Kept)
        + sockets(ListenerChange::Removed)
        + sockets(ListenerChange::Unknown);
    let to_start = handed_over + added + DESCRIPTORS_TO_START;
    let known = &mut plan.descriptors;
    let successor = known.incumbent.unwrap_or(0).saturating_add(added);
    let successor = successor.max(to_start);
    known.successor = Some(successor);
    let successor = Need {
        who: "the successor",
        amount: successor,
        limit: known.limit,
        next: "raise LimitNOFILE= of the unit (ulimit -n) and restart the supervisor",
    };
    let supervisor = Need {
        who: "the supervisor",
        amount: known.supervisor.unwrap_or(0) + handed_over + added,
        limit: known
            .supervisor_limit
            .filter(|_| known.supervisor.is_some()),
        next: "raise LimitNOFILE= of the unit (ulimit -n), or use fewer `sockets` for each listener",
    };
    let host = Need {
        who: "the whole host",
        amount: known.host.unwrap_or(0).saturating_add(successor.amount),
        limit: known.host_limit.filter(|_| known.host.is_some()),
        next: "raise the sysctl fs.file-max, or end what holds so many files",
    };
    for need in [successor, supervisor, host] {
        need.weigh(plan);
    }
}

/// Descriptors that one party will hold, and how many it may.
struct Need {
    who: &'static str,
    amount: u64,
    limit: Option<u64>,
    next: &'static str,
}

impl Need {
    fn weigh(self, plan: &mut Plan) {
        let Self {
            who, amount, next, ..
        } = self;
        let Some(limit) = self.limit else {
            return;
        };
        if amount > limit {
            plan.refusals.push(Refusal {
                why: format!("{who} needs {amount} descriptors and may have {limit}"),
                next: next.to_owned(),
            });
        } else if u128::from(amount) * 100 > u128::from(limit) * u128::from(TIGHT_PERCENT) {
            plan.remarks.push(format!(
                "few descriptors are left: {who} needs {amount} of {limit}"
            ));
        }
    }
}

/// The successor will be as large as the incumbent when it has its load: less than that is no upgrade. The
/// same again is what a careful person wants to see.
fn weigh_memory(plan: &mut Plan) {
    let Some(resident) = plan.memory.incumbent else {
        return;
    };
    let rooms = [
        (
            "the host has",
            plan.memory.available,
            "free memory on this host, or upgrade when fewer connections are held",
        ),
        (
            "the service's cgroup has",
            plan.memory.cgroup_left,
            "raise MemoryMax= of the unit, or wait until draining generations have ended",
        ),
    ];
    for (who, left, next) in rooms {
        let Some(left) = left else {
            continue;
        };
        if left < resident {
            plan.refusals.push(Refusal {
                why: format!(
                    "{who} {} MiB of memory left, the incumbent takes {} MiB and the successor will, too",
                    mebibytes(left),
                    mebibytes(resident)
                ),
                next: next.to_owned(),
            });
        } else if left / 2 < resident {
            plan.remarks.push(format!(
                "little memory is left: {who} {} MiB, twice the incumbent is {} MiB",
                mebibytes(left),
                mebibytes(resident.saturating_mul(2))
            ));
        }
    }
}

pub(crate) fn mebibytes(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}

/// Every reason with its next step, as one text.
pub(crate) fn reasons(plan: &Plan) -> String {
    let reasons = plan.refusals.iter();
    reasons
        .map(|refusal| format!("{}; {}", refusal.why, refusal.next))
        .collect::<Vec<_>>()
        .join("\n")
}

/// "2 listeners kept, 1 added, 0 removed; 1204 connections will move, 12 will drain".
pub(crate) fn summary(plan: &Plan) -> String {
    let count = |change| {
        let all = plan.listeners.iter();
        all.filter(|listener| listener.change == change).count()
    };
    let held = |moves: bool| -> u64 {
        let drains = plan.drains.iter().filter(|drain| drain.moves == moves);
        drains.filter_map(|drain| drain.connections).sum()
    };
    let leaving = match (held(true), held(false)) {
        (0, draining) => format!("{draining} connections will drain"),
        (moving, 0) => format!("{moving} connections will move"),
        (moving, draining) => format!("{moving} connections will move, {draining} will drain"),
    };
    let listeners = match count(ListenerChange::Unknown) {
        0 => format!(
            "listeners: {} kept, {} added, {} removed",
            count(ListenerChange::Kept),
            count(ListenerChange::Added),
            count(ListenerChange::Removed)
        ),
        unknown => format!("listeners: {unknown}, this version does not say what it wants"),
    };
    format!("{listeners}; {leaving}")
}

/// Names and addresses that are to be bound anew.
pub(crate) fn added(facts: &Facts) -> Vec<PlannedListener> {
    let changes = listeners::changes(facts).into_iter();
    changes
        .filter(|listener| listener.change == ListenerChange::Added)
        .collect()
}

#[cfg(test)]
mod tests;
