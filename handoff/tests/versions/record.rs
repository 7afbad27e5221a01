//! Records what today's two sides say to each other: both run for real, and every frame passes a listener
//! in the middle.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use handoff::link::Channel;

use crate::conversations::Conversation;
use crate::golden::{Line, PID, RENDEZVOUS, Side, Talk};
use crate::knock::Door;
use crate::{peer, today, wire};

/// Runs a conversation; both sides must go as it says.
pub(crate) async fn record(conversation: &'static Conversation) -> Talk {
    let door = Door::open(conversation.name);
    let (worker_end, theirs) = Channel::pair().expect("pair");
    let working = tokio::spawn(today::worker(theirs, conversation));
    let mut talk = Vec::new();
    let mut next = Some(worker_end.into_fd());
    for script in conversation.supervisor {
        let worker_end = match next.take() {
            Some(end) => end,
            None => door.answer().await,
        };
        let (ours, supervisor_end) = Channel::pair().expect("pair");
        let path = door.path().to_owned();
        let tapping =
            tokio::task::spawn_blocking(move || tap(&supervisor_end.into_fd(), &worker_end, &path));
        let outcome = today::supervisor(ours, &conversation.plan, script, door.path()).await;
        outcome.unwrap_or_else(|error| panic!("{}: {error}", conversation.name));
        talk.push(tapping.await.expect("joins"));
    }
    let told = working.await.expect("joins");
    assert_eq!(told, conversation.told, "{}", conversation.name);
    talk
}

/// Passes every frame on, until one side closes.
fn tap(supervisor: &OwnedFd, worker: &OwnedFd, rendezvous: &Path) -> Vec<Line> {
    let mut lines = Vec::new();
    loop {
        let readable = wire::wait(&[supervisor, worker]);
        // One at a time: what was said first is also recorded first.
        let (side, from, to) = if readable[1] {
            (Side::Worker, worker, supervisor)
        } else {
            (Side::Supervisor, supervisor, worker)
        };
        let Some((bytes, fds)) = wire::receive(from) else {
            return lines;
        };
        let borrowed: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        let _ = wire::send(to, bytes.as_bytes(), &borrowed);
        lines.push(Line {
            side,
            bytes: neutral(&bytes, rendezvous),
            freight: peer::unload(fds),
        });
    }
}

/// Without what differs from run to run.
fn neutral(bytes: &str, rendezvous: &Path) -> String {
    let pid = format!("\"pid\":{}", std::process::id());
    let path = PathBuf::from(rendezvous).display().to_string();
    bytes.replace(&pid, PID).replace(&path, RENDEZVOUS)
}
