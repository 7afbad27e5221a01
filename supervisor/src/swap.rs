//! The swap of one binary for another, as a table: the only place that knows the order of things.
//!
//! Room  pure: no clock, no process, no socket.
//! In    what happened. Out  the next phase and what to do, in order.
//! Holds until `Committing` has written its record, the incumbent can be back in one message; the
//!       complete table is reviewed in `swap.table`, and what is not in it is refused.
//!
//! ```text
//!  Idle ─▶ Staging ─▶ Starting ─▶ SelfTesting ─▶ Sharing ─▶ Opening ─┐       (each may end in Idle: refused, or
//!                                                                    ▼        rolled back; the incumbent never
//!                             Canary ◀───────────────────────────── Parking   stopped accepting)
//!                                └──▶ Widening ──────────────────────▲ │
//!                                                                      ▼
//!                         Idle ◀─ Moving ◀─ Committing ◀───────────── Baking
//!
//!  From Parking on a failure leads to Restoring ─▶ Idle: the incumbent is asked to accept everything again
//!  first, the successor leaves then.
//! ```

/// Where the swap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Idle,
    /// The binary is copied, hashed, asked who it is, and checks the real configuration.
    Staging,
    /// The successor runs and prepares.
    Starting,
    /// The successor serves connections of ours, before it gets any of a client.
    SelfTesting,
    /// The incumbent was asked what the successor should know; nobody waits long for it.
    Sharing,
    /// The successor was told to accept; both accept.
    Opening,
    /// The incumbent was told to leave the successor's share to it: a part, or everything.
    Parking,
    /// Each accepts on a part of every listener's group.
    Canary,
    /// The successor was told to accept on a larger part; both accept on what is between.
    Widening,
    /// The successor serves alone; the incumbent holds everything and waits.
    Baking,
    /// The record of what runs after a crash is being written.
    Committing,
    /// The incumbent gives its live connections to the successor.
    Moving,
    /// The incumbent was told to accept again.
    Restoring,
    /// The incumbent did not answer: the committed version starts anew; the successor serves until then.
    Replacing,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Requested,
    Staged,
    StageFailed,
    SuccessorReady,
    SelfTested,
    SelfTestFailed,
    /// The successor got the incumbent's state, or there is none.
    StateShared,
    SuccessorAccepting,
    IncumbentParked,
    /// The incumbent accepts on what the successor does not.
    IncumbentNarrowed,
    /// The canary's step passed its bake; there are more.
    StepPassed,
    BakePassed,
    RecordWritten,
    RecordFailed,
    /// No more connections move.
    Moved,
    IncumbentAccepting,
    SuccessorGone,
    IncumbentGone,
    /// The phase took longer than it may.
    Expired,
    /// A threshold of the bake is crossed.
    Breached,
    /// A person wants it to end.
    Aborted,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Stage,
    SpawnSuccessor,
    SelfTest,
    ShareState,
    ResumeSuccessor,
    PauseIncumbent,
    StartBake,
    WriteRecord,
    MoveConnections,
    /// To whoever serves after a rollback.
    MoveBack,
    DrainIncumbent,
    CloseUnclaimed,
    /// Un-park the incumbent; start the committed version if it is gone.
    RestoreIncumbent,
    /// End an incumbent that does not answer, so that the committed version can start in its place.
    EndIncumbent,
    /// The successor may hold connections: they finish.
    DrainSuccessor,
    /// The committed version runs again, with back-off.
    RestartCommitted,
    TellCommitted,
    TellRefused,
    TellRolledBack,
    TellIncomplete,
}

/// An event that makes no sense in this phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} while {phase:?}")]
pub(crate) struct Refused {
    pub(crate) phase: Phase,
    pub(crate) event: Event,
}

impl Phase {
    /// Every step, for the tests' tables and the crash matrix.
    #[cfg(any(test, debug_assertions))]
    pub(crate) const ALL: [Self; 14] = [
        Self::Idle,
        Self::Staging,
        Self::Starting,
        Self::SelfTesting,
        Self::Sharing,
        Self::Opening,
        Self::Parking,
        Self::Canary,
        Self::Widening,
        Self::Baking,
        Self::Committing,
        Self::Moving,
        Self::Restoring,
        Self::Replacing,
    ];

