//! The worker's side of the conversation, as a table.
//!
//! Room  pure: no clock, no socket.
//! In    what the supervisor said, what the worker itself has reached, and the loss of the supervisor.
//! Out   the next state, or a refusal: the supervisor broke the protocol.
//! Holds losing the supervisor never stops a worker that was ever told to accept.

use crate::message::Posture;

/// Where the conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Greeting,
    Adopting,
    Preparing,
    Standby,
    Accepting,
    Parked,
    Draining,
    Ended,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    // the supervisor says
    Welcome,
    Refuse,
    Listeners,
    LastListeners,
    BoundAck,
    Resume,
    Pause,
    Drain,
    Reload,
    Shutdown,
    TicketKeys,
    ShareState,
    State,
    Accept,
    Serve,
    Give,
    Take,
    /// End of file: the supervisor is gone.
    Lost,
    // the worker itself
    Prepared,
    Drained,
}

/// An event that the protocol does not allow now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} is not allowed while {state:?}")]
pub struct Refused {
    pub state: State,
    pub event: Event,
}

impl State {
    /// The whole table; everything absent from it is refused.
    ///
    /// # Errors
    /// [`Refused`]: nothing has changed.
    pub fn on(self, event: Event) -> Result<Self, Refused> {
        use Event as E;
        Ok(match (self, event) {
            (Self::Ended, _) => return Err(Refused { state: self, event }),
            (Self::Greeting, E::Welcome) => Self::Adopting,
            (Self::Greeting, E::Refuse) => Self::Ended,
            (Self::Adopting, E::Listeners) => Self::Adopting,
            (Self::Adopting, E::LastListeners) => Self::Preparing,
            (Self::Preparing, E::Prepared) => Self::Standby,
            (
                Self::Preparing | Self::Standby | Self::Accepting | Self::Parked | Self::Draining,
                E::BoundAck | E::TicketKeys,
            ) => self,
            (Self::Standby | Self::Accepting | Self::Parked, E::ShareState) => self,
            // Only before its first client: afterwards it would forget what it has counted itself.
            (Self::Standby, E::State) => self,
            // Repeated orders are harmless: a later supervisor states what it wants anew.
            (Self::Standby | Self::Parked | Self::Accepting, E::Resume | E::Accept) => {
                Self::Accepting
            }
            (Self::Standby | Self::Accepting | Self::Parked, E::Serve) => self,
            (
                Self::Standby | Self::Accepting | Self::Parked | Self::Draining,
                E::Give | E::Take,
            ) => self,
            (Self::Accepting | Self::Parked, E::Pause) => Self::Parked,
            (
                Self::Standby | Self::Accepting | Self::Parked | Self::Draining,
                E::Drain | E::Shutdown,
            ) => Self::Draining,
            (Self::Standby | Self::Accepting | Self::Parked, E::Reload) => self,
            // Whoever never served has no client to lose and must not outlive its supervisor.
            (
                Self::Greeting | Self::Adopting | Self::Preparing | Self::Standby,
                E::Lost | E::Shutdown,
            ) => Self::Ended,
            (Self::Accepting | Self::Parked | Self::Draining, E::Lost) => self,
            (Self::Standby | Self::Accepting | Self::Parked | Self::Draining, E::Drained) => {
                Self::Ended
            }
            (state, event) => return Err(Refused { state, event }),
        })
    }

    /// What a returning worker says of itself.
    pub fn posture(self) -> Posture {
        match self {
            Self::Greeting | Self::Adopting | Self::Preparing | Self::Standby => Posture::Standby,
            Self::Accepting => Posture::Accepting,
            Self::Parked => Posture::Parked,
            Self::Draining | Self::Ended => Posture::Draining,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use super::{Event, State};

    const STATES: [State; 8] = [
        State::Greeting,
        State::Adopting,
        State::Preparing,
        State::Standby,
        State::Accepting,
        State::Parked,
        State::Draining,
        State::Ended,
    ];
    const EVENTS: [Event; 20] = [
        Event::Welcome,
        Event::Refuse,
        Event::Listeners,
        Event::LastListeners,
        Event::BoundAck,
        Event::Resume,
        Event::Pause,
        Event::Drain,
        Event::Reload,
        Event::Shutdown,
        Event::TicketKeys,
        Event::ShareState,
        Event::State,
        Event::Accept,
        Event::Serve,
        Event::Give,
        Event::Take,
        Event::Lost,
        Event::Prepared,
        Event::Drained,
    ];

    /// Compares a printed table with the reviewed file; `REVIEW=1` writes the file anew for review.
    pub(crate) fn assert_reviewed(file: &str, table: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
        if std::env::var_os("REVIEW").is_some() {
            std::fs::write(&path, table).expect("the table is written");
        }
        let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            reviewed == table,
            "{file} differs from the code; run with REVIEW=1 and read the diff:\n{table}"
        );
    }

    #[test]
    fn the_table_is_the_reviewed_one() {
        let mut table = String::new();
        for state in STATES {
            for event in EVENTS {
                let cell = state
                    .on(event)
                    .map_or_else(|_| "-".to_owned(), |next| format!("{next:?}"));
                writeln!(table, "{state:?} + {event:?} = {cell}").expect("to a string");
            }
        }
        assert_reviewed("worker_state.table", &table);
    }

    #[test]
    fn losing_the_supervisor_never_ends_a_worker_that_serves() {
        for state in [State::Accepting, State::Parked, State::Draining] {
            assert_eq!(state.on(Event::Lost), Ok(state));
        }
    }
}
