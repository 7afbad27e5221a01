//! A request's life as a table: where it stands, what went wrong there, and what may still be done about it.
//!
//! ```text
//!   Head ──▶ Connecting ──▶ Sending ──▶ Waiting ──▶ Answering ──▶ over
//!              ▲   │            │           │           │
//!              └───┴── another ─┴───────────┘           └─ cut: half an answer cannot be taken back
//!                      backend, where nothing can have been done twice
//! ```
//!
//! Room  pure. The engines (`h1`, `h2`) ask it at every failure and carry the verdict out.
//! Holds a request is sent again only when no backend can have acted upon it, or acting twice is allowed
//!       (RFC 9110 section 9.2.2); once a byte of an answer has left, nothing but the end of the connection
//!       tells the client of a failure.

use crate::end::End;

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its head arrives.
    Head,
    /// A backend is looked for.
    Connecting,
    /// It is on its way to a backend.
    Sending,
    /// It was sent whole; the answer has not begun.
    Waiting,
    /// The answer's head has left.
    Answering,
}

/// What is known of a request when something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    pub stage: Stage,
    /// GET, HEAD, OPTIONS, TRACE, PUT, DELETE (RFC 9110 section 9.2.2).
    pub idempotent: bool,
    /// Bytes of its body have left: they are gone.
    pub body_was_sent: bool,
    /// The backend's connection had served before: it may have been closing all along.
    pub reused: bool,
    /// Further attempts that count and budget allow.
    pub attempts_left: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Another backend, or another connection to the same.
    Again,
    /// The client gets this status, then its connection is closed if its request was not read whole.
    Answer(u16),
    /// The client's connection ends here, visibly unfinished.
    Cut,
}

/// The verdict on a failure.
#[must_use]
pub fn verdict(situation: &Situation, end: End) -> Verdict {
    if situation.stage == Stage::Answering {
        return Verdict::Cut;
    }
    if may_go_again(situation, end) {
        return Verdict::Again;
    }
    end.status().map_or(Verdict::Cut, Verdict::Answer)
}

fn may_go_again(situation: &Situation, end: End) -> bool {
    if !situation.attempts_left || situation.body_was_sent {
        return false;
    }
    match (situation.stage, end) {
        // Nothing was sent.
        (Stage::Connecting, End::ConnectFailed | End::ConnectTimeout) => true,
        // A kept connection that the backend was closing: it answered nothing. Whether it read the request
        // cannot be known, so only what may happen twice goes again.
        (Stage::Sending | Stage::Waiting, End::BackendClosed) => {
            situation.idempotent && situation.reused
        }
        _ => false,
    }
}

/// Methods whose effect is the same when it happens twice.
#[must_use]
pub fn is_idempotent(method: &str) -> bool {
    matches!(
        method,
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
    )
}

#[cfg(test)]
mod tests {
    use super::{Situation, Stage, Verdict, verdict};
    use crate::end::End;

    const STAGES: [Stage; 5] = [
        Stage::Head,
        Stage::Connecting,
        Stage::Sending,
        Stage::Waiting,
        Stage::Answering,
    ];

    fn every_situation() -> impl Iterator<Item = Situation> {
        STAGES.into_iter().flat_map(|stage| {
            (0..16_u8).map(move |bits| Situation {
                stage,
                idempotent: bits & 1 != 0,
                body_was_sent: bits & 2 != 0,
                reused: bits & 4 != 0,
                attempts_left: bits & 8 != 0,
            })
        })
    }

    #[test]
    fn the_table_of_verdicts() {
        let mut lines = String::new();
        for situation in every_situation() {
            let again: Vec<_> = End::ALL
                .into_iter()
                .filter(|end| verdict(&situation, *end) == Verdict::Again)
                .map(End::as_str)
                .collect();
            if !again.is_empty() {
                lines.push_str(&format!(
                    "{:?} idempotent={} reused={}: {}\n",
                    situation.stage, situation.idempotent, situation.reused, again.join(" ")
                ));
            }
        }
        // Everything absent from here is never sent twice.
        let reviewed = "\
            Connecting idempotent=false reused=false: backend:connect-failed backend:connect-timeout\n\
            Connecting idempotent=true reused=false: backend:connect-failed backend:connect-timeout\n\
            Connecting idempotent=false reused=true: backend:connect-failed backend:connect-timeout\n\
            Connecting idempotent=true reused=true: backend:connect-failed backend:connect-timeout\n\
            Sending idempotent=true reused=true: backend:closed\n\
            Waiting idempotent=true reused=true: backend:closed\n";
        assert_eq!(lines, reviewed);
    }

    #[test]
    fn half_an_answer_is_cut_and_a_whole_one_is_never_added() {
        for situation in every_situation() {
            for end in End::ALL {
                let verdict = verdict(&situation, end);
                if situation.stage == Stage::Answering {
                    assert_eq!(verdict, Verdict::Cut);
                }
                if let Verdict::Answer(status) = verdict {
                    assert!((400..600).contains(&status));
                }
            }
        }
    }
}
