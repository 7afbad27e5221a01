//! Clients that wait for a successor that accepts none.
//!
//! Room  pure.
//! Holds who accepts nothing while nobody comes is idle, not broken; a full service accepts nothing either, so what
//!       has accepted before is suspect only.

use super::{Judgement, WINDOW_MIN, Window};

/// The accept queues of the sockets that the successor accepts on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Queue {
    /// Clients in them now.
    pub(crate) waiting: u64,
    /// Whether anything was accepted in the last [`WINDOW_MIN`]; `None`: not known.
    pub(crate) moves: Option<bool>,
}

pub(super) fn queue(queue: &Queue, candidate: &Window) -> Option<Judgement> {
    if queue.waiting == 0 || queue.moves != Some(false) {
        return None;
    }
    let clients = if queue.waiting == 1 {
        "1 client waits".to_owned()
    } else {
        format!("{} clients wait", queue.waiting)
    };
    let text = format!("it accepts nobody: {clients} in its accept queues");
    Some(match candidate.accepted {
        0 => Judgement::Breach(format!(
            "{text}, and it has accepted none in {:.0} s",
            candidate.length.as_secs_f64()
        )),
        _ => Judgement::Suspect(format!(
            "{text}, and it has accepted none for {WINDOW_MIN:?}"
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::{Queue, queue};
    use crate::verdict::{Judgement, Window};

    #[test]
    fn waiting_alone_is_nothing_and_neither_is_accepting_nothing() {
        // Waiting, whether anything moves, accepted since it was opened; what that is.
        let table = [
            (0, Some(false), 0, "nothing"),
            (5, Some(true), 9, "nothing"),
            (5, None, 0, "nothing"),
            (1, Some(false), 0, "breach: 1 client waits"),
            (5, Some(false), 0, "breach: 5 clients wait"),
            (5, Some(false), 9, "suspect: 5 clients wait"),
        ];
        for (waiting, moves, accepted, expected) in table {
            let candidate = Window {
                accepted,
                ..Window::default()
            };
            let judged = match queue(&Queue { waiting, moves }, &candidate) {
                None => "nothing".to_owned(),
                Some(Judgement::Breach(reason)) => reason.replace("it accepts nobody", "breach"),
                Some(Judgement::Suspect(reason)) => reason.replace("it accepts nobody", "suspect"),
                Some(other) => panic!("{other:?}"),
            };
            assert!(judged.starts_with(expected), "{judged}");
        }
    }
}
