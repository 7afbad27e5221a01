//! What the demo found, and whether that is as it must be.
//!
//! Room  pure: values and their judgement.
//! In    the ledger, how each swap ended, what was left over.
//! Out   the list of faults; empty means success.
//! Holds a demo without the swaps it promised is a fault, even with a clean ledger.

use std::time::Duration;

use super::Program;
use super::processes::Leftover;
use super::supervisor::Outcome;
use crate::ledger::{Class, Ledger, Stall};
use crate::report;

/// One swap, good or bad.
#[derive(Clone, Debug)]
pub(super) struct Swap {
    /// What was swapped in, for a person.
    pub(super) name: String,
    /// It must be refused.
    pub(super) is_bad: bool,
    /// Beginning and end on the ledger's time axis.
    pub(super) from: Duration,
    pub(super) until: Duration,
    pub(super) outcome: Outcome,
    /// The process that served before and after, if one did.
    pub(super) incumbents: (Option<u32>, Option<u32>),
    /// When the process that served before had ended, counted from the verdict; `None`: it was still there.
    pub(super) old_gone: Option<Duration>,
    /// All of its connections can move, so that it has to be gone.
    pub(super) must_go: bool,
}

impl Swap {
    /// `None`: as it must be.
    fn fault(&self) -> Option<String> {
        let Outcome {
            exit_code,
            verdict,
            reason,
            moved,
        } = &self.outcome;
        let (before, after) = self.incumbents;
        let ended = format!(
            "{}: exit code {exit_code:?}, {verdict}: {reason}",
            self.name
        );
        match (self.is_bad, exit_code) {
            (false, Some(0)) if after.is_none() => {
                Some(format!("{}: committed, but nobody serves", self.name))
            }
            (false, Some(0)) if before == after => Some(format!(
                "{}: committed, but the same process serves",
                self.name
            )),
            (false, Some(0)) if self.must_go && (*moved == 0 || self.old_gone.is_none()) => {
                Some(format!(
                    "{}: {moved} connections moved, and the old process is still there",
                    self.name
                ))
            }
            (false, Some(0)) => None,
            (false, _) => Some(format!("a swap did not commit: {ended}")),
            (true, Some(4 | 7)) if before == after && after.is_some() => None,
            (true, Some(4 | 7)) => Some(format!(
                "{}: refused, but the incumbent did not go on",
                self.name
            )),
            (true, _) => Some(format!("the bad binary was not refused: {ended}")),
        }
    }

    /// The longest exchange that was due during the swap, or one slice before or after it.
    pub(super) fn longest_stall(&self, ledger: &Ledger) -> Option<Stall> {
        let slice = ledger.slices.width();
        ledger
            .slices
            .longest_between(self.from.saturating_sub(slice), self.until + slice)
    }
}

/// Everything that was seen.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) program: Program,
    /// The account of all loads together …
    pub(super) ledger: Ledger,
    /// … and of each kind of traffic.
    pub(super) parts: Vec<(&'static str, Ledger)>,
    pub(super) swaps: Vec<Swap>,
    pub(super) swaps_wanted: u32,
    /// Fewest and most connections that were open at the same time while swaps were under way.
    pub(super) concurrent: (usize, usize),
    /// Generations alive when the loads had ended, at most, before they drained.
    pub(super) generations_draining: usize,
    /// After the loads ended only the incumbent was left in time.
    pub(super) is_drained: bool,
    pub(super) injected: bool,
    pub(super) processes_left: Vec<Leftover>,
}

impl Findings {
    /// The longest exchange that was due while no swap was under way: what the machine does by itself.
    pub(super) fn longest_elsewhere(&self) -> Option<Stall> {
        let width = self.ledger.slices.width();
        let during = |at: Duration| {
            self.swaps.iter().any(|swap| {
                at <= swap.until + width && at + width > swap.from.saturating_sub(width)
            })
        };
        self.ledger.slices.longest_where(|at| !during(at))
    }

    /// Good swaps that committed as they must.
    pub(super) fn committed(&self) -> usize {
        self.swaps
            .iter()
            .filter(|swap| !swap.is_bad && swap.fault().is_none())
            .count()
    }

    /// Bad binaries that were refused as they must.
    pub(super) fn refused(&self) -> usize {
        self.swaps
            .iter()
            .filter(|swap| swap.is_bad && swap.fault().is_none())
            .count()
    }

