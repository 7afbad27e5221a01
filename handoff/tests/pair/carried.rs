//! What a generation leaves to the next one: ticket keys and the service's state, with faults on both sides.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use handoff::link::{Channel, Link};
use handoff::message::{Stats, ToSupervisor, ToWorker, Welcome};
use handoff::supervisor::{Fact, Offer, Order};
use handoff::version::SPOKEN;
use handoff::worker::{Command, Conversation, Report, Session};
use handoff::{Listeners, STATE_BYTES_MAX, Sealed, Share, TicketKeys};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::sync::mpsc;

use super::{DEADLINE, fact, group, hello, identity, name, supervise, supervise_with, words};

fn keys(newest_last: &[u8]) -> TicketKeys {
    let mut keys = TicketKeys::default();
    for byte in newest_last {
        keys.rotate([*byte; 32], 3);
    }
    keys
}

fn offer(ticket_keys: TicketKeys) -> Offer {
    Offer {
        generation: 7,
        token: "secret".to_owned(),
        rendezvous: String::new(),
        listeners: Listeners::new(),
        ticket_keys,
    }
}

async fn command(talk: &mut Conversation) -> Command {
    tokio::time::timeout(DEADLINE, talk.commands.recv())
        .await
        .expect("a command within the deadline")
        .expect("a command")
}

type Facts = mpsc::UnboundedReceiver<Fact>;
type Orders = mpsc::UnboundedSender<Order>;

/// A worker that is ready, and its supervisor's ends.
async fn standby() -> (Conversation, Facts, Orders) {
    let (ours, theirs) = Channel::pair().expect("pair");
    let (mut facts, orders, _task) = supervise(ours, Listeners::new());
    let (session, _) = Session::open(theirs, &identity()).await.expect("opens");
    let talk = session.ready(Vec::new(), Vec::new(), Box::new(|| Ok(Listeners::new())));
    assert!(matches!(fact(&mut facts).await, Fact::Ready { .. }));
    (talk, facts, orders)
}

/// A worker of the test's own making that is ready, and its supervisor's ends.
async fn raw_worker(shares_state: bool) -> (Link, Facts, Orders) {
    let (ours, theirs) = Channel::pair().expect("pair");
    let (mut facts, orders, _task) = supervise(ours, Listeners::new());
    let mut worker = Link::new(theirs).expect("registers");
    let word = ToSupervisor::Hello(handoff::message::Hello {
        shares_state,
        moves: 0,
        ..hello(SPOKEN)
    });
    worker.send(&word, &[]).await.expect("sent");
    let _welcome = worker.receive::<ToWorker>().await.expect("welcome");
    let ready = ToSupervisor::Ready {
        self_tests: Vec::new(),
        unclaimed: Vec::new(),
    };
    worker.send(&ready, &[]).await.expect("sent");
    assert!(matches!(fact(&mut facts).await, Fact::Ready { .. }));
    (worker, facts, orders)
}

/// A supervisor of the test's own making, and a worker that is ready.
async fn raw_supervisor(keys: TicketKeys, rendezvous: &Path) -> (Link, Conversation) {
    let (ours, theirs) = Channel::pair().expect("pair");
    let opening = tokio::spawn(async move { Session::open(theirs, &identity()).await });
    let mut supervisor = Link::new(ours).expect("registers");
    let _hello = supervisor.receive::<ToSupervisor>().await.expect("hello");
    welcome(&mut supervisor, keys, rendezvous).await;
    let (session, _) = opening.await.expect("joins").expect("opens");
    let talk = session.ready(Vec::new(), Vec::new(), Box::new(|| Ok(Listeners::new())));
    let (ready, _) = supervisor.receive::<ToSupervisor>().await.expect("ready");
    assert!(matches!(ready, ToSupervisor::Ready { .. }));
    (supervisor, talk)
}

