//! What arrives at `edge` in the place of a connection: records of its own form, of versions beside it, and wrong ones. The
//! test is the supervisor and the incumbent.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bench::origin::{Kind, Origin};
use handoff::link::{Channel, Link};
use handoff::passage::{Fate, Giver, Item};
use handoff::supervisor::{Fact, Offer, Order, converse, greet};
use handoff::{Listeners, Share, TicketKeys};
use harness::binaries;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use tokio::sync::mpsc;

const DEADLINE: Duration = Duration::from_secs(20);

/// `edge` with the test in the supervisor's place.
struct Edge {
    worker: Child,
    orders: mpsc::UnboundedSender<Order>,
    backend: String,
    _origin: Origin,
    _scratch: tempfile::TempDir,
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.worker.kill();
        let _ = self.worker.wait();
    }
}

impl Edge {
    async fn start() -> Self {
        let any = "127.0.0.1:0".parse().expect("an address");
        let origin = Origin::start(Kind::Http, any).expect("starts");
        let scratch = tempfile::tempdir().expect("scratch");
        let file = scratch.path().join("edge.toml");
        let backend = origin.address().to_string();
        let config = format!(
            "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n[[route]]\nupstream = \"app\"\n\
             [upstream.app]\nbackends = [\"{backend}\"]\n"
        );
        std::fs::write(&file, config).expect("written");
        let (ours, theirs) = Channel::pair().expect("a pair");
        let worker = Command::new(binaries::find("edge"))
            .args(["run", "--config"])
            .arg(&file)
            .env("ZEITWORK_HANDOFF", "stdin")
            .stdin(Stdio::from(theirs.into_fd()))
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let mut link = Link::new(ours).expect("registers");
        let hello = greet(&mut link).await.expect("says who it is");
        assert_eq!(hello.moves, 1);
        let (orders, orders_out) = mpsc::unbounded_channel();
        let (facts_in, mut facts) = mpsc::unbounded_channel();
        let offer = Offer {
            generation: 2,
            token: "token".to_owned(),
            rendezvous: String::new(),
            listeners: Listeners::new(),
            ticket_keys: TicketKeys::default(),
        };
        tokio::spawn(async move {
            converse(link, &hello, offer, orders_out, |fact| {
                drop(facts_in.send(fact))
            })
            .await;
        });
        let edge = Self {
            worker,
            orders,
            backend,
            _origin: origin,
            _scratch: scratch,
        };
        let accepting = async {
            while let Some(fact) = facts.recv().await {
                match fact {
                    Fact::Ready { .. } => drop(edge.orders.send(Order::Accept(Share::ALL))),
                    Fact::Accepting(_) => return,
                    _ => {}
                }
            }
            panic!("it ended");
        };
        tokio::time::timeout(DEADLINE, accepting)
            .await
            .expect("it accepts");
        edge
    }

    /// Gives it one connection.
    async fn give(&self, record: &Value, sockets: &[OwnedFd], held: &[u8]) -> Fate {
        let (near, far) = Channel::pair().expect("a pair");
        self.orders.send(Order::Take(far)).expect("it listens");
        let mut giver = Giver::open(near).await.expect("it comes");
        let item = Item {
            record: to_raw_value(record).expect("JSON"),
            descriptors: sockets.iter().map(|socket| socket.as_fd()).collect(),
            held: held.to_vec(),
        };
        let fate = giver.offer(&[item]).await.pop().expect("one");
        giver.over().await;
        fate
    }

    fn idle(&self) -> Value {
        json!({
            "form": 1, "listener": "web", "peer": "192.0.2.7", "peer_port": 4711,
            "served": 3, "age_us": 5_000_000, "left_ms": 30_000,
        })
    }

    fn tunnel(&self) -> Value {
        let mut record = self.idle();
        record["tunnel"] = json!({
            "upstream": "app", "backend": self.backend, "label": self.backend,
            "status": 101, "age_us": 4_000_000,
        });
        record
    }
}

/// Both ends of a connection.
fn pair() -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    near.set_read_timeout(Some(DEADLINE)).expect("an option");
    (near, listener.accept().expect("accepted").0.into())
}

