//! HTTP/2 loads: GOAWAY loses nothing, a refused stream is asked again, a cut one is a loss.
//!
//! Room  an h2 server in this process, in clear, that gives one behaviour to every connection.
//! Out   one test per promise.

use std::net::SocketAddr;
use std::time::Duration;

use bench::ledger::Class;
use bench::load::{IdleClose, Load, Shape};
use bench::target::Target;
use bytes::Bytes;
use h2::Reason;
use http::Response;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::{expect_loss, run_until};

/// What the server does on each connection.
#[derive(Clone, Copy, Debug)]
enum Behaviour {
    /// Answers everything.
    Answer,
    /// Answers so many requests, then says GOAWAY and finishes what it has.
    GoAwayAfter(usize),
    /// Refuses each request whose number on the connection is a multiple of this.
    RefuseEach(usize),
    /// Resets the third request's stream in the middle of its answer.
    CutThird,
    /// Answers with status 500.
    Fail,
    /// Answers with other bytes.
    Lie,
    /// Throws the connection away at the third request.
    DropAtThird,
}

async fn start(behaviour: Behaviour) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(behave(stream, behaviour));
        }
    });
    (address, tasks)
}

/// Errors end the connection: a client may leave at any time.
async fn behave(stream: TcpStream, behaviour: Behaviour) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let mut count = 0;
    while let Some(Ok((_, mut answer))) = connection.accept().await {
        count += 1;
        match behaviour {
            Behaviour::GoAwayAfter(limit) if count == limit => connection.graceful_shutdown(),
            Behaviour::RefuseEach(nth) if count % nth == 0 => {
                answer.send_reset(Reason::REFUSED_STREAM);
                continue;
            }
            Behaviour::DropAtThird if count == 3 => return,
            _ => {}
        }
        let status = if matches!(behaviour, Behaviour::Fail) {
            500
        } else {
            200
        };
        let head = Response::builder().status(status).body(()).unwrap();
        let Ok(mut body) = answer.send_response(head, false) else {
            continue;
        };
        let is_cut = matches!(behaviour, Behaviour::CutThird) && count == 3;
        let bytes = if matches!(behaviour, Behaviour::Lie) {
            Bytes::from_static(&[0xEE; 16])
        } else {
            Bytes::from_static(b"answer")
        };
        body.send_data(bytes, !is_cut).unwrap_or_default();
        if is_cut {
            body.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

fn load(address: SocketAddr, path: &str) -> Load {
    Load {
        pause: Duration::from_millis(2),
        idle_close: IdleClose::Allowed,
        ..Load::new(Target::http(address, path), Shape::Http2, 2)
    }
}

#[tokio::test]
async fn streams_side_by_side_are_clean_and_connections_are_renewed() {
    let (address, _tasks) = start(Behaviour::Answer).await;
    let load = Load {
        exchanges_per_connection: 20,
        ..load(address, "/")
    };
    let ledger = run_until(load, |ledger| ledger.connections.count(Class::Ok) > 5).await;
    assert!(ledger.is_clean(), "{ledger:#?}");
    assert_eq!((ledger.idle_closes, ledger.retried), (0, 0));
}

#[tokio::test]
async fn a_goaway_moves_the_load_and_loses_nothing() {
    let (address, _tasks) = start(Behaviour::GoAwayAfter(5)).await;
    let ledger = run_until(load(address, "/"), |ledger| ledger.idle_closes > 10).await;
    assert!(ledger.is_clean(), "{ledger:#?}");
    let strict = Load {
        idle_close: IdleClose::IsCut,
        ..load(address, "/")
    };
    expect_loss(strict, Class::Cut).await;
}

#[tokio::test]
async fn a_refused_stream_is_asked_again_and_one_that_is_always_refused_is_lost() {
    let (address, _tasks) = start(Behaviour::RefuseEach(5)).await;
    let ledger = run_until(load(address, "/"), |ledger| ledger.retried > 5).await;
    assert!(ledger.is_clean(), "{ledger:#?}");
    let (address, _tasks) = start(Behaviour::RefuseEach(1)).await;
    expect_loss(load(address, "/"), Class::Refused).await;
}

#[tokio::test]
async fn each_fault_of_an_answer_is_a_loss_of_its_class() {
    for (behaviour, path, class) in [
        (Behaviour::CutThird, "/", Class::Reset),
        (Behaviour::Fail, "/", Class::BadStatus),
        (Behaviour::Lie, "/bytes/16", Class::WrongBytes),
    ] {
        let (address, _tasks) = start(behaviour).await;
        let ledger = expect_loss(load(address, path), class).await;
        assert_eq!(ledger.retried, 0, "{behaviour:?}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_without_a_goaway_is_a_loss() {
    let (address, _tasks) = start(Behaviour::DropAtThird).await;
    let ledger = run_until(load(address, "/"), |ledger| ledger.exchanges.lost() > 0).await;
    assert!(!ledger.is_clean(), "{ledger:#?}");
    assert_eq!((ledger.retried, ledger.unaccounted()), (0, 0));
}
