//! WebSocket loads: an echo is clean, an early end is a loss, the bound of a drain is not.
//!
//! Room  the HTTP origin's echo, and a relay in front of it that ends every connection after a while.
//! Out   one test per promise.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bench::ledger::Class;
use bench::load::{Drains, Load, Shape};
use bench::origin::{Kind, Origin};
use bench::target::Target;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::{expect_loss, run_until};

/// How long the relay lets a connection live.
const LIFE: Duration = Duration::from_millis(300);

fn load(address: SocketAddr) -> Load {
    Load {
        trickle: Duration::from_millis(5),
        ..Load::new(Target::http(address, "/websocket"), Shape::WebSocket, 3)
    }
}

fn origin() -> Origin {
    Origin::start(Kind::Http, "127.0.0.1:0".parse().unwrap()).unwrap()
}

/// Carries bytes to `origin` and ends each connection after its life.
async fn relay(origin: SocketAddr) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut server = TcpStream::connect(origin).await.unwrap();
                let carry = tokio::io::copy_bidirectional(&mut client, &mut server);
                let _ = timeout(LIFE, carry).await;
            });
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn messages_that_come_back_are_clean() {
    let origin = origin();
    let load = load(origin.address());
    let ledger = run_until(load, |ledger| ledger.exchanges.count(Class::Ok) > 100).await;
    assert!(ledger.is_clean(), "{ledger:#?}");
    assert_eq!(ledger.connections.started(), 3);
    assert!(ledger.bytes_sent > 0 && ledger.bytes_sent == ledger.bytes_received);
}

#[tokio::test]
async fn an_answer_that_is_no_upgrade_is_a_loss() {
    let origin = origin();
    let target = Target::http(origin.address(), "/bytes/5");
    let load = Load {
        target,
        ..load(origin.address())
    };
    expect_loss(load, Class::BadStatus).await;
}

#[tokio::test]
async fn an_end_that_no_drain_explains_is_a_loss() {
    let origin = origin();
    let (address, _tasks) = relay(origin.address()).await;
    let ledger = run_until(load(address), |ledger| ledger.connections.lost() > 0).await;
    assert!(!ledger.is_clean(), "{ledger:#?}");
    assert_eq!((ledger.ended_at_bound, ledger.unaccounted()), (0, 0));
    // A drain whose bound is far away explains nothing.
    let drains = Drains::new(Duration::from_secs(60));
    let late = Load {
        drains: Some(drains.clone()),
        ..load(address)
    };
    let running = late.start().unwrap();
    while running.established() < 3 {
        sleep(Duration::from_millis(1)).await;
    }
    drains.begin(Instant::now());
    while running.snapshot().connections.lost() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(running.finish().await.ended_at_bound, 0);
}

#[tokio::test]
async fn an_end_at_the_bound_of_a_drain_is_none() {
    let origin = origin();
    let (address, _tasks) = relay(origin.address()).await;
    let drains = Drains::new(LIFE);
    let load = Load {
        drains: Some(drains.clone()),
        ..load(address)
    };
    let running = load.start().unwrap();
    while running.established() < 3 {
        sleep(Duration::from_millis(1)).await;
    }
    drains.begin(Instant::now());
    while running.snapshot().ended_at_bound < 3 {
        drains.begin(Instant::now());
        sleep(Duration::from_millis(5)).await;
    }
    let ledger = running.finish().await;
    assert_eq!(ledger.connections.lost(), 0, "{ledger:#?}");
    assert_eq!(ledger.unaccounted(), 0, "{ledger:#?}");
    assert!(ledger.exchanges.count(Class::Ok) > 0);
}