fn reads(stream: &mut TcpStream, expected: &[u8]) {
    let mut seen = vec![0; expected.len()];
    stream.read_exact(&mut seen).expect("is read");
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_served_on_whatever_a_later_version_adds() {
    let edge = Edge::start().await;
    let mut newer = edge.idle();
    newer["colour"] = json!("red");
    newer["sniffs"] = json!(true);
    for record in [edge.idle(), newer] {
        let (mut client, socket) = pair();
        assert_eq!(edge.give(&record, &[socket], b"").await, Fate::Taken);
        client
            .write_all(b"GET /bytes/5 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .expect("is sent");
        reads(&mut client, b"HTTP/1.1 200 OK\r\n");
    }
    // The wait is over: nothing is left of it.
    let (mut client, socket) = pair();
    let mut old = edge.idle();
    old["left_ms"] = json!(0);
    assert_eq!(edge.give(&old, &[socket], b"").await, Fate::Taken);
    assert_eq!(client.read(&mut [0; 1]).expect("an end"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_goes_on_with_what_was_held_in_both_directions() {
    let edge = Edge::start().await;
    let ((mut client, client_socket), (mut backend, backend_socket)) = (pair(), pair());
    let mut record = edge.tunnel();
    record["kept"] = json!(5);
    let sockets = [client_socket, backend_socket];
    assert_eq!(
        edge.give(&record, &sockets, b"up-up|down").await,
        Fate::Taken
    );
    drop(sockets);
    reads(&mut backend, b"up-up");
    reads(&mut client, b"|down");
    client.write_all(b"ping").expect("is sent");
    reads(&mut backend, b"ping");
    backend.write_all(b"pong").expect("is sent");
    reads(&mut client, b"pong");
    client
        .shutdown(std::net::Shutdown::Write)
        .expect("half closed");
    assert_eq!(backend.read(&mut [0; 1]).expect("an end"), 0);
    backend.write_all(b"last").expect("is sent");
    drop(backend);
    reads(&mut client, b"last");
    assert_eq!(client.read(&mut [0; 1]).expect("an end"), 0);
}

/// A change of a record, how many sockets and which bytes come with it, and what the refusal says.
type Case = (fn(&mut Value), usize, &'static [u8], &'static str);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_honoured_is_refused_with_its_reason_and_harms_nobody() {
    let edge = Edge::start().await;
    let of_idle: [Case; 8] = [
        (|r| r["form"] = json!(2), 1, b"", "form 2"),
        (
            |r| r["listener"] = json!("gone"),
            1,
            b"",
            "no listener \"gone\"",
        ),
        (|r| r["peer"] = json!("nobody"), 1, b"", "cannot be read"),
        (|r| *r = json!("text"), 1, b"", "cannot be read"),
        (|_| {}, 0, b"", "did not arrive"),
        (|_| {}, 2, b"", "more arrived"),
        (|_| {}, 1, b"surplus", "more arrived"),
        (|r| r["kept"] = json!(9), 1, b"few", "more held bytes"),
    ];
    let of_tunnel: [Case; 3] = [
        (|_| {}, 1, b"", "did not arrive"),
        (
            |r| r["tunnel"]["upstream"] = json!("gone"),
            2,
            b"",
            "no upstream \"gone\"",
        ),
        (
            |r| r["tunnel"]["status"] = json!("x"),
            2,
            b"",
            "cannot be read",
        ),
    ];
    let idle = of_idle.into_iter().map(|case| (edge.idle(), case));
    let tunnels = of_tunnel.into_iter().map(|case| (edge.tunnel(), case));
    for (mut record, (change, sockets, held, why)) in idle.chain(tunnels) {
        change(&mut record);
        let (_near, sockets): (Vec<_>, Vec<_>) = (0..sockets).map(|_| pair()).unzip();
        match edge.give(&record, &sockets, held).await {
            Fate::Refused(reason) => assert!(reason.contains(why), "{reason:?} says not {why:?}"),
            other => panic!("{why}: {other:?}"),
        }
    }
    let (pipe, _) = rustix::pipe::pipe().expect("a pipe");
    let refused = edge.give(&edge.idle(), &[pipe], b"").await;
    assert_eq!(
        refused,
        Fate::Refused("a descriptor is no TCP socket".to_owned())
    );
    // It serves on.
    let (mut client, socket) = pair();
    assert_eq!(edge.give(&edge.idle(), &[socket], b"").await, Fate::Taken);
    client
        .write_all(b"GET /bytes/5 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("is sent");
    reads(&mut client, b"HTTP/1.1 200 OK\r\n");
}
