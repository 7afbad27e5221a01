//! A life under a supervisor in the same process, with a service that only writes down what it was told.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handoff::link::{Channel, Link};
use handoff::supervisor::{Fact, Offer, Order, converse, greet};
use handoff::worker::{HeldFn, Identity, Provision, Stats};
use handoff::{ListenerName, Listeners, Sealed, Share, TICKET_KEY_BYTES, TicketKeys};
use tokio::sync::mpsc;

use super::{Changes, Service, Start, life};
use crate::process::LogLevel;
use crate::settings::Mistakes;

const DEADLINE: Duration = Duration::from_secs(20);

type Diary = Arc<Mutex<Vec<String>>>;

struct Scribe(Diary);

impl Scribe {
    fn note(&self, what: impl Into<String>) {
        let mut diary = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        diary.push(what.into());
    }
}

impl Service for Scribe {
    type Settings = Diary;
    type Config = Diary;
    type StartError = Infallible;
    type Live = Infallible;

    fn identity() -> Identity {
        Identity {
            service: "scribe".to_owned(),
            version: "1".to_owned(),
            moves: false,
        }
    }

    fn load(settings: &Diary) -> Result<Diary, Mistakes> {
        Ok(Arc::clone(settings))
    }

    fn log_level(_: &Diary) -> LogLevel {
        LogLevel::Off
    }

    fn start(diary: Diary, start: Start) -> Result<Self, Infallible> {
        let scribe = Self(diary);
        scribe.note(format!("start {}", start.generation));
        Ok(scribe)
    }

    fn to_offer(&self) -> io::Result<Listeners> {
        Ok(Listeners::new())
    }

    fn unclaimed(&self) -> Vec<ListenerName> {
        Vec::new()
    }

    fn held(&self) -> HeldFn {
        Box::new(|| Ok(Listeners::new()))
    }

    async fn first_checks(&mut self, _: Duration) {
        self.note("first checks");
    }

    async fn accept(&mut self, share: Share) -> io::Result<()> {
        self.note(format!("accepting {share}"));
        Ok(())
    }

    fn serve(&mut self, listener: &ListenerName, _: OwnedFd) -> io::Result<()> {
        self.note(format!("serve {listener}"));
        Ok(())
    }

    async fn begin_drain(&mut self, within: Duration, supervised: bool) -> io::Result<()> {
        self.note(format!("drain {within:?} {supervised}"));
        Ok(())
    }

    fn held_and_cut(&self) -> (u64, u64) {
        (0, 0)
    }

    fn moved_away(&self) -> u64 {
        0
    }

    fn live_connections(&self) -> Option<Arc<Infallible>> {
        None
    }

    fn drain_timeout(&self) -> Duration {
        Duration::ZERO
    }

    fn reload(&mut self, _: &Diary) -> Result<Changes, Vec<String>> {
        self.note("reload");
        Ok(Changes::default())
    }

    fn tick(&mut self) {}

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn export_state(&self) -> Vec<u8> {
        self.note("export");
        b"counted so far".to_vec()
    }

    fn import_state(&mut self, state: Vec<u8>) {
        self.note(format!("import {}", String::from_utf8_lossy(&state)));
    }

    fn install_ticket_keys(&mut self, newest_first: &[[u8; TICKET_KEY_BYTES]]) {
        let first: Vec<u8> = newest_first.iter().map(|key| key[0]).collect();
        self.note(format!("keys {first:?}"));
    }
}

/// The next fact that is no statistics.
async fn fact(facts: &mut mpsc::UnboundedReceiver<Fact>) -> Fact {
    let next = async {
        loop {
            match facts.recv().await.expect("a fact") {
                Fact::Stats(_) => {}
                other => return other,
            }
        }
    };
    tokio::time::timeout(DEADLINE, next)
        .await
        .expect("a fact in time")
}

async fn supervise(
    channel: Channel,
    ticket_keys: TicketKeys,
    orders: mpsc::UnboundedReceiver<Order>,
    facts: mpsc::UnboundedSender<Fact>,
) {
    let mut link = Link::new(channel).expect("registers");
    let hello = greet(&mut link).await.expect("says who it is");
    let offer = Offer {
        generation: 3,
        token: String::new(),
        rendezvous: String::new(),
        listeners: Listeners::new(),
        ticket_keys,
    };
    converse(link, &hello, offer, orders, |fact| drop(facts.send(fact))).await;
}

#[tokio::test]
async fn what_a_supervisor_gives_reaches_the_service_in_its_order() {
    let (ours, theirs) = Channel::pair().expect("a pair");
    let mut keys = TicketKeys::default();
    keys.rotate([1; TICKET_KEY_BYTES], 3);
    let (orders, orders_out) = mpsc::unbounded_channel();
    let (facts_in, mut facts) = mpsc::unbounded_channel();
    tokio::spawn(supervise(ours, keys.clone(), orders_out, facts_in));
    let conduct = async {
        assert!(matches!(fact(&mut facts).await, Fact::Ready { .. }));
        keys.rotate([2; TICKET_KEY_BYTES], 3);
        let state = Sealed::seal(b"of the incumbent").expect("seals");
        for order in [
            Order::TicketKeys(keys),
            Order::GiveState(state),
            Order::Serve {
                listener: "web".parse().expect("a name"),
                connection: std::fs::File::open("/dev/null").expect("opens").into(),
            },
            Order::Accept(Share::below(10)),
        ] {
            orders.send(order).expect("sent");
        }
        assert!(
            matches!(fact(&mut facts).await, Fact::Accepting(share) if share == Share::below(10))
        );
        orders.send(Order::ShareState).expect("sent");
        let Fact::State(Ok(Some(state))) = fact(&mut facts).await else {
            panic!("a state was due");
        };
        assert_eq!(state.read().expect("reads"), b"counted so far");
        let within = Duration::from_secs(1);
        orders.send(Order::Drain { within }).expect("sent");
        while !matches!(fact(&mut facts).await, Fact::Drained { .. }) {}
    };
    let diary = Diary::default();
    let (ended, ()) = tokio::join!(
        life::<Scribe>(&diary, Provision::Supervised(theirs)),
        conduct
    );
    ended.expect("ends well");
    let diary = diary.lock().unwrap_or_else(PoisonError::into_inner);
    let expected = [
        "start 3",
        "keys [1]",
        "first checks",
        "keys [2, 1]",
        "import of the incumbent",
        "serve web",
        "accepting 0 to 10 %",
        "export",
        "drain 1s true",
    ];
    assert_eq!(*diary, expected);
}