async fn welcome(supervisor: &mut Link, ticket_keys: TicketKeys, rendezvous: &Path) {
    let welcome = Welcome {
        protocol: 1,
        generation: 7,
        token: "secret".to_owned(),
        rendezvous: rendezvous.display().to_string(),
        batches: 0,
        ticket_keys,
    };
    supervisor
        .send(&ToWorker::Welcome(welcome), &[])
        .await
        .expect("sent");
}

#[tokio::test]
async fn keys_come_with_the_welcome_and_at_each_rotation_also_while_preparing() {
    let (ours, theirs) = Channel::pair().expect("pair");
    let (mut facts, orders, _task) = supervise_with(ours, offer(keys(&[1])));
    let (mut session, _) = Session::open(theirs, &identity()).await.expect("opens");
    assert_eq!(*session.ticket_keys(), keys(&[1]));
    orders.send(Order::TicketKeys(keys(&[1, 2]))).expect("sent");
    // The keys overtake the acknowledgement: the conversation sends them before it reads `Bound`, or after.
    let mut bound = Listeners::new();
    bound.insert(name("web"), group(1));
    session.offer(bound).await.expect("offers");
    let in_time = *session.ticket_keys() == keys(&[1, 2]);
    let mut talk = session.ready(Vec::new(), Vec::new(), Box::new(|| Ok(Listeners::new())));
    if !in_time {
        let told = command(&mut talk).await;
        assert_eq!(words(told), words(Command::TicketKeys(keys(&[1, 2]))));
    }
    orders
        .send(Order::TicketKeys(keys(&[1, 2, 3])))
        .expect("sent");
    let told = command(&mut talk).await;
    assert_eq!(words(told), words(Command::TicketKeys(keys(&[1, 2, 3]))));
    assert!(matches!(fact(&mut facts).await, Fact::Bound(_)));
    assert!(matches!(fact(&mut facts).await, Fact::Ready { .. }));
}

#[tokio::test]
async fn keys_that_arrive_before_an_acknowledgement_are_not_lost() {
    let (ours, theirs) = Channel::pair().expect("pair");
    let working = tokio::spawn(async move {
        let (mut session, _) = Session::open(theirs, &identity()).await.expect("opens");
        let mut bound = Listeners::new();
        bound.insert(name("web"), group(1));
        session.offer(bound).await.expect("offers");
        session.ticket_keys().clone()
    });
    let mut supervisor = Link::new(ours).expect("registers");
    let _hello = supervisor.receive::<ToSupervisor>().await.expect("hello");
    welcome(&mut supervisor, keys(&[1]), Path::new("")).await;
    let _bound = supervisor.receive::<ToSupervisor>().await.expect("bound");
    let rotated = ToWorker::TicketKeys {
        keys: keys(&[1, 2]),
    };
    supervisor.send(&rotated, &[]).await.expect("sent");
    let ack = ToWorker::BoundAck { batch: 1 };
    supervisor.send(&ack, &[]).await.expect("sent");
    assert_eq!(working.await.expect("joins"), keys(&[1, 2]));
}

