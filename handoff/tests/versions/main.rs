//! Versions: today's code converses with a frozen older peer, byte for byte as that version was recorded,
//! and with a synthetic newer one.
//!
//! `REVIEW=1 cargo nextest run -p handoff recording` records the protocol that this build speaks; recordings of
//! older protocols are never written again.

mod conversations;
mod frozen;
mod golden;
mod knock;
mod newer;
mod peer;
mod record;
mod today;
mod wire;

use std::collections::BTreeSet;
use std::path::Path;

use conversations::{ALL, Conversation};
use golden::{Freight, Line, Side, Talk};
use handoff::link::Channel;
use handoff::message::{ToSupervisor, ToWorker};
use handoff::version::{ProtocolRange, SPOKEN};
use knock::Door;
use peer::Role;

/// The oldest protocol that this build must get along with.
const FROZEN: u16 = 1;

/// Every word of protocol 1.
const SUPERVISOR_WORDS: [&str; 12] = [
    "welcome",
    "refuse",
    "listeners",
    "bound-ack",
    "resume",
    "pause",
    "drain",
    "reload",
    "shutdown",
    "ticket-keys",
    "share-state",
    "state",
];
const WORKER_WORDS: [&str; 11] = [
    "hello",
    "listeners-ack",
    "bound",
    "released",
    "ready",
    "failed",
    "accepting",
    "stats",
    "reloaded",
    "state",
    "drained",
];

