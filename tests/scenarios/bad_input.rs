//! Bytes from anybody never end a supervisor, and never cost a listener.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use harness::host::Host;
use harness::proc;
use harness::traffic::Site;

/// How long the supervisor may take to answer or hang up.
const DEADLINE: Duration = Duration::from_secs(15);

/// What an HTTP client may send by mistake or malice; `None`: the connection is closed without a word.
const REQUESTS: [(&str, Option<&str>); 12] = [
    (
        "GET /v1/status HTTP/1.1\r\nhost: s\r\nconnection: close\r\n\r\n",
        Some("200"),
    ),
    (
        "GET /v1/nothing HTTP/1.1\r\nhost: s\r\nconnection: close\r\n\r\n",
        Some("404"),
    ),
    (
        "POST /v1/status HTTP/1.1\r\nhost: s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        Some("405"),
    ),
    (
        "GET /v1/upgrade HTTP/1.1\r\nhost: s\r\nconnection: close\r\n\r\n",
        Some("405"),
    ),
    (
        "POST /v1/upgrade HTTP/1.1\r\nhost: s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        Some("400"),
    ),
    (
        "POST /v1/upgrade HTTP/1.1\r\nhost: s\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]",
        Some("400"),
    ),
    (
        "POST /v1/upgrade HTTP/1.1\r\nhost: s\r\ncontent-length: 18\r\nconnection: close\r\n\r\n{\"binary\":\"relat\"}",
        Some("400"),
    ),
    (
        "POST /v1/upgrade HTTP/1.1\r\nhost: s\r\ncontent-length: 99999999\r\nconnection: close\r\n\r\n",
        Some("413"),
    ),
    (
        "POST /v1/abort HTTP/1.1\r\nhost: s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        Some("200"),
    ),
    ("\x00\x01\x02\x03\r\n\r\n", Some("400")),
    ("GET / HTTP/9.9\r\n\r\n", Some("400")),
    ("", None),
];

fn exchange(socket: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).expect("the supervisor listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("set");
    let _ = stream.write_all(request);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Numbers from a fixed seed (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).expect("fits") % limit
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_socket_survives_every_request() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let socket = host.client().socket().to_owned();
    for (request, status) in REQUESTS {
        let answer = exchange(&socket, request.as_bytes());
        match status {
            Some(status) => assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}"))
                    || answer.starts_with(&format!("HTTP/1.0 {status}")),
                "{request:?}: {answer}"
            ),
            None => assert_eq!(answer, "", "{request:?}"),
        }
    }
    // Damaged copies of good requests, from fixed seeds.
    for seed in 1..=300 {
        let mut numbers = Numbers(seed);
        let mut bytes = REQUESTS[numbers.below(10)].0.as_bytes().to_vec();
        for _ in 0..=numbers.below(6) {
            let at = numbers.below(bytes.len());
            bytes[at] = u8::try_from(numbers.below(256)).expect("a byte");
        }
        bytes.truncate(1 + numbers.below(bytes.len()));
        exchange(&socket, &bytes);
    }
    let status = host.serving().await;
    assert_eq!(
        status.listeners.len(),
        3,
        "echo, http and admin: {:?}",
        status.listeners
    );
    assert_eq!(status.generations.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_at_the_rendezvous_are_turned_away_and_nothing_is_lost() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    let traffic = site.passing_load(20);
    let door = host.client().socket().with_file_name("handoff.sock");
    let incumbent = host.incumbent().await;
    let templates = [
        "hello".to_owned(),
        r#"{"seq":1,"message":{"type":"ready","unclaimed":[]}}"#.to_owned(),
        // A true generation and a wrong token, from a process that is not the worker.
        format!(
            r#"{{"seq":1,"message":{{"type":"hello","protocol":{{"min":1,"max":1}},"service":"load-balancer","version":"1","pid":{},"returning":{{"generation":{},"token":"00","posture":"accepting"}}}}}}"#,
            incumbent.pid, incumbent.generation
        ),
        format!(
            r#"{{"seq":1,"message":{{"type":"hello","protocol":{{"min":1,"max":1}},"service":"load-balancer","version":"1","pid":{},"returning":{{"generation":{},"token":"00","posture":"accepting"}}}}}}"#,
            std::process::id(),
            incumbent.generation
        ),
    ];
    for seed in 1..=200 {
        let mut numbers = Numbers(seed);
        let mut frame = templates[numbers.below(4)].clone().into_bytes();
        if seed > 20 {
            let at = numbers.below(frame.len());
            frame[at] = u8::try_from(numbers.below(256)).expect("a byte");
        }
        // A full backlog is EAGAIN for a connector that does not wait (unix(7)); workers come back, too.
        let channel = harness::wait::until("the door", DEADLINE, || {
            let channel = handoff::link::Channel::connect(&door).ok();
            async move { channel }
        })
        .await;
        let _ = rustix::net::send(channel.into_fd(), &frame, rustix::net::SendFlags::NOSIGNAL);
    }
    let status = host.serving().await;
    assert_eq!(status.generations.len(), 1);
    assert_eq!(status.generations[0].pid, incumbent.pid);
    assert_eq!(proc::listening_sockets(site.echo_port), 16);
    traffic.flows(50).await;
    traffic.finish_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_state_on_disk_is_an_error_with_a_next_step() {
    let site = Site::start();
    let mut host = Host::with_lb(&site.config(""));
    host.start().await;
    assert_eq!(host.stop().await, Some(0));
    let record = host.path().join("state/load-balancer/record.json");
    std::fs::write(&record, "{\"committed\": 7}").expect("written");
    host.launch();
    harness::wait::until("the refusal", DEADLINE, || {
        let said = host.log();
        async move { said.contains("move it away to begin anew").then_some(()) }
    })
    .await;
    std::fs::remove_file(record).expect("moved away");
    host.kill_supervisor();
    host.start().await;
}
