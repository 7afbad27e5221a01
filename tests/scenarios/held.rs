//! What an old generation still holds: its connections by age and by what they wait for, in `status`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use control::{GenerationStatus, Status};
use harness::edge::Site as EdgeSite;
use harness::host::Host;
use harness::ports::free_ports;
use harness::successors::{another_edge, another_lb};

fn draining(status: &Status) -> Option<&GenerationStatus> {
    let mut all = status.generations.iter();
    all.find(|one| one.role == control::Role::Draining && one.held.is_some())
}

fn waits(status: &Status) -> Vec<(String, u64)> {
    let held = draining(status).and_then(|one| one.held.as_ref());
    let waits = held.map(|held| held.waits.clone()).unwrap_or_default();
    waits.into_iter().collect()
}

fn expected(table: &[(&str, u64)]) -> Vec<(String, u64)> {
    let words = table
        .iter()
        .map(|(word, count)| ((*word).to_owned(), *count));
    words.collect()
}

fn connect(port: u16) -> TcpStream {
    TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).expect("connected")
}

/// The old generation must come to hold exactly this, and say so in JSON and to a person.
async fn shows(host: &mut Host, next: &Path, table: &[(&str, u64)]) {
    let outcome = host.upgrade(next, &["--bake", "0s"]).await;
    assert_eq!(outcome.code, 0, "{}", outcome.output);
    let wanted = expected(table);
    let status = host
        .status_where("what it holds is told", |status| waits(status) == wanted)
        .await;
    let old = draining(&status).expect("it drains");
    let held = old.held.as_ref().expect("told");
    let all: u64 = table.iter().map(|(_, count)| count).sum();
    assert_eq!(
        held.ages.iter().map(|age| age.connections).sum::<u64>(),
        all
    );
    assert!(held.ages[0].connections == all, "all are young: {held:?}");
    assert!(old.drain_left_s.is_some_and(|left| left > 30), "{old:?}");
    assert!(
        old.resident_bytes > Some(1 << 20) && old.descriptors > Some(5),
        "{old:?}"
    );
    let told = host.command(&["status"]).await;
    let (count, word) = (table[0].1, table[0].0);
    assert!(
        told.output.contains(&format!("holds {all}, waiting ")),
        "{}",
        told.output
    );
    assert!(
        told.output.contains(&format!("{count} for {word}")),
        "{}",
        told.output
    );
    assert!(told.output.contains("at the latest; "), "{}", told.output);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_tells_what_its_old_connections_wait_for() {
    let ports = free_ports(4);
    // A backend that accepts in the kernel only: it reads nothing and says nothing.
    let backend = TcpListener::bind("127.0.0.1:0").expect("bound");
    let at = backend.local_addr().expect("bound");
    let config = format!(
        "[admin]\nlisten = \"127.0.0.1:{}\"\n\
         [[listener]]\nname = \"plain\"\naddress = \"127.0.0.1:{}\"\nupstream = \"app\"\n\
         [[listener]]\nname = \"behind\"\naddress = \"127.0.0.1:{}\"\nupstream = \"app\"\nproxy_protocol = true\ntrusted = [\"127.0.0.0/8\"]\n\
         [timeouts]\nproxy_header = \"60s\"\n[upstream.app]\nbackends = [\"{at}\"]\n",
        ports[0], ports[1], ports[2]
    );
    let mut host = Host::with_lb(&config);
    host.set_supervisor_config("drain_timeout = \"2m\"\nself_test = false\nmigrate = \"never\"\n");
    host.start().await;
    let quiet: Vec<TcpStream> = (0..3).map(|_| connect(ports[1])).collect();
    let headless: Vec<TcpStream> = (0..2).map(|_| connect(ports[2])).collect();
    let ended = connect(ports[1]);
    ended
        .shutdown(std::net::Shutdown::Write)
        .expect("half closed");
    // More than all buffers on the way hold.
    let mut full = connect(ports[1]);
    full.set_write_timeout(Some(Duration::from_secs(2)))
        .expect("an option");
    let chunk = vec![7_u8; 1 << 20];
    while full.write_all(&chunk).is_ok() {}
    let next = another_lb(host.path(), "next");
    let table = [
        ("a PROXY header", 2),
        ("bytes", 3),
        ("the backend to read", 1),
        ("the other side's end", 1),
    ];
    shows(&mut host, &next, &table).await;
    drop((quiet, headless, ended, full, backend));
    host.status_where("the old one's end", |status| status.generations.len() == 1)
        .await;
    assert_eq!(host.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_tells_what_its_old_connections_wait_for() {
    let site = EdgeSite::start();
    let silent = TcpListener::bind("127.0.0.1:0").expect("bound");
    let at = silent.local_addr().expect("bound");
    let more = format!(
        "[[route]]\npath_prefix = \"/silent\"\nupstream = \"silent\"\n[upstream.silent]\nbackends = [\"{at}\"]\n"
    );
    let (ports, config) = site.config_on_own_ports("", "");
    // A more special prefix wins wherever it stands.
    let config = format!("{config}{more}");
    let mut host = Host::with_edge(&config);
    host.set_supervisor_config("drain_timeout = \"2m\"\nself_test = false\nmigrate = \"never\"\n");
    host.start().await;
    let waiting: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut client = connect(ports[1]);
            client
                .write_all(b"GET /silent HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .expect("sent");
            client
        })
        .collect();
    let mut tunnel = connect(ports[1]);
    tunnel
        .write_all(b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        .expect("sent");
    let mut head = [0_u8; 12];
    tunnel.read_exact(&mut head).expect("switched");
    assert_eq!(&head, b"HTTP/1.1 101");
    let beginning = connect(ports[0]);
    let next = another_edge(host.path(), "next");
    let table = [
        ("a beginning", 1),
        ("a tunnel's bytes", 1),
        ("an answer", 2),
    ];
    shows(&mut host, &next, &table).await;
    drop((waiting, tunnel, beginning, silent));
    assert_eq!(host.stop().await, Some(0));
}
