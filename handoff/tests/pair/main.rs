//! Both ends of the handoff in one process: counts, faults at each step, fuzz with fixed seeds.

use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use handoff::link::{Channel, Link, LinkError};
use handoff::message::{Batch, Hello, Member, ToSupervisor, ToWorker};
use handoff::supervisor::{Fact, Offer, Order, converse, greet};
use handoff::version::{ProtocolRange, SPOKEN};
use handoff::worker::{Command, Identity, Report, Session, SessionError};
use handoff::{ListenerName, Listeners, Share, TicketKeys};
use tokio::sync::mpsc;

mod carried;
mod moving;

const DEADLINE: Duration = Duration::from_secs(20);

fn name(text: &str) -> ListenerName {
    text.parse().expect("valid")
}

fn group(count: usize) -> Vec<OwnedFd> {
    let listener = OwnedFd::from(TcpListener::bind("127.0.0.1:0").expect("binds"));
    (0..count)
        .map(|_| listener.try_clone().expect("duplicates"))
        .collect()
}

fn identity() -> Identity {
    Identity {
        service: "load-balancer".to_owned(),
        version: "1.2.3".to_owned(),
        moves: false,
    }
}

fn hello(protocol: ProtocolRange) -> Hello {
    Hello {
        protocol,
        service: "load-balancer".to_owned(),
        version: "1".to_owned(),
        pid: 1,
        shares_state: false,
        moves: 0,
        returning: None,
    }
}

/// The supervisor's side as a task: its facts and its orders.
fn supervise(
    channel: Channel,
    listeners: Listeners,
) -> (
    mpsc::UnboundedReceiver<Fact>,
    mpsc::UnboundedSender<Order>,
    tokio::task::JoinHandle<()>,
) {
    let offer = Offer {
        generation: 7,
        token: "secret".to_owned(),
        rendezvous: String::new(),
        listeners,
        ticket_keys: TicketKeys::default(),
    };
    supervise_with(channel, offer)
}

fn supervise_with(
    channel: Channel,
    offer: Offer,
) -> (
    mpsc::UnboundedReceiver<Fact>,
    mpsc::UnboundedSender<Order>,
    tokio::task::JoinHandle<()>,
) {
    let (facts_in, facts) = mpsc::unbounded_channel();
    let (orders, orders_out) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        let mut link = Link::new(channel).expect("registers");
        match greet(&mut link).await {
            Ok(hello) => {
                converse(link, &hello, offer, orders_out, |fact| {
                    let _ = facts_in.send(fact);
                })
                .await;
            }
            Err(error) => {
                let _ = facts_in.send(Fact::Lost(error.to_string()));
            }
        }
    });
    (facts, orders, task)
}

/// Commands carry descriptors and are compared by what they say.
fn words(command: impl std::fmt::Debug) -> String {
    format!("{command:?}")
}

async fn fact(facts: &mut mpsc::UnboundedReceiver<Fact>) -> Fact {
    tokio::time::timeout(DEADLINE, facts.recv())
        .await
        .expect("a fact within the deadline")
        .expect("a fact")
}

async fn lost(facts: &mut mpsc::UnboundedReceiver<Fact>) -> String {
    loop {
        if let Fact::Lost(reason) = fact(facts).await {
            return reason;
        }
    }
}

#[tokio::test]
async fn every_number_of_sockets_passes_both_ways() {
    for count in [0, 1, 33, 253, 254, 600] {
        let (ours, theirs) = Channel::pair().expect("pair");
        let mut listeners = Listeners::new();
        if count > 0 {
            listeners.insert(name("web"), group(count));
        }
        let (mut facts, orders, task) = supervise(ours, listeners);
        let (mut session, received) = Session::open(theirs, &identity()).await.expect("opens");
        assert_eq!(received.socket_count(), count);
        assert_eq!(session.generation(), 7);
        let mut bound = Listeners::new();
        bound.insert(name("new"), group(count + 1));
        session.offer(bound).await.expect("offers");
        let Fact::Bound(bound) = fact(&mut facts).await else {
            panic!("bound listeners were due");
        };
        assert_eq!(bound.socket_count(), count + 1);
        let mut talk = session.ready(
            vec![name("web")],
            Vec::new(),
            Box::new(|| Ok(Listeners::new())),
        );
        assert!(
            matches!(fact(&mut facts).await, Fact::Ready { unclaimed, .. } if unclaimed == [name("web")])
        );
        orders.send(Order::Accept(Share::ALL)).expect("sent");
        assert_eq!(
            words(talk.commands.recv().await),
            words(Some(Command::Accept(Share::ALL)))
        );
        talk.reports
            .send(Report::Accepting(Share::ALL))
            .expect("sent");
        assert!(matches!(
            fact(&mut facts).await,
            Fact::Accepting(Share::ALL)
        ));
        let within = Duration::from_secs(3);
        orders.send(Order::Drain { within }).expect("sent");
        assert_eq!(
            words(talk.commands.recv().await),
            words(Some(Command::Drain { within }))
        );
        talk.reports
            .send(Report::Drained {
                finished: 5,
                cut: 0,
                moved: 0,
            })
            .expect("sent");
        assert!(matches!(
            fact(&mut facts).await,
            Fact::Drained {
                finished: 5,
                cut: 0,
                moved: 0
            }
        ));
        talk.close(DEADLINE).await;
        assert!(matches!(fact(&mut facts).await, Fact::Lost(_)));
        task.await.expect("ends");
    }
}