/// What a peer of a later version says it speaks; today's highest is the lowest that it still does, or the
/// whole past.
const LATER: [(u16, u16); 2] = [(1, 99), (SPOKEN.max, 99)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recording_of_todays_protocol_is_the_reviewed_one() {
    for conversation in &ALL {
        let talk = record::record(conversation).await;
        let path = golden::path(SPOKEN.max, conversation.name);
        if std::env::var_os("REVIEW").is_some() {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(&path, golden::print(&talk)).expect("written");
        }
        assert!(
            path.is_file(),
            "protocol {} is not recorded: REVIEW=1 cargo nextest run -p handoff recording",
            SPOKEN.max
        );
        let reviewed = golden::load(SPOKEN.max, conversation.name);
        for side in [Side::Supervisor, Side::Worker] {
            assert_eq!(
                golden::said_by(&talk, side),
                golden::said_by(&reviewed, side),
                "{}: {side:?} speaks otherwise than recorded; a change of protocol {} needs REVIEW=1 \
                 and the diff read",
                conversation.name,
                SPOKEN.max
            );
        }
    }
}

#[test]
fn every_word_of_the_frozen_protocol_is_recorded_and_is_understood_today() {
    let (mut from_supervisor, mut from_worker) = (BTreeSet::new(), BTreeSet::new());
    for conversation in &ALL {
        for line in golden::load(FROZEN, conversation.name)
            .into_iter()
            .flatten()
        {
            let frame: serde_json::Value = serde_json::from_str(&line.bytes).expect("JSON");
            let message = frame["message"].clone();
            let word = message["type"].as_str().expect("a word").to_owned();
            frozen::understand(line.side, &line.bytes, (1, 1)).expect("understood then");
            let is_known = match line.side {
                Side::Supervisor => {
                    from_supervisor.insert(word);
                    let today: ToWorker = serde_json::from_value(message).expect("today");
                    today != ToWorker::Unknown
                }
                Side::Worker => {
                    from_worker.insert(word);
                    let today: ToSupervisor = serde_json::from_value(message).expect("today");
                    today != ToSupervisor::Unknown
                }
            };
            assert!(is_known, "{}", line.bytes);
            let fds = match line.freight {
                Freight::Nothing => 0,
                Freight::Sockets(count) => count,
                Freight::Memory(_) => 1,
            };
            assert_eq!(frame["fds"], fds, "{}", line.bytes);
        }
    }
    assert_eq!(from_supervisor, SUPERVISOR_WORDS.map(str::to_owned).into());
    assert_eq!(from_worker, WORKER_WORDS.map(str::to_owned).into());
}

/// Today's worker under a scripted supervisor.
async fn under(
    conversation: &'static Conversation,
    talk: Talk,
    claims: (u16, u16),
) -> Result<(), String> {
    let door = Door::open(conversation.name);
    let role = Role {
        side: Side::Supervisor,
        claims,
        rendezvous: door.path().display().to_string(),
    };
    let (ours, theirs) = Channel::pair().expect("pair");
    let working = tokio::spawn(today::worker(theirs, conversation));
    let mut next = Some(ours.into_fd());
    for part in talk {
        let socket = match next.take() {
            Some(socket) => socket,
            None => door.answer().await,
        };
        let role = role.clone();
        let playing = tokio::task::spawn_blocking(move || peer::play(&socket, &part, &role));
        playing.await.expect("joins")?;
    }
    let told = working.await.expect("joins");
    if told != conversation.told {
        return Err(format!("the worker was told {told:?}"));
    }
    Ok(())
}

/// Today's supervisor over a scripted worker.
async fn over(
    conversation: &'static Conversation,
    talk: Talk,
    claims: (u16, u16),
) -> Result<(), String> {
    let role = Role {
        side: Side::Worker,
        claims,
        rendezvous: String::new(),
    };
    for (part, script) in talk.into_iter().zip(conversation.supervisor) {
        let (ours, theirs) = Channel::pair().expect("pair");
        let role = role.clone();
        let socket = theirs.into_fd();
        let playing = tokio::task::spawn_blocking(move || peer::play(&socket, &part, &role));
        let nowhere = Path::new(golden::RENDEZVOUS);
        let learnt = today::supervisor(ours, &conversation.plan, script, nowhere).await;
        // The peer's own complaint names the frame, so it goes first.
        playing.await.expect("joins")?;
        learnt?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_of_today_serves_under_every_older_supervisor() {
    for protocol in FROZEN..=SPOKEN.max {
        for conversation in &ALL {
            let talk = golden::load(protocol, conversation.name);
            let outcome = under(conversation, talk, (protocol, protocol)).await;
            outcome.unwrap_or_else(|e| panic!("v{protocol} {}: {e}", conversation.name));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_of_today_leads_every_older_worker() {
    for protocol in FROZEN..=SPOKEN.max {
        for conversation in &ALL {
            let talk = golden::load(protocol, conversation.name);
            let outcome = over(conversation, talk, (protocol, protocol)).await;
            outcome.unwrap_or_else(|e| panic!("v{protocol} {}: {e}", conversation.name));
        }
    }
}

fn dressed(conversation: &Conversation, side: Side, claims: (u16, u16)) -> Talk {
    let talk = golden::load(FROZEN, conversation.name);
    talk.iter()
        .map(|part: &Vec<Line>| newer::dress(part, side, claims))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_of_today_serves_under_a_newer_supervisor() {
    for claims in LATER {
        for conversation in &ALL {
            let talk = dressed(conversation, Side::Supervisor, claims);
            let outcome = under(conversation, talk, claims).await;
            outcome.unwrap_or_else(|e| panic!("{claims:?} {}: {e}", conversation.name));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_of_today_leads_a_newer_worker() {
    for claims in LATER {
        for conversation in &ALL {
            let talk = dressed(conversation, Side::Worker, claims);
            let outcome = over(conversation, talk, claims).await;
            outcome.unwrap_or_else(|e| panic!("{claims:?} {}: {e}", conversation.name));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_without_a_common_protocol_part_before_any_listener_travels() {
    for (theirs, shown) in [
        ((SPOKEN.max + 1, 99), format!("{}-99", SPOKEN.max + 1)),
        ((0, 0), "0-0".to_owned()),
        ((9, 2), "9-2".to_owned()),
    ] {
        let conversation = &ALL[0];
        let (ours, peer) = Channel::pair().expect("pair");
        let hello = &golden::load(FROZEN, conversation.name)[0][0];
        let range = format!("{{\"min\":{},\"max\":{}}}", theirs.0, theirs.1);
        let hello = hello.bytes.replace("{\"min\":1,\"max\":1}", &range);
        assert!(hello.contains(&range), "{hello}");
        let answering = tokio::task::spawn_blocking(move || {
            let peer = peer.into_fd();
            wire::send(&peer, hello.as_bytes(), &[]).expect("sent");
            let answer = wire::receive(&peer).expect("an answer");
            (answer, wire::receive(&peer))
        });
        let script = conversation.supervisor[0];
        let learnt = today::supervisor(ours, &conversation.plan, script, Path::new("")).await;
        let ((answer, fds), more) = answering.await.expect("joins");
        assert!(fds.is_empty() && more.is_none(), "{answer} {more:?}");
        let both = [format!("handoff {shown}"), format!("speaks {SPOKEN}")];
        let learnt = learnt.expect_err("the worker is refused");
        for text in [&answer, &learnt] {
            assert!(text.contains("no protocol in common"), "{text}");
            assert!(both.iter().all(|range| text.contains(range)), "{text}");
        }
        let frame = serde_json::from_str::<serde_json::Value>(&answer).expect("JSON");
        assert_eq!(frame["message"]["type"], "refuse", "{answer}");
    }
}

#[test]
fn the_versions_next_to_this_one_are_spoken() {
    let before = ProtocolRange { min: 1, max: 1 };
    assert_eq!(SPOKEN.agree(before), Some(1));
    for (min, max) in LATER {
        assert_eq!(SPOKEN.agree(ProtocolRange { min, max }), Some(SPOKEN.max));
    }
}
