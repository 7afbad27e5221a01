//! Short connections: each way in which one can be lost has its class.

use std::time::Duration;

use bench::ledger::{Class, Phase};
use bench::load::{Expect, Load, Shape};
use bench::target::Target;
use socket2::{Domain, Socket, Type};

use crate::faulty::{Behaviour, Faulty};
use crate::{echo_load, expect_loss, run_until};

#[tokio::test]
async fn a_closed_port_is_refused() {
    let address = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let ledger = expect_loss(echo_load(Shape::Short, address, 2), Class::Refused).await;
    let example = &ledger.examples[0];
    assert_eq!(
        (example.phase, example.errno),
        (Phase::Connecting, Some(111))
    );
}

#[tokio::test]
async fn a_connection_thrown_away_is_reset() {
    for bytes in [0, 1, 100] {
        let faulty = Faulty::always(Behaviour::ResetAfter(bytes)).await;
        let load = Load {
            payload_bytes: 2_000..=4_000,
            ..echo_load(Shape::Short, faulty.address, 2)
        };
        expect_loss(load, Class::Reset).await;
    }
}

#[tokio::test]
async fn an_end_before_the_last_byte_is_cut() {
    for bytes in [0, 1, 1_999] {
        let faulty = Faulty::always(Behaviour::EndAfter(bytes)).await;
        let load = Load {
            payload_bytes: 2_000..=4_000,
            ..echo_load(Shape::Short, faulty.address, 2)
        };
        let ledger = expect_loss(load, Class::Cut).await;
        assert!(
            ledger.examples[0]
                .what
                .contains(&format!("after {bytes} of")),
            "{:?}",
            ledger.examples[0]
        );
    }
}

#[tokio::test]
async fn a_changed_byte_and_a_byte_too_many_are_wrong() {
    let faulty = Faulty::always(Behaviour::ChangeByte(1_234)).await;
    let load = Load {
        payload_bytes: 2_000..=4_000,
        ..echo_load(Shape::Short, faulty.address, 2)
    };
    let ledger = expect_loss(load, Class::WrongBytes).await;
    assert!(
        ledger.examples[0].what.contains("byte 1234"),
        "{:?}",
        ledger.examples[0]
    );

    let faulty = Faulty::always(Behaviour::OneMore).await;
    let ledger = expect_loss(
        echo_load(Shape::Short, faulty.address, 2),
        Class::WrongBytes,
    )
    .await;
    assert!(
        ledger.examples[0].what.contains("after the whole answer"),
        "{:?}",
        ledger.examples[0]
    );
}

#[tokio::test]
async fn a_connection_on_which_nothing_moves_hangs() {
    let faulty = Faulty::always(Behaviour::Mute).await;
    let ledger = expect_loss(echo_load(Shape::Short, faulty.address, 2), Class::Hung).await;
    assert_eq!(ledger.examples[0].phase, Phase::Receiving);

    let faulty = Faulty::always(Behaviour::NeverEnds).await;
    let ledger = expect_loss(echo_load(Shape::Short, faulty.address, 2), Class::Hung).await;
    assert_eq!(ledger.examples[0].phase, Phase::Ending);
}

#[tokio::test]
async fn an_exchange_that_moves_but_does_not_finish_times_out() {
    let faulty = Faulty::always(Behaviour::Slow(Duration::from_millis(20))).await;
    let load = Load {
        payload_bytes: 1_000..=1_000,
        ..echo_load(Shape::Short, faulty.address, 2)
    };
    expect_loss(load, Class::TimedOut).await;
}

#[tokio::test]
async fn a_full_accept_queue_is_a_connect_that_timed_out() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(
            &"127.0.0.1:0"
                .parse::<std::net::SocketAddr>()
                .unwrap()
                .into(),
        )
        .unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // Nobody accepts, and the queue has room for one: everything after it waits for a SYN-ACK.
    let held: Vec<_> = (0..2)
        .map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)))
        .collect();
    assert!(held[0].is_ok());
    expect_loss(echo_load(Shape::Short, address, 2), Class::ConnectTimedOut).await;
}

#[tokio::test]
async fn one_bad_connection_among_many_good_ones_is_found() {
    let faulty = Faulty::start(|n| {
        if n == 150 {
            Behaviour::ResetAfter(0)
        } else {
            Behaviour::Good
        }
    })
    .await;
    let load = echo_load(Shape::Short, faulty.address, 8);
    let ledger = run_until(load, |ledger| ledger.connections.settled() > 300).await;
    assert_eq!(
        (ledger.count(Class::Reset), ledger.losses()),
        (1, 1),
        "{:#?}",
        ledger.examples
    );
    assert!(!ledger.is_clean());
}

#[tokio::test]
async fn a_discarding_listener_must_stay_silent() {
    let discard = |address| Load {
        expect: Expect::Discard,
        ..echo_load(Shape::Short, address, 4)
    };
    let silent = Faulty::always(Behaviour::Discard).await;
    let ledger = run_until(discard(silent.address), |ledger| {
        ledger.exchanges.count(Class::Ok) > 20
    })
    .await;
    assert!(ledger.is_clean(), "{ledger:#?}");
    let talkative = Faulty::always(Behaviour::Good).await;
    expect_loss(discard(talkative.address), Class::WrongBytes).await;
}

#[tokio::test]
async fn a_short_http_connection_must_end_after_its_answer() {
    let load = |address| Load::new(Target::http(address, "/"), Shape::Short, 2);
    let ends = Faulty::always(Behaviour::AnswerOnce(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ))
    .await;
    let ledger = run_until(load(ends.address), |ledger| {
        ledger.exchanges.count(Class::Ok) > 20
    })
    .await;
    assert!(ledger.is_clean(), "{ledger:#?}");
    let stays = Faulty::always(Behaviour::Answer(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ))
    .await;
    expect_loss(load(stays.address), Class::Hung).await;
}