#[tokio::test]
async fn a_supervisor_of_another_protocol_refuses_with_both_ranges() {
    let (ours, theirs) = Channel::pair().expect("pair");
    let (mut facts, _orders, _task) = supervise(ours, Listeners::new());
    let mut worker = Link::new(theirs).expect("registers");
    let other = ProtocolRange { min: 900, max: 901 };
    worker
        .send(&ToSupervisor::Hello(hello(other)), &[])
        .await
        .expect("sent");
    let (answer, _) = worker.receive::<ToWorker>().await.expect("answer");
    assert!(matches!(answer, ToWorker::Refuse { reason } if reason.contains("900-901")));
    assert!(lost(&mut facts).await.contains("no protocol in common"));
}

#[tokio::test]
async fn a_worker_that_acknowledges_fewer_descriptors_is_refused() {
    let (ours, theirs) = Channel::pair().expect("pair");
    let mut listeners = Listeners::new();
    listeners.insert(name("web"), group(254));
    let (mut facts, _orders, _task) = supervise(ours, listeners);
    let mut worker = Link::new(theirs).expect("registers");
    worker
        .send(&ToSupervisor::Hello(hello(SPOKEN)), &[])
        .await
        .expect("sent");
    let (_welcome, _) = worker.receive::<ToWorker>().await.expect("welcome");
    let (_batch, fds) = worker.receive::<ToWorker>().await.expect("batch");
    assert_eq!(fds.len(), 253);
    let ack = ToSupervisor::ListenersAck {
        batch: 1,
        received: 32,
    };
    worker.send(&ack, &[]).await.expect("sent");
    assert!(lost(&mut facts).await.contains("32 descriptors"));
}

#[tokio::test]
async fn death_of_the_worker_at_each_step_is_seen_at_once() {
    for step in 0..4 {
        let (ours, theirs) = Channel::pair().expect("pair");
        let mut listeners = Listeners::new();
        listeners.insert(name("web"), group(3));
        let (mut facts, _orders, _task) = supervise(ours, listeners);
        let mut worker = Link::new(theirs).expect("registers");
        if step > 0 {
            let word = ToSupervisor::Hello(hello(SPOKEN));
            worker.send(&word, &[]).await.expect("sent");
        }
        if step > 1 {
            let _ = worker.receive::<ToWorker>().await.expect("welcome");
            let _ = worker.receive::<ToWorker>().await.expect("batch");
        }
        if step > 2 {
            let ack = ToSupervisor::ListenersAck {
                batch: 1,
                received: 3,
            };
            worker.send(&ack, &[]).await.expect("sent");
        }
        drop(worker);
        let reason = lost(&mut facts).await;
        assert!(reason.contains("closed"), "step {step}: {reason}");
    }
}

#[tokio::test]
async fn death_of_the_supervisor_ends_a_worker_that_never_served_and_no_other() {
    for serving in [false, true] {
        let (ours, theirs) = Channel::pair().expect("pair");
        let (mut facts, orders, task) = supervise(ours, Listeners::new());
        let (session, _) = Session::open(theirs, &identity()).await.expect("opens");
        let mut talk = session.ready(Vec::new(), Vec::new(), Box::new(|| Ok(Listeners::new())));
        assert!(matches!(fact(&mut facts).await, Fact::Ready { .. }));
        if serving {
            orders.send(Order::Accept(Share::ALL)).expect("sent");
            assert_eq!(
                words(talk.commands.recv().await),
                words(Some(Command::Accept(Share::ALL)))
            );
        }
        task.abort();
        if serving {
            // It goes on taking reports: the worker never notices.
            for _ in 0..100 {
                let stats = handoff::worker::Stats::default();
                talk.reports
                    .send(Report::Stats(stats))
                    .expect("still there");
            }
            talk.reports
                .send(Report::Drained {
                    finished: 0,
                    cut: 0,
                    moved: 0,
                })
                .expect("still there");
            talk.close(DEADLINE).await;
        } else {
            let last = tokio::time::timeout(DEADLINE, talk.commands.recv()).await;
            assert_eq!(
                words(last.expect("told in time")),
                words(Some(Command::Shutdown))
            );
        }
    }
}