    /// Everything that is not as it must be.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults: Vec<_> = self.swaps.iter().filter_map(Swap::fault).collect();
        if !self.ledger.is_clean() {
            faults.push(report::verdict(&self.ledger));
        }
        for (name, ledger) in &self.parts {
            if ledger.exchanges.count(Class::Ok) == 0 {
                faults.push(format!("{name}: nothing was exchanged"));
            }
        }
        if self.committed() < usize::try_from(self.swaps_wanted).unwrap_or(usize::MAX) {
            faults.push(format!(
                "{} of {} swaps committed",
                self.committed(),
                self.swaps_wanted
            ));
        }
        if self.refused() != 1 {
            faults.push(format!(
                "{} bad binaries refused, 1 was offered",
                self.refused()
            ));
        }
        if self.injected && self.ledger.losses() == 0 {
            faults.push("a loss was injected and the ledger did not notice it".to_owned());
        }
        if !self.is_drained {
            faults.push(
                "generations were left that should have drained: see `supervisor status`"
                    .to_owned(),
            );
        }
        for Leftover { pid, command } in &self.processes_left {
            faults.push(format!(
                "process {pid} was left over and had to be killed: {command}"
            ));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Traffic;

    fn swap(is_bad: bool, exit_code: i32, incumbents: (Option<u32>, Option<u32>)) -> Swap {
        let outcome = Outcome {
            exit_code: Some(exit_code),
            verdict: String::new(),
            reason: String::new(),
            moved: 7,
        };
        let (from, until) = (Duration::from_secs(1), Duration::from_secs(2));
        Swap {
            name: "swap".to_owned(),
            is_bad,
            from,
            until,
            outcome,
            incumbents,
            old_gone: Some(Duration::from_millis(30)),
            must_go: true,
        }
    }

    fn findings() -> Findings {
        let mut ledger = Ledger::new(Duration::from_millis(250));
        ledger.connections.start();
        ledger.exchanges.start();
        ledger.exchange_succeeded(
            Duration::from_secs(1),
            Duration::from_millis(9),
            Traffic::default(),
        );
        ledger.connection_succeeded();
        Findings {
            program: Program::Lb,
            parts: vec![("short", ledger.clone())],
            ledger,
            swaps: vec![
                swap(false, 0, (Some(1), Some(2))),
                swap(true, 4, (Some(2), Some(2))),
            ],
            swaps_wanted: 1,
            concurrent: (200, 210),
            generations_draining: 2,
            is_drained: true,
            injected: false,
            processes_left: Vec::new(),
        }
    }

    #[test]
    fn a_demo_in_which_everything_was_as_it_must_be_has_no_faults() {
        assert_eq!(findings().faults(), Vec::<String>::new());
    }

    #[test]
    fn each_thing_that_is_not_as_it_must_be_is_a_fault() {
        type Spoil = fn(&mut Findings);
        let spoils: [(&str, Spoil); 13] = [
            ("LOSSES", |f| f.ledger.connections.start()),
            ("LOSSES", |f| {
                f.ledger.exchanges.start();
                f.ledger.exchange_lost(Class::Hung);
            }),
            ("kept: nothing", |f| {
                f.parts.push(("kept", Ledger::new(Duration::from_secs(1))))
            }),
            ("1 of 2 swaps", |f| f.swaps_wanted = 2),
            ("0 bad binaries", |f| f.swaps.truncate(1)),
            ("did not commit", |f| {
                f.swaps.push(swap(false, 4, (Some(2), Some(2))))
            }),
            ("same process", |f| {
                f.swaps.push(swap(false, 0, (Some(2), Some(2))))
            }),
            ("not refused", |f| {
                f.swaps.push(swap(true, 0, (Some(2), Some(3))))
            }),
            ("still there", |f| f.swaps[0].old_gone = None),
            ("0 connections moved", |f| f.swaps[0].outcome.moved = 0),
            ("did not notice", |f| f.injected = true),
            ("should have drained", |f| f.is_drained = false),
            ("left over", |f| {
                f.processes_left.push(Leftover {
                    pid: 5,
                    command: "lb".to_owned(),
                })
            }),
        ];
        for (expected, spoil) in spoils {
            let mut spoiled = findings();
            spoil(&mut spoiled);
            let faults = spoiled.faults();
            assert!(
                faults.iter().any(|fault| fault.contains(expected)),
                "{expected}: {faults:?}"
            );
        }
    }

    #[test]
    fn a_bad_binary_that_takes_the_incumbent_with_it_is_a_fault() {
        for after in [None, Some(9)] {
            let mut spoiled = findings();
            spoiled.swaps = vec![
                swap(false, 0, (Some(1), Some(2))),
                swap(true, 4, (Some(2), after)),
            ];
            assert!(
                spoiled
                    .faults()
                    .iter()
                    .any(|fault| fault.contains("did not go on"))
            );
        }
    }

    #[test]
    fn the_stall_of_a_swap_is_looked_for_around_it() {
        let findings = findings();
        let stall = findings.swaps[0].longest_stall(&findings.ledger).unwrap();
        assert_eq!(stall.lasted, Duration::from_millis(9));
        assert_eq!(findings.longest_elsewhere(), None);
        let mut later = findings;
        later
            .ledger
            .slices
            .record(Duration::from_secs(9), Duration::from_millis(3));
        assert_eq!(
            later.longest_elsewhere().map(|stall| stall.lasted),
            Some(Duration::from_millis(3))
        );
    }
}
