//! Started by a supervisor: accepts when told, hands over what it binds, parks, drains, and is replaced.
//!
//! In    the supervisor's side of the `handoff` crate, without the supervisor's binary.

use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use handoff::link::{Channel, Link};
use handoff::supervisor::{Fact, Offer, Order, converse, greet};
use handoff::{ListenerName, Listeners, Share};
use tokio::sync::mpsc;

use crate::origin::{Client, Origin};
use crate::worker::{ConfigFile, DEADLINE, Worker, lb};

struct Supervised {
    worker: Worker,
    orders: mpsc::UnboundedSender<Order>,
    facts: mpsc::UnboundedReceiver<Fact>,
}

impl Supervised {
    async fn start(file: &ConfigFile, generation: u64, listeners: Listeners) -> Self {
        let (ours, theirs) = Channel::pair().expect("a pair");
        let worker = Worker::start(
            lb().args(["run", "--config"])
                .arg(file.path())
                .env("ZEITWORK_HANDOFF", "stdin")
                .stdin(Stdio::from(theirs.into_fd())),
        );
        let mut link = Link::new(ours).expect("registers");
        let hello = greet(&mut link).await.expect("says who it is");
        assert_eq!(hello.service, "load-balancer");
        let offer = Offer {
            generation,
            token: "token".to_owned(),
            rendezvous: String::new(),
            ticket_keys: handoff::TicketKeys::default(),
            listeners,
        };
        let (orders, orders_out) = mpsc::unbounded_channel();
        let (facts_in, facts) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            converse(link, &hello, offer, orders_out, |fact| {
                drop(facts_in.send(fact))
            })
            .await;
        });
        Self {
            worker,
            orders,
            facts,
        }
    }

    /// The next fact of interest; statistics are noise.
    async fn fact(&mut self) -> Fact {
        loop {
            let fact = tokio::time::timeout(DEADLINE, self.facts.recv()).await;
            match fact.expect("in time").expect("the conversation goes on") {
                Fact::Stats(_) => {}
                fact => return fact,
            }
        }
    }

    async fn bound(&mut self) -> Listeners {
        match self.fact().await {
            Fact::Bound(listeners) => listeners,
            other => panic!("{other:?} instead of listeners"),
        }
    }

    async fn ready(&mut self) -> Vec<ListenerName> {
        match self.fact().await {
            Fact::Ready { unclaimed, .. } => unclaimed,
            other => panic!("{other:?} instead of ready"),
        }
    }

    async fn accept(&mut self, share: Share) {
        self.orders
            .send(Order::Accept(share))
            .expect("the conversation goes on");
        match self.fact().await {
            Fact::Accepting(said) => assert_eq!(said, share),
            other => panic!("{other:?} instead of accepting {share}"),
        }
    }
}

fn config(names: &[&str], origin: &Origin) -> String {
    let mut text = "[admin]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    for name in names {
        text += &format!(
            "[[listener]]\nname = \"{name}\"\naddress = \"127.0.0.1:0\"\nupstream = \"app\"\n"
        );
    }
    text + &format!("[upstream.app]\nbackends = [\"{}\"]\n", origin.address())
}

fn address(listeners: &Listeners, name: &str) -> SocketAddr {
    let sockets = listeners
        .get(&name.parse().expect("a name"))
        .expect("is held");
    let address = rustix::net::getsockname(&sockets[0]).expect("is bound");
    SocketAddr::try_from(address).expect("is TCP")
}