#[tokio::test]
async fn a_batch_that_names_more_than_it_brings_is_refused_by_the_worker() {
    let (ours, theirs) = Channel::pair().expect("pair");
    let opening = tokio::spawn(async move { Session::open(theirs, &identity()).await.map(|_| ()) });
    let mut supervisor = Link::new(ours).expect("registers");
    let (_hello, _) = supervisor.receive::<ToSupervisor>().await.expect("hello");
    let welcome = handoff::message::Welcome {
        protocol: 1,
        generation: 1,
        token: String::new(),
        rendezvous: String::new(),
        batches: 1,
        ticket_keys: TicketKeys::default(),
    };
    supervisor
        .send(&ToWorker::Welcome(welcome), &[])
        .await
        .expect("sent");
    let sockets = (0..2)
        .map(|member| Member {
            name: name("web"),
            member,
        })
        .collect();
    let batch = Batch {
        batch: 1,
        of: 1,
        sockets,
    };
    let only_one = group(1);
    supervisor
        .send(&ToWorker::Listeners(batch), &[only_one[0].as_fd()])
        .await
        .expect("sent");
    let outcome = opening.await.expect("joins");
    assert!(
        matches!(outcome, Err(SessionError::Batch(_))),
        "{outcome:?}"
    );
}

/// A raw frame, valid or not, from a generator with a fixed seed.
fn noise(seed: u64, round: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let templates = [
        format!(
            r#"{{"seq":{},"fds":{},"message":{{"type":"hello","protocol":{{"min":{},"max":{}}},"service":"x","version":"y","pid":1}}}}"#,
            next() % 4,
            next() % 3,
            next() % 3,
            next() % 3
        ),
        format!(
            r#"{{"seq":{},"message":{{"type":"listeners-ack","batch":{},"received":{}}}}}"#,
            next() % 4,
            next() % 3,
            next() % 5
        ),
        format!(
            r#"{{"seq":{},"message":{{"type":"bound","batch":{},"of":{},"sockets":[{{"name":"web","member":{}}}]}}}}"#,
            next() % 4,
            next() % 3,
            next() % 3,
            next() % 3
        ),
        format!(
            r#"{{"seq":{},"message":{{"type":"welcome","protocol":1,"generation":{},"token":"","batches":{}}}}}"#,
            next() % 3,
            next(),
            next() % 4
        ),
        format!(
            r#"{{"seq":{},"message":{{"type":"listeners","batch":{},"of":{},"sockets":[]}}}}"#,
            next() % 4,
            next() % 3,
            next() % 3
        ),
        format!(
            r#"{{"seq":{},"message":{{"type":"ready","unclaimed":["UPPER"]}}}}"#,
            next() % 4
        ),
        format!(
            r#"{{"seq":{},"fds":{},"message":{{"type":"state","bytes":{}}}}}"#,
            next() % 4,
            next() % 2,
            next()
        ),
        format!(
            r#"{{"seq":{},"message":{{"type":"ticket-keys","keys":["{:032x}"]}}}}"#,
            next() % 4,
            next()
        ),
    ];
    let mut frame = templates[usize::try_from(next() % 8).expect("small")]
        .clone()
        .into_bytes();
    for _ in 0..next() % 3 {
        let at = usize::try_from(next()).unwrap_or(0) % frame.len();
        frame[at] = u8::try_from(next() % 256).expect("a byte");
    }
    frame
}

#[tokio::test]
async fn malformed_frames_end_the_conversation_and_nothing_else() {
    for seed in 0..256 {
        let (ours, theirs) = Channel::pair().expect("pair");
        let held = group(2);
        let mut listeners = Listeners::new();
        listeners.insert(
            name("web"),
            held.iter().map(|fd| fd.try_clone().expect("dup")).collect(),
        );
        let (mut facts, _orders, task) = supervise(ours, listeners);
        let peer = theirs.into_fd();
        for round in 0..6 {
            let _ = rustix::net::send(&peer, &noise(seed, round), rustix::net::SendFlags::NOSIGNAL);
        }
        drop(peer);
        let _ = lost(&mut facts).await;
        task.await
            .unwrap_or_else(|error| panic!("seed {seed} panicked: {error}"));
        // The supervisor's own listeners still accept.
        let listener = TcpListener::from(held[0].try_clone().expect("dup"));
        let address = listener.local_addr().expect("address");
        std::net::TcpStream::connect(address).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}

#[tokio::test]
async fn malformed_frames_never_panic_a_worker() {
    for seed in 0..256 {
        let (ours, theirs) = Channel::pair().expect("pair");
        let peer = ours.into_fd();
        let opening =
            tokio::spawn(async move { Session::open(theirs, &identity()).await.map(|_| ()) });
        for round in 0..6 {
            let _ = rustix::net::send(&peer, &noise(seed, round), rustix::net::SendFlags::NOSIGNAL);
        }
        drop(peer);
        let outcome = opening
            .await
            .unwrap_or_else(|error| panic!("seed {seed} panicked: {error}"));
        if let Err(SessionError::Link(LinkError::Deadline { .. })) = outcome {
            panic!("seed {seed}: waited for a deadline although the peer was gone");
        }
    }
}