/// A listening sequenced-packet socket with a name of its own.
fn rendezvous(test: &str) -> (OwnedFd, PathBuf) {
    let path = std::env::temp_dir().join(format!("handoff-{test}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .expect("a socket");
    let address = SocketAddrUnix::new(&path).expect("an address");
    rustix::net::bind(&socket, &address).expect("binds");
    rustix::net::listen(&socket, 4).expect("listens");
    (socket, path)
}

async fn returned(listening: OwnedFd) -> Link {
    let accepted = tokio::task::spawn_blocking(move || {
        rustix::net::accept_with(&listening, SocketFlags::CLOEXEC)
    });
    let socket = tokio::time::timeout(DEADLINE, accepted)
        .await
        .expect("returns in time")
        .expect("joins")
        .expect("accepts");
    Link::new(Channel::adopt(socket).expect("adopts")).expect("registers")
}

#[tokio::test]
async fn a_worker_gives_the_newest_keys_back_and_obeys_the_next_supervisors() {
    let (listening, path) = rendezvous("keys");
    let (mut supervisor, mut talk) = raw_supervisor(keys(&[1]), &path).await;
    supervisor.send(&ToWorker::Resume, &[]).await.expect("sent");
    assert_eq!(
        words(command(&mut talk).await),
        words(Command::Accept(Share::ALL))
    );
    let rotated = ToWorker::TicketKeys {
        keys: keys(&[1, 2]),
    };
    supervisor.send(&rotated, &[]).await.expect("sent");
    assert_eq!(
        words(command(&mut talk).await),
        words(Command::TicketKeys(keys(&[1, 2])))
    );
    drop(supervisor);

    let mut next = returned(listening.try_clone().expect("duplicates")).await;
    let (word, _) = next.receive::<ToSupervisor>().await.expect("hello");
    let ToSupervisor::Hello(hello) = word else {
        panic!("the first word is hello: {word:?}");
    };
    let returning = hello.returning.expect("returns");
    assert_eq!(returning.ticket_keys, keys(&[1, 2]));
    welcome(&mut next, keys(&[9]), &path).await;
    assert_eq!(
        words(command(&mut talk).await),
        words(Command::TicketKeys(keys(&[9])))
    );
    drop(next);

    // An older supervisor without keys: the worker goes on with what it has, and gives that back.
    let mut older = returned(listening.try_clone().expect("duplicates")).await;
    let _hello = older.receive::<ToSupervisor>().await.expect("hello");
    welcome(&mut older, TicketKeys::default(), &path).await;
    let _ready = older.receive::<ToSupervisor>().await.expect("ready");
    drop(older);
    let mut last = returned(listening).await;
    let (word, _) = last.receive::<ToSupervisor>().await.expect("hello");
    assert!(
        matches!(&word, ToSupervisor::Hello(hello) if hello.returning.as_ref().is_some_and(|r| r.ticket_keys == keys(&[9]))),
        "{word:?}"
    );
    assert!(
        talk.commands.try_recv().is_err(),
        "nothing else was commanded"
    );
    let _ = std::fs::remove_file(path);
}

#[tokio::test]
async fn a_state_reaches_the_successor_before_it_may_accept() {
    let (mut incumbent, mut said, ask) = standby().await;
    let (mut successor, _facts, tell) = standby().await;
    ask.send(Order::Accept(Share::ALL)).expect("sent");
    assert_eq!(
        words(command(&mut incumbent).await),
        words(Command::Accept(Share::ALL))
    );
    let state: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    ask.send(Order::ShareState).expect("sent");
    assert_eq!(
        words(command(&mut incumbent).await),
        words(Command::ShareState)
    );
    let answer = Report::State(state.clone());
    incumbent.reports.send(answer).expect("sent");
    let Fact::State(Ok(Some(sealed))) = fact(&mut said).await else {
        panic!("a state was due");
    };
    tell.send(Order::GiveState(sealed)).expect("sent");
    tell.send(Order::Accept(Share::ALL)).expect("sent");
    assert_eq!(
        words(command(&mut successor).await),
        words(Command::State(state))
    );
    assert_eq!(
        words(command(&mut successor).await),
        words(Command::Accept(Share::ALL))
    );
    // Afterwards it would forget what it counted itself.
    let late = Sealed::seal(b"late").expect("seals");
    tell.send(Order::GiveState(late)).expect("sent");
    tell.send(Order::Accept(Share::NONE)).expect("sent");
    assert_eq!(
        words(command(&mut successor).await),
        words(Command::Accept(Share::NONE))
    );
}

#[tokio::test]
async fn no_state_needs_no_memory_and_too_much_is_named() {
    let (mut worker, mut facts, orders) = standby().await;
    orders.send(Order::ShareState).expect("sent");
    assert_eq!(
        words(command(&mut worker).await),
        words(Command::ShareState)
    );
    worker
        .reports
        .send(Report::State(Vec::new()))
        .expect("sent");
    assert!(matches!(fact(&mut facts).await, Fact::State(Ok(None))));
    let long = vec![0; STATE_BYTES_MAX + 1];
    worker.reports.send(Report::State(long)).expect("sent");
    assert!(
        matches!(fact(&mut facts).await, Fact::State(Err(reason)) if reason.contains("too long"))
    );
    worker
        .reports
        .send(Report::Stats(Stats::default()))
        .expect("sent");
    assert!(matches!(fact(&mut facts).await, Fact::Stats(_)));
}

#[tokio::test]
async fn an_older_worker_is_not_asked_and_not_waited_for() {
    let (mut worker, mut facts, orders) = raw_worker(false).await;
    orders.send(Order::ShareState).expect("sent");
    assert!(
        matches!(fact(&mut facts).await, Fact::State(Err(reason)) if reason.contains("version"))
    );
    orders.send(Order::Accept(Share::ALL)).expect("sent");
    let (next, _) = worker.receive::<ToWorker>().await.expect("an order");
    assert_eq!(next, ToWorker::Resume);
}

fn memory(bytes: &[u8], seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut memory = File::from(rustix::fs::memfd_create("test", flags).expect("memory"));
    memory.write_all(bytes).expect("written");
    rustix::fs::fcntl_add_seals(&memory, seals).expect("sealed");
    memory.into()
}

/// What is wrong, the length declared, and the descriptors.
fn wrong_states() -> Vec<(&'static str, u64, Vec<OwnedFd>)> {
    let sealed = || {
        let whole = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        memory(b"12345", whole)
    };
    let file = OwnedFd::from(File::open("/proc/self/exe").expect("a file"));
    vec![
        ("none", 5, Vec::new()),
        ("two", 5, vec![sealed(), sealed()]),
        ("shorter than declared", 6, vec![sealed()]),
        ("longer than declared", 4, vec![sealed()]),
        ("declared as nothing", 0, vec![sealed()]),
        ("too long", u64::MAX, vec![sealed()]),
        ("not sealed", 5, vec![memory(b"12345", SealFlags::empty())]),
        ("a file", 5, vec![file]),
        ("a socket", 5, group(1)),
    ]
}

fn borrowed(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(|fd| fd.as_fd()).collect()
}

#[tokio::test]
async fn a_wrong_state_of_the_incumbent_is_refused_and_the_conversation_goes_on() {
    for (what, bytes, descriptors) in wrong_states() {
        let (mut worker, mut facts, orders) = raw_worker(true).await;
        orders.send(Order::ShareState).expect("sent");
        let (asked, _) = worker.receive::<ToWorker>().await.expect("an order");
        assert_eq!(asked, ToWorker::ShareState);
        let missing = None;
        let answer = ToSupervisor::State { bytes, missing };
        let sent = worker.send(&answer, &borrowed(&descriptors)).await;
        sent.expect("sent");
        let told = fact(&mut facts).await;
        assert!(matches!(told, Fact::State(Err(_))), "{what}: {told:?}");
        let stats = ToSupervisor::Stats(Stats::default());
        worker.send(&stats, &[]).await.expect("sent");
        assert!(matches!(fact(&mut facts).await, Fact::Stats(_)), "{what}");
    }
}

#[tokio::test]
async fn a_wrong_state_for_the_successor_is_refused_and_it_serves_without() {
    for (what, bytes, descriptors) in wrong_states() {
        let (mut supervisor, mut talk) = raw_supervisor(keys(&[1]), Path::new("")).await;
        let state = ToWorker::State { bytes };
        let sent = supervisor.send(&state, &borrowed(&descriptors)).await;
        sent.expect("sent");
        supervisor.send(&ToWorker::Resume, &[]).await.expect("sent");
        let told = command(&mut talk).await;
        assert!(matches!(told, Command::StateRefused(_)), "{what}: {told:?}");
        assert_eq!(
            words(command(&mut talk).await),
            words(Command::Accept(Share::ALL)),
            "{what}"
        );
    }
}