async fn served(address: SocketAddr) -> Client {
    tokio::task::spawn_blocking(move || Client::connect(address))
        .await
        .expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_loses_nobody_and_each_generation_does_as_it_is_told() {
    let origin = Origin::start('a');
    let file = ConfigFile::new(&config(&["web"], &origin));
    let mut incumbent = Supervised::start(&file, 1, Listeners::new()).await;
    let held = incumbent.bound().await;
    assert_eq!(held.socket_count(), 17, "16 for web, 1 for admin");
    assert!(incumbent.ready().await.is_empty());
    let web = address(&held, "web");
    assert!(
        TcpStream::connect(web).is_err(),
        "bound, not listening: nothing is queued for nobody"
    );
    incumbent.accept(Share::ALL).await;
    let mut first = served(web).await;

    let mut successor = Supervised::start(&file, 2, held.try_clone().expect("duplicates")).await;
    assert!(
        successor.ready().await.is_empty(),
        "everything is claimed, nothing is bound"
    );
    incumbent.accept(Share::NONE).await;
    let waiting = tokio::task::spawn_blocking(move || Client::connect(web));
    successor.accept(Share::ALL).await;
    waiting
        .await
        .expect("the queued client is served")
        .echo("queued");
    first.echo("the incumbent keeps its connections");
    let health = successor.worker.get_json("/health");
    assert_eq!(
        (&health["generation"], &health["status"]),
        (&2.into(), &"healthy".into())
    );

    let within = Duration::from_secs(3600);
    incumbent
        .orders
        .send(Order::Drain { within })
        .expect("the conversation goes on");
    incumbent.worker.line(&["draining", "connections=1"]);
    drop(first);
    assert!(
        matches!(incumbent.fact().await, Fact::Accepting(Share::NONE)),
        "it also says that it accepts no more"
    );
    match incumbent.fact().await {
        Fact::Drained { finished, cut, .. } => assert_eq!((finished, cut), (1, 0)),
        other => panic!("{other:?} instead of drained"),
    }
    assert_eq!(incumbent.worker.exit().code(), Some(0));
    served(web).await.echo("and the successor serves on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_incumbent_takes_over_again() {
    let origin = Origin::start('a');
    let file = ConfigFile::new(&config(&["web"], &origin));
    let mut worker = Supervised::start(&file, 1, Listeners::new()).await;
    let held = worker.bound().await;
    worker.ready().await;
    for _ in 0..3 {
        worker.accept(Share::ALL).await;
        served(address(&held, "web")).await.echo("hello");
        worker.accept(Share::NONE).await;
    }
    let queued = TcpStream::connect(address(&held, "web"));
    assert!(queued.is_ok(), "parked: clients wait in the queue");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unclaimed_listener_is_named() {
    let origin = Origin::start('a');
    let before = ConfigFile::new(&config(&["web", "old"], &origin));
    let mut incumbent = Supervised::start(&before, 1, Listeners::new()).await;
    let held = incumbent.bound().await;
    incumbent.ready().await;
    let after = ConfigFile::new(&config(&["web"], &origin));
    let mut successor = Supervised::start(&after, 2, held).await;
    assert_eq!(successor.ready().await, ["old".parse().expect("a name")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_reports_what_it_bound_released_and_got_wrong() {
    let origin = Origin::start('a');
    let file = ConfigFile::new(&config(&["web"], &origin));
    let mut worker = Supervised::start(&file, 1, Listeners::new()).await;
    worker.bound().await;
    worker.ready().await;
    worker.accept(Share::ALL).await;
    file.write(&config(&["more"], &origin));
    worker
        .orders
        .send(Order::Reload)
        .expect("the conversation goes on");
    let bound = worker.bound().await;
    match worker.fact().await {
        Fact::Released(names) => assert_eq!(names, ["web".parse().expect("a name")]),
        other => panic!("{other:?} instead of released"),
    }
    assert!(matches!(worker.fact().await, Fact::Reloaded(mistakes) if mistakes.is_empty()));
    served(address(&bound, "more"))
        .await
        .echo("the new listener");
    file.write("[[listener]]\n");
    worker
        .orders
        .send(Order::Reload)
        .expect("the conversation goes on");
    assert!(matches!(worker.fact().await, Fact::Reloaded(mistakes) if mistakes.len() == 3));
    served(address(&bound, "more")).await.echo("goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_configuration_reaches_the_supervisor() {
    let file = ConfigFile::new(
        "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\nupstream = \"app\"\n",
    );
    let mut worker = Supervised::start(&file, 1, Listeners::new()).await;
    match worker.fact().await {
        Fact::Failed(reason) => {
            assert!(reason.contains("there is no upstream \"app\""), "{reason}")
        }
        other => panic!("{other:?} instead of failed"),
    }
    assert_eq!(worker.worker.exit().code(), Some(64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_ends_it_now() {
    let origin = Origin::start('a');
    let file = ConfigFile::new(&config(&["web"], &origin));
    let mut worker = Supervised::start(&file, 1, Listeners::new()).await;
    let held = worker.bound().await;
    worker.ready().await;
    worker.accept(Share::ALL).await;
    let _client = served(address(&held, "web")).await;
    worker
        .orders
        .send(Order::Shutdown)
        .expect("the conversation goes on");
    assert_eq!(worker.worker.exit().code(), Some(0));
}
