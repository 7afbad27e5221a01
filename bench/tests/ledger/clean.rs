//! The origins: loads against them are clean, and they never reset a connection.

use std::net::SocketAddr;
use std::time::Duration;

use bench::ledger::{Class, Phase};
use bench::load::{Load, Shape};
use bench::origin::{Kind, Origin};
use bench::payload::Payload;
use bench::target::Target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{echo_load, run_until};

fn origin(kind: Kind) -> Origin {
    Origin::start(kind, "127.0.0.1:0".parse().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mix_against_the_echo_origin_is_clean_and_both_count_the_same() {
    let origin = origin(Kind::Echo);
    let load = Load {
        payload_bytes: 1..=100_000,
        ..echo_load(Shape::Mix, origin.address(), 20)
    };
    let ledger = run_until(load, |ledger| ledger.exchanges.count(Class::Ok) > 2_000).await;
    assert!(ledger.is_clean(), "{ledger:#?}");
    assert_eq!(ledger.connections.started(), origin.accepted());
    assert_eq!(ledger.bytes_sent, ledger.bytes_received);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mix_against_the_http_origin_is_clean_and_both_count_the_same() {
    let origin = origin(Kind::Http);
    for path in ["/bytes/0", "/bytes/1", "/bytes/200000"] {
        let (accepted, requests) = (origin.accepted(), origin.requests());
        let load = Load::new(Target::http(origin.address(), path), Shape::Mix, 10);
        let ledger = run_until(load, |ledger| ledger.exchanges.count(Class::Ok) > 500).await;
        assert!(ledger.is_clean(), "{path}: {ledger:#?}");
        assert_eq!(ledger.connections.started(), origin.accepted() - accepted);
        assert_eq!(ledger.exchanges.started(), origin.requests() - requests);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_an_origin_under_load_resets_nobody() {
    for kind in [Kind::Echo, Kind::Http] {
        let origin = origin(kind);
        let target = match kind {
            Kind::Echo => Target::tcp(origin.address()),
            Kind::Http => Target::http(origin.address(), "/bytes/100"),
        };
        let running = Load::new(target, Shape::Mix, 12).start().unwrap();
        while running.snapshot().exchanges.count(Class::Ok) < 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (_, ledger) = tokio::join!(origin.stop(), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            running.finish().await
        });
        // The kernel resets who arrives between the last accept and the close: some microseconds that nobody can take away.
        // Whoever was served is not reset.
        let resets = ledger.examples.iter();
        let mut resets = resets.filter(|example| example.class == Class::Reset);
        assert!(
            ledger.count(Class::Reset) <= 3 && resets.all(|one| one.phase == Phase::Connecting),
            "{kind:?}: {:#?}",
            ledger.examples
        );
        assert!(
            ledger.count(Class::Refused) > 0,
            "{kind:?}: a stopped origin does not listen"
        );
        assert_eq!(ledger.unaccounted(), 0);
    }
}

async fn talk(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

fn split(answer: &[u8]) -> (String, &[u8]) {
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    (
        String::from_utf8_lossy(&answer[..end]).to_lowercase(),
        &answer[end + 4..],
    )
}

#[tokio::test]
async fn the_http_origin_gives_the_promised_bytes_and_returns_posted_ones() {
    let origin = origin(Kind::Http);
    let get = b"GET /bytes/5000?offset=77 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = talk(origin.address(), get).await;
    let (head, body) = split(&answer);
    assert!(
        head.contains("200 ok") && head.contains("content-length: 5000"),
        "{head}"
    );
    assert_eq!(Payload::new(77, 5_000).check(0, body), Ok(()));
    assert_eq!(body.len(), 5_000);

    let post =
        b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
    let answer = talk(origin.address(), post).await;
    let (head, body) = split(&answer);
    assert!(
        head.contains("200 ok") && head.contains("content-length: 5"),
        "{head}"
    );
    assert_eq!(body, b"hello");
}

#[tokio::test]
async fn the_http_origin_answers_what_it_does_not_understand_without_a_reset() {
    let origin = origin(Kind::Http);
    let table = [
        (
            "GET /bytes/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "400",
        ),
        (
            "GET /bytes/99999999999 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "400",
        ),
        (
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "404",
        ),
        ("nonsense\r\n\r\nand more of it", "400"),
    ];
    for (request, status) in table {
        let answer = talk(origin.address(), request.as_bytes()).await;
        let (head, _) = split(&answer);
        assert!(
            head.starts_with(&format!("http/1.1 {status}")),
            "{request}: {head}"
        );
    }
}