    /// The name of the step for the crash matrix.
    #[cfg(debug_assertions)]
    pub(crate) fn step(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// The whole transition table; everything absent from it is refused.
    pub(crate) fn on(self, event: Event) -> Result<(Self, &'static [Action]), Refused> {
        use Action as A;
        use Event as E;
        Ok(match (self, event) {
            (Self::Idle, E::Requested) => (Self::Staging, &[A::Stage]),
            (Self::Idle, E::IncumbentGone) => (Self::Idle, &[A::RestartCommitted]),

            (Self::Staging, E::Staged) => (Self::Starting, &[A::SpawnSuccessor]),
            (Self::Staging, E::StageFailed | E::Expired) => (Self::Idle, &[A::TellRefused]),
            (Self::Staging, E::Aborted) => (Self::Idle, &[A::TellRolledBack]),
            (Self::Staging, E::IncumbentGone) => (Self::Staging, &[A::RestartCommitted]),

            (Self::Starting, E::SuccessorReady) => (Self::SelfTesting, &[A::SelfTest]),
            (Self::SelfTesting, E::SelfTested) => (Self::Sharing, &[A::ShareState]),
            (Self::SelfTesting, E::SelfTestFailed)
            | (Self::Starting | Self::SelfTesting, E::SuccessorGone | E::Expired | E::Aborted)
            | (Self::Sharing, E::SuccessorGone | E::Aborted) => {
                (Self::Idle, &[A::DrainSuccessor, A::TellRolledBack])
            }

            // Without the state the successor only knows less; that is no reason to keep the old version.
            (Self::Sharing, E::StateShared | E::Expired) => (Self::Opening, &[A::ResumeSuccessor]),

            (Self::Opening, E::SuccessorAccepting) => (Self::Parking, &[A::PauseIncumbent]),
            // The incumbent never stopped accepting: there is nothing to undo.
            (Self::Opening, E::SuccessorGone | E::Expired | E::Aborted) => {
                (Self::Idle, &[A::DrainSuccessor, A::TellRolledBack])
            }
            // A crash of the incumbent is not the moment to trust an unproven binary.
            (
                Self::Starting | Self::SelfTesting | Self::Sharing | Self::Opening,
                E::IncumbentGone,
            ) => (
                Self::Idle,
                &[A::RestartCommitted, A::DrainSuccessor, A::TellRolledBack],
            ),

            (Self::Parking, E::IncumbentNarrowed) => (Self::Canary, &[A::StartBake]),
            (Self::Canary, E::StepPassed) => (Self::Widening, &[A::ResumeSuccessor]),
            (Self::Widening, E::SuccessorAccepting) => (Self::Parking, &[A::PauseIncumbent]),

            (Self::Parking, E::IncumbentParked) => (Self::Baking, &[A::StartBake]),
            (Self::Baking, E::BakePassed) => (Self::Committing, &[A::WriteRecord]),
            // A dead incumbent cannot be un-parked; the successor serves, the bake goes on.
            (Self::Baking, E::IncumbentGone) => (Self::Baking, &[]),
            (Self::Committing, E::IncumbentGone) => (Self::Committing, &[]),
            (Self::Committing, E::RecordWritten) => (Self::Moving, &[A::MoveConnections]),
            // What has not moved in time, or cannot, drains; an incumbent that is gone has nothing left to give.
            (Self::Moving, E::Moved | E::Expired | E::IncumbentGone) => (
                Self::Idle,
                &[A::CloseUnclaimed, A::DrainIncumbent, A::TellCommitted],
            ),
            (
                Self::Parking | Self::Widening,
                E::SuccessorGone | E::Expired | E::Aborted | E::IncumbentGone,
            )
            // What the incumbent accepted on, nobody does now: the committed version comes back to it.
            | (
                Self::Canary,
                E::SuccessorGone | E::Breached | E::Aborted | E::IncumbentGone,
            )
            | (Self::Baking, E::SuccessorGone | E::Breached | E::Aborted)
            | (Self::Committing, E::RecordFailed | E::SuccessorGone)
            // It took some connections with it; the incumbent still has the others, and every listener.
            | (Self::Moving, E::SuccessorGone) => {
                (Self::Restoring, &[A::RestoreIncumbent])
            }

            // Resume before stop: the reverse would leave a moment with nobody accepting.
            (Self::Restoring | Self::Replacing, E::IncumbentAccepting) => {
                (
                    Self::Idle,
                    &[A::MoveBack, A::DrainSuccessor, A::TellRolledBack],
                )
            }
            (Self::Restoring | Self::Replacing, E::IncumbentGone) => {
                (Self::Replacing, &[A::RestartCommitted])
            }
            (
                Self::Restoring | Self::Replacing,
                E::SuccessorGone | E::Aborted | E::IncumbentParked,
            ) => (self, &[]),
            (Self::Restoring, E::Expired) => (Self::Replacing, &[A::EndIncumbent]),
            // Whoever serves now, serves on: an unproven successor is better than nobody.
            (Self::Replacing, E::Expired) => (Self::Idle, &[A::TellIncomplete]),
            (phase, event) => return Err(Refused { phase, event }),
        })
    }

    /// True while an incumbent, if it lives, must not accept on everything.
    pub(crate) fn has_parked_incumbent(self) -> bool {
        matches!(
            self,
            Self::Parking
                | Self::Canary
                | Self::Widening
                | Self::Baking
                | Self::Committing
                | Self::Moving
        )
    }

    /// True while an upgrade runs and the incumbent, if it serves, still accepts.
    pub(crate) fn precedes_parking(self) -> bool {
        matches!(
            self,
            Self::Staging | Self::Starting | Self::SelfTesting | Self::Sharing | Self::Opening
        )
    }

    /// The word of `status` and of every event.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Staging => "staging",
            Self::Starting => "starting",
            Self::SelfTesting => "self-testing",
            Self::Sharing => "sharing",
            Self::Opening => "opening",
            Self::Parking => "parking",
            Self::Canary => "canary",
            Self::Widening => "widening",
            Self::Baking => "baking",
            Self::Committing => "committing",
            Self::Moving => "moving",
            Self::Restoring | Self::Replacing => "rolling-back",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::{Action, Event, Phase};

    const PHASES: [Phase; 14] = Phase::ALL;
    const EVENTS: [Event; 21] = [
        Event::Requested,
        Event::Staged,
        Event::StageFailed,
        Event::SuccessorReady,
        Event::SelfTested,
        Event::SelfTestFailed,
        Event::StateShared,
        Event::SuccessorAccepting,
        Event::IncumbentParked,
        Event::IncumbentNarrowed,
        Event::StepPassed,
        Event::BakePassed,
        Event::RecordWritten,
        Event::RecordFailed,
        Event::Moved,
        Event::IncumbentAccepting,
        Event::SuccessorGone,
        Event::IncumbentGone,
        Event::Expired,
        Event::Breached,
        Event::Aborted,
    ];

    #[test]
    fn the_table_is_the_reviewed_one() {
        let mut table = String::new();
        for phase in PHASES {
            for event in EVENTS {
                let cell = phase.on(event).map_or_else(
                    |_| "-".to_owned(),
                    |(next, actions)| format!("{next:?} {actions:?}"),
                );
                writeln!(table, "{phase:?} + {event:?} = {cell}").expect("to a string");
            }
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/swap.table");
        if std::env::var_os("REVIEW").is_some() {
            std::fs::write(path, &table).expect("the table is written");
        }
        let reviewed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            reviewed == table,
            "swap.table differs from the code; run with REVIEW=1 and read the diff:\n{table}"
        );
    }

    #[test]
    fn the_loss_of_either_process_is_met_in_every_phase_that_has_it() {
        for phase in PHASES {
            assert!(phase.on(Event::IncumbentGone).is_ok(), "{phase:?}");
            let successor_lives = !matches!(phase, Phase::Idle | Phase::Staging);
            assert_eq!(
                phase.on(Event::SuccessorGone).is_ok(),
                successor_lives,
                "{phase:?}"
            );
        }
    }

    #[test]
    fn the_incumbent_is_drained_only_after_the_record_is_written() {
        for phase in PHASES {
            for event in EVENTS {
                let Ok((_, actions)) = phase.on(event) else {
                    continue;
                };
                assert_eq!(
                    actions.contains(&Action::DrainIncumbent),
                    phase == Phase::Moving && event != Event::SuccessorGone
                );
            }
        }
    }

    #[test]
    fn the_successor_leaves_only_after_somebody_else_was_told_to_accept() {
        for event in EVENTS {
            for phase in [
                Phase::Parking,
                Phase::Canary,
                Phase::Widening,
                Phase::Baking,
                Phase::Committing,
                Phase::Moving,
            ] {
                if let Ok((_, actions)) = phase.on(event) {
                    assert!(
                        !actions.contains(&Action::DrainSuccessor),
                        "{phase:?} {event:?}"
                    );
                }
            }
        }
    }
}
