//! Connections move from one worker to another: what a supervisor orders reaches both, and the way between them is their own.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use handoff::link::Channel;
use handoff::passage::{Fate, Giver, Item, Taker};
use handoff::supervisor::{Fact, Order};
use handoff::worker::{Command, Identity, Moved, Report};

use handoff::worker::{Conversation, Session};
use handoff::{Listeners, Share};
use tokio::sync::mpsc;

use super::{DEADLINE, fact, identity, supervise};

/// Both sides of a conversation whose worker accepts.
struct Pair {
    facts: mpsc::UnboundedReceiver<Fact>,
    orders: mpsc::UnboundedSender<Order>,
    talk: Conversation,
}

async fn accepting_worker(identity: &Identity) -> Pair {
    let (ours, theirs) = Channel::pair().expect("pair");
    let (mut facts, orders, _task) = supervise(ours, Listeners::new());
    let (session, _) = Session::open(theirs, identity).await.expect("opens");
    let mut talk = session.ready(Vec::new(), Vec::new(), Box::new(|| Ok(Listeners::new())));
    let moves = u16::from(identity.moves);
    assert!(matches!(fact(&mut facts).await, Fact::Ready { moves: told, .. } if told == moves));
    orders.send(Order::Accept(Share::ALL)).expect("sent");
    assert!(matches!(
        talk.commands.recv().await,
        Some(Command::Accept(_))
    ));
    talk.reports
        .send(Report::Accepting(Share::ALL))
        .expect("sent");
    assert!(matches!(fact(&mut facts).await, Fact::Accepting(_)));
    Pair {
        facts,
        orders,
        talk,
    }
}

#[tokio::test]
async fn a_supervisor_joins_two_workers_and_hears_what_moved() {
    let moving = || Identity {
        moves: true,
        ..identity()
    };
    let mut giving = accepting_worker(&moving()).await;
    let mut taking = accepting_worker(&moving()).await;
    let (near, far) = Channel::pair().expect("a pair");
    let give = Order::Give {
        passage: near,
        percent: 40,
    };
    taking.orders.send(Order::Take(far)).expect("sent");
    giving.orders.send(give).expect("sent");
    let Some(Command::Take(passage)) = taking.talk.commands.recv().await else {
        panic!("it was told something else");
    };
    let taker = tokio::spawn(async move {
        let mut taker = Taker::open(passage, 10).await.expect("opens");
        let delivery = taker.next().await.expect("arrives").expect("a batch");
        let batch = delivery.batch();
        taker.take(batch, Vec::new(), 10).await.expect("is heard");
        delivery.connections.len()
    });
    let Some(Command::Give { passage, percent }) = giving.talk.commands.recv().await else {
        panic!("it was told something else");
    };
    assert_eq!(percent, 40);
    let mut giver = Giver::open(passage).await.expect("opens");
    let socket = OwnedFd::from(UnixStream::pair().expect("a pair").0);
    let item = Item {
        record: serde_json::value::to_raw_value(&()).expect("a record"),
        descriptors: vec![socket.as_fd()],
        held: Vec::new(),
    };
    assert_eq!(giver.offer(&[item]).await, [Fate::Taken]);
    assert_eq!(taker.await.expect("ends"), 1);
    let moved = Moved {
        over: true,
        broken: false,
        moved: 1,
        kept: [("a backend".to_owned(), 2)].into(),
        took_us: 5,
        stall_max_us: 4,
    };
    giving
        .talk
        .reports
        .send(Report::Moved(moved.clone()))
        .expect("sent");
    match fact(&mut giving.facts).await {
        Fact::Moved(told) => assert_eq!(told, moved),
        other => panic!("the supervisor learnt {other:?}"),
    }
    giving.talk.close(DEADLINE).await;
    taking.talk.close(DEADLINE).await;
}

#[tokio::test]
async fn a_worker_that_moves_nothing_is_not_asked_and_the_far_end_sees_that_nobody_comes() {
    let mut worker = accepting_worker(&identity()).await;
    let (near, far) = Channel::pair().expect("a pair");
    let give = Order::Give {
        passage: near,
        percent: 100,
    };
    worker.orders.send(give).expect("sent");
    worker.orders.send(Order::Reload).expect("sent");
    assert!(matches!(
        worker.talk.commands.recv().await,
        Some(Command::Reload)
    ));
    let mut taker = Taker::open(far, 10).await;
    if let Ok(taker) = taker.as_mut() {
        taker.next().await.expect_err("nobody is there");
    }
    worker.talk.close(DEADLINE).await;
}
