//! The supervisor's side of one conversation, as a table.
//!
//! Room  pure: no clock, no socket.
//! In    what the worker said and what the supervisor wants to say.
//! Out   the next state, or a refusal: the peer (or the caller) broke the protocol.
//! Holds the complete table is reviewed in `supervisor_state.table`; what is not in it is refused.

/// Where the conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing was said yet.
    Greeting,
    /// Listeners are on their way; not all batches are acknowledged.
    Handing,
    /// The worker has every listener; it may bind more; it is not ready yet.
    Preparing,
    /// Ready, never asked to accept.
    Standby,
    /// Asked to accept, not confirmed.
    Resuming,
    Accepting,
    /// Asked to stop accepting, not confirmed.
    Pausing,
    Parked,
    Draining,
    Ended,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    // the worker says
    Hello,
    Ack,
    LastAck,
    Bound,
    Released,
    Ready,
    Failed,
    AcceptingOn,
    AcceptingOff,
    Stats,
    Reloaded,
    State,
    Moved,
    Drained,
    Closed,
    // the supervisor wants
    Resume,
    Pause,
    Drain,
    Reload,
    Shutdown,
    TicketKeys,
    ShareState,
    GiveState,
    Accept,
    Serve,
    Give,
    Take,
}

/// An event that the protocol does not allow now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} is not allowed while {state:?}")]
pub struct Refused {
    pub state: State,
    pub event: Event,
}

impl State {
    /// It lives and has been ready.
    fn was_ready(self) -> bool {
        matches!(
            self,
            Self::Standby
                | Self::Resuming
                | Self::Accepting
                | Self::Pausing
                | Self::Parked
                | Self::Draining
        )
    }

    /// The whole table; everything absent from it is refused.
    ///
    /// # Errors
    /// [`Refused`]: nothing has changed.
    pub fn on(self, event: Event) -> Result<Self, Refused> {
        use Event as E;
        Ok(match (self, event) {
            (Self::Ended, _) => return Err(Refused { state: self, event }),
            (_, E::Closed) => Self::Ended,
            (_, E::Shutdown) => Self::Draining,
            (Self::Greeting, E::Hello) => Self::Handing,
            (Self::Handing, E::Ack) => Self::Handing,
            (Self::Handing, E::LastAck) => Self::Preparing,
            (Self::Preparing, E::Bound) => Self::Preparing,
            (Self::Preparing, E::Ready) => Self::Standby,
            (Self::Greeting | Self::Handing | Self::Preparing, E::Failed) => Self::Ended,
            // Numbers, reloads and their listeners may cross any later order.
            (state, E::Stats | E::Reloaded | E::Bound | E::Released | E::State | E::Moved)
                if state.was_ready() =>
            {
                self
            }
            // Every living worker, so that any of them can give them back to a later supervisor.
            (state, E::TicketKeys) if state == Self::Preparing || state.was_ready() => self,
            (
                Self::Standby | Self::Resuming | Self::Accepting | Self::Pausing | Self::Parked,
                E::ShareState,
            ) => self,
            // Only before its first client: afterwards it would forget what it has counted itself.
            (Self::Standby, E::GiveState) => self,
            (
                Self::Standby | Self::Resuming | Self::Accepting | Self::Pausing | Self::Parked,
                E::Resume | E::Accept,
            ) => Self::Resuming,
            // A self-test takes place before the first client, or beside clients for comparison.
            (Self::Standby | Self::Accepting | Self::Parked, E::Serve) => self,
            // Who leaves gives, and may be taken from at any time.
            (state, E::Give | E::Take) if state.was_ready() => self,
            (Self::Resuming | Self::Accepting, E::Pause) => Self::Pausing,
            // Twice: the answer to an order before the last one came first.
            (Self::Resuming | Self::Accepting, E::AcceptingOn) => Self::Accepting,
            (Self::Pausing, E::AcceptingOff) => Self::Parked,
            // The worker stopped by itself: somebody sent it SIGTERM.
            (Self::Standby | Self::Accepting | Self::Parked, E::AcceptingOff) => Self::Draining,
            // An answer to the order before the last one, already on its way.
            (Self::Resuming, E::AcceptingOff) => Self::Resuming,
            (Self::Pausing, E::AcceptingOn) => Self::Pausing,
            (Self::Draining, E::AcceptingOff | E::AcceptingOn) => Self::Draining,
            // A worker that was told to leave while it still prepared says what it had to say.
            (Self::Draining, E::Ack | E::LastAck | E::Ready | E::Failed) => Self::Draining,
            (state, E::Drain) if state.was_ready() => Self::Draining,
            (Self::Standby | Self::Accepting | Self::Parked, E::Reload) => self,
            // A worker also drains by itself when it gets SIGTERM.
            (state, E::Drained) if state.was_ready() => Self::Draining,
            (state, event) => return Err(Refused { state, event }),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::{Event, State};

    const STATES: [State; 10] = [
        State::Greeting,
        State::Handing,
        State::Preparing,
        State::Standby,
        State::Resuming,
        State::Accepting,
        State::Pausing,
        State::Parked,
        State::Draining,
        State::Ended,
    ];
    const EVENTS: [Event; 27] = [
        Event::Hello,
        Event::Ack,
        Event::LastAck,
        Event::Bound,
        Event::Released,
        Event::Ready,
        Event::Failed,
        Event::AcceptingOn,
        Event::AcceptingOff,
        Event::Stats,
        Event::Reloaded,
        Event::State,
        Event::Moved,
        Event::Drained,
        Event::Closed,
        Event::Resume,
        Event::Pause,
        Event::Drain,
        Event::Reload,
        Event::Shutdown,
        Event::TicketKeys,
        Event::ShareState,
        Event::GiveState,
        Event::Accept,
        Event::Serve,
        Event::Give,
        Event::Take,
    ];

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
        crate::worker_state::tests::assert_reviewed("supervisor_state.table", &table);
    }
}
