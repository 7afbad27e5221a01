//! Checks against listeners of this process: up, down, wrong status, silent, by name.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Prober, ask};
use crate::health::{CheckKind, HealthCheck, ProbeOutcome};
use crate::upstream::{BackendSpec, Upstream, UpstreamSettings};

const DEADLINE: Duration = Duration::from_secs(10);

fn spec(label: String) -> BackendSpec {
    BackendSpec {
        id: None,
        label,
        weight: 1,
        max_connections: None,
        drain: false,
    }
}

fn http(expect: RangeInclusive<u16>) -> HealthCheck {
    HealthCheck {
        kind: CheckKind::Http {
            path: "/healthz".to_owned(),
            host: None,
            expect,
        },
        timeout: Duration::from_millis(300),
        ..HealthCheck::default()
    }
}

/// Answers every connection with `answer`, or keeps silent.
async fn listener(answer: Option<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if let Some(answer) = answer {
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
            held.push(stream);
        }
    });
    address
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    listener.local_addr().expect("bound")
}

async fn outcome(check: &HealthCheck, address: SocketAddr) -> ProbeOutcome {
    ask(check, address, &address.to_string()).await
}

#[tokio::test]
async fn each_kind_of_backend_gets_its_verdict() {
    let ok = listener(Some("HTTP/1.1 204 No Content\r\n\r\n")).await;
    let broken = listener(Some("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n")).await;
    let garbage = listener(Some("SSH-2.0-OpenSSH\r\n")).await;
    let silent = listener(None).await;
    let dead = nobody().await;
    let tcp = HealthCheck::default();
    assert_eq!(outcome(&tcp, silent).await, ProbeOutcome::Passed);
    assert_eq!(outcome(&http(200..=399), ok).await, ProbeOutcome::Passed);
    assert_eq!(
        outcome(&http(500..=500), broken).await,
        ProbeOutcome::Passed
    );
    for (check, address, expected) in [
        (tcp, dead, "connect to"),
        (http(200..=399), broken, "answered 500"),
        (http(200..=399), garbage, "GET /healthz"),
        (http(200..=399), silent, "no answer within"),
        (http(200..=399), dead, "connect to"),
    ] {
        match outcome(&check, address).await {
            ProbeOutcome::Failed(why) => assert!(why.contains(expected), "{why}"),
            ProbeOutcome::Passed => panic!("{expected} was due"),
        }
    }
}

async fn until(upstream: &Upstream, label: &str, status: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let found = upstream
            .backends()
            .iter()
            .find(|backend| backend.label() == label)
            .map(|backend| backend.status(Instant::now()));
        if found == Some(status) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{label} is {found:?}, {status} was due"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_backend_that_dies_and_returns_leaves_and_rejoins_the_selection() {
    let address = nobody().await;
    let other = listener(None).await;
    let check = HealthCheck {
        interval: Duration::from_millis(50),
        rise: 2,
        fall: 2,
        ..HealthCheck::default()
    };
    let settings = UpstreamSettings {
        health_check: Some(check),
        ..UpstreamSettings::default()
    };
    let specs = vec![spec(address.to_string()), spec(other.to_string())];
    let upstream = Upstream::new("app".to_owned(), settings, specs);
    let prober = Prober::start(Arc::clone(&upstream));
    tokio::time::timeout(DEADLINE, prober.first_round())
        .await
        .expect("a first round");
    until(&upstream, &address.to_string(), "unhealthy").await;
    assert_eq!(upstream.selection().eligible().len(), 1);
    let revived = TcpListener::bind(address).await.expect("binds again");
    until(&upstream, &address.to_string(), "healthy").await;
    assert_eq!(upstream.selection().eligible().len(), 2);
    drop(revived);
    until(&upstream, &address.to_string(), "unhealthy").await;
    assert!(!upstream.selection().is_fail_open());
}

#[tokio::test]
async fn a_host_name_is_resolved_before_the_first_round_is_over() {
    let address = listener(None).await;
    let label = format!("localhost:{}", address.port());
    let upstream = Upstream::new(
        "app".to_owned(),
        UpstreamSettings::default(),
        vec![spec(label)],
    );
    assert_eq!(upstream.backends()[0].address(), None);
    let prober = Prober::start(Arc::clone(&upstream));
    tokio::time::timeout(DEADLINE, prober.first_round())
        .await
        .expect("a first round");
    assert!(upstream.backends()[0].address().is_some());
    assert!(!upstream.selection().is_fail_open());
}

#[tokio::test]
async fn the_prober_follows_the_list_of_backends_and_its_interval() {
    let (up, down) = (listener(None).await, nobody().await);
    let (up, down) = (up.to_string(), down.to_string());
    let settings = |interval| UpstreamSettings {
        health_check: Some(HealthCheck {
            interval,
            fall: 2,
            ..HealthCheck::default()
        }),
        ..UpstreamSettings::default()
    };
    let hour = settings(Duration::from_secs(3600));
    let upstream = Upstream::new("app".to_owned(), hour.clone(), vec![spec(up.clone())]);
    let prober = Prober::start(Arc::clone(&upstream));
    tokio::time::timeout(DEADLINE, prober.first_round())
        .await
        .expect("a first round");
    let checked = upstream.backends()[0].last_check();
    // One that joins is checked at once; those that stay wait for their turn.
    upstream.replace(hour, vec![spec(down.clone()), spec(up.clone())]);
    until(&upstream, &down, "unhealthy").await;
    assert_eq!(upstream.backends()[1].last_check(), checked);
    // A shorter interval does not wait for the end of the long one.
    upstream.replace(
        settings(Duration::from_millis(20)),
        vec![spec(up), spec(down)],
    );
    let deadline = Instant::now() + DEADLINE;
    while upstream.backends()[0].last_check() == checked {
        assert!(
            Instant::now() < deadline,
            "the reload did not reach the prober"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_answer_without_end_fails_the_check_before_its_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepts");
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
        while stream.write_all(&[b'y'; 4096]).await.is_ok() {}
    });
    let check = HealthCheck {
        timeout: DEADLINE,
        ..http(200..=399)
    };
    let ProbeOutcome::Failed(why) = outcome(&check, address).await else {
        panic!("an endless head is no answer");
    };
    assert!(!why.contains("no answer within"), "{why}");
}
