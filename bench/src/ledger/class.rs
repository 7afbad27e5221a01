//! What became of a connection or an exchange, and which error at which moment means which of these.
//!
//! Room  pure: two enums and one table.
//! In    the kind of an I/O error and the phase in which it happened.
//! Out   a class of the ledger.
//! Holds every error has exactly one class; only `Ok` is not a loss.

use std::fmt;
use std::io::ErrorKind;

use serde::Serialize;

/// What became of something that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Every promised byte arrived and it ended as it should.
    Ok,
    /// Nobody listened: ECONNREFUSED.
    Refused,
    /// The other side threw the connection away: ECONNRESET, EPIPE, ECONNABORTED.
    Reset,
    /// It ended politely, but before everything had arrived.
    Cut,
    /// Bytes arrived that nobody promised, or a malformed answer.
    WrongBytes,
    /// A well-formed HTTP answer whose status is not 2xx.
    BadStatus,
    /// Bytes still moved, but the limit for the whole exchange passed; or the kernel gave up (ETIMEDOUT).
    TimedOut,
    /// Nothing moved for as long as the stall limit.
    Hung,
    /// The connection was not established within the connect limit.
    ConnectTimedOut,
    /// Another error: no descriptors or ports left, host unreachable. The example has the errno.
    Failed,
}

impl Class {
    /// All classes, in the order in which they are shown.
    pub const ALL: [Self; 10] = [
        Self::Ok,
        Self::Refused,
        Self::Reset,
        Self::Cut,
        Self::WrongBytes,
        Self::BadStatus,
        Self::TimedOut,
        Self::Hung,
        Self::ConnectTimedOut,
        Self::Failed,
    ];

    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Cut => "cut",
            Self::WrongBytes => "wrong_bytes",
            Self::BadStatus => "bad_status",
            Self::TimedOut => "timed_out",
            Self::Hung => "hung",
            Self::ConnectTimedOut => "connect_timed_out",
            Self::Failed => "failed",
        }
    }

    /// True for everything a client would complain about.
    pub fn is_loss(self) -> bool {
        self != Self::Ok
    }
}

/// For people: the name in JSON with blanks.
impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.as_str().replace('_', " "))
    }
}

/// What the client was doing, in order of a connection's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It had a due time, but no connection was free.
    Waiting,
    /// Between SYN and established.
    Connecting,
    /// Sending, or ending its own direction.
    Sending,
    /// Expecting bytes.
    Receiving,
    /// Had everything, expecting the end of the stream.
    Ending,
    /// On a kept connection, between two exchanges.
    Idle,
}

impl Phase {
    /// All phases.
    pub const ALL: [Self; 6] = [
        Self::Waiting,
        Self::Connecting,
        Self::Sending,
        Self::Receiving,
        Self::Ending,
        Self::Idle,
    ];
}

/// For people: completes "while …".
impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting for a free connection",
            Self::Connecting => "connecting",
            Self::Sending => "sending",
            Self::Receiving => "receiving",
            Self::Ending => "waiting for the end",
            Self::Idle => "idle",
        })
    }
}

/// The class of an I/O error of `kind` in `phase`: the whole table.
pub fn classify(kind: ErrorKind, phase: Phase) -> Class {
    match (kind, phase) {
        (ErrorKind::ConnectionRefused, _) => Class::Refused,
        // A queue that was dropped under a half-open connection shows as a reset here, too.
        (ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted, _) => Class::Reset,
        (ErrorKind::TimedOut, Phase::Connecting) => Class::ConnectTimedOut,
        (ErrorKind::TimedOut, _) => Class::TimedOut,
        (_, Phase::Waiting | Phase::Connecting) => Class::Failed,
        // EPIPE and ENOTCONN: the reset came before we wrote.
        (ErrorKind::BrokenPipe | ErrorKind::NotConnected, _) => Class::Reset,
        (ErrorKind::UnexpectedEof | ErrorKind::WriteZero, _) => Class::Cut,
        _ => Class::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [ErrorKind; 10] = [
        ErrorKind::ConnectionRefused,
        ErrorKind::ConnectionReset,
        ErrorKind::ConnectionAborted,
        ErrorKind::BrokenPipe,
        ErrorKind::NotConnected,
        ErrorKind::UnexpectedEof,
        ErrorKind::WriteZero,
        ErrorKind::TimedOut,
        ErrorKind::AddrNotAvailable,
        ErrorKind::HostUnreachable,
    ];

    #[test]
    fn classification_table_is_the_reviewed_one() {
        let mut table = String::new();
        for kind in KINDS {
            for phase in Phase::ALL {
                let class = classify(kind, phase).as_str();
                table.push_str(&format!("{kind:?} + {phase:?} = {class}\n"));
            }
        }
        assert_eq!(
            table,
            include_str!("class.table"),
            "the table changed: review it and copy this\n{table}"
        );
    }

    #[test]
    fn only_ok_is_no_loss_and_names_are_distinct() {
        let losses: Vec<_> = Class::ALL
            .into_iter()
            .filter(|class| class.is_loss())
            .collect();
        assert_eq!(losses.len(), Class::ALL.len() - 1);
        let names: std::collections::HashSet<_> =
            Class::ALL.iter().map(|class| class.as_str()).collect();
        assert_eq!(names.len(), Class::ALL.len());
    }
}
