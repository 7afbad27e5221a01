//! Kept connections: exchanges on them, and what happens between two exchanges.

use std::time::Duration;

use bench::ledger::{Class, Ledger, Phase};
use bench::load::{IdleClose, Load, Shape};
use bench::target::Target;
use tokio::time::sleep;

use crate::faulty::{Behaviour, Faulty};
use crate::{echo_load, expect_loss, run_until};

fn http_load(faulty: &Faulty, path: &str) -> Load {
    Load::new(Target::http(faulty.address, path), Shape::KeepAlive, 2)
}

#[tokio::test]
async fn a_kept_echo_connection_is_lost_in_the_class_of_what_happened() {
    let table = [
        (Behaviour::ResetAfter(10_000), Class::Reset),
        (Behaviour::ChangeByte(10_000), Class::WrongBytes),
        (Behaviour::EndAfter(10_000), Class::Cut),
        (Behaviour::Mute, Class::Hung),
    ];
    for (behaviour, class) in table {
        let faulty = Faulty::always(behaviour).await;
        let load = Load {
            payload_bytes: 1_500..=1_500,
            ..echo_load(Shape::KeepAlive, faulty.address, 2)
        };
        expect_loss(load, class).await;
    }
}

#[tokio::test]
async fn an_http_answer_is_checked_in_status_framing_length_and_bytes() {
    let table = [
        (
            "/",
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
            Class::BadStatus,
        ),
        (
            "/",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            Class::BadStatus,
        ),
        ("/", "220 mail.example ESMTP\r\n\r\n", Class::WrongBytes),
        (
            "/",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay",
            Class::WrongBytes,
        ),
        (
            "/",
            "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok",
            Class::WrongBytes,
        ),
        (
            "/",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            Class::WrongBytes,
        ),
        (
            "/bytes/2",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            Class::WrongBytes,
        ),
        (
            "/bytes/9",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nunlikely!",
            Class::WrongBytes,
        ),
        (
            "/bytes/9",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Class::Cut,
        ),
        (
            "/",
            "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok",
            Class::Hung,
        ),
    ];
    for (path, answer, class) in table {
        let faulty = Faulty::always(Behaviour::Answer(answer)).await;
        expect_loss(http_load(&faulty, path), class).await;
    }
}

#[tokio::test]
async fn an_http_answer_that_ends_too_early_is_cut() {
    let answers = [
        "HTTP/1.1 200 OK\r\nConte",
        "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ];
    for answer in answers {
        let faulty = Faulty::always(Behaviour::AnswerOnce(answer)).await;
        expect_loss(http_load(&faulty, "/"), Class::Cut).await;
    }
}

#[tokio::test]
async fn good_http_answers_of_every_framing_are_clean() {
    let kept = [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ];
    for answer in kept {
        let faulty = Faulty::always(Behaviour::Answer(answer)).await;
        let ledger = run_until(http_load(&faulty, "/"), |ledger| {
            ledger.exchanges.count(Class::Ok) > 50
        })
        .await;
        assert!(ledger.is_clean(), "{answer}: {ledger:#?}");
        assert!(
            ledger.connections.started() < ledger.exchanges.started(),
            "{answer}: connections are not kept"
        );
    }
    let closed = [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\n\r\nuntil the end",
    ];
    for answer in closed {
        let faulty = Faulty::always(Behaviour::AnswerOnce(answer)).await;
        let ledger = run_until(http_load(&faulty, "/"), |ledger| {
            ledger.exchanges.count(Class::Ok) > 20
        })
        .await;
        assert!(ledger.is_clean(), "{answer}: {ledger:#?}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_while_idle_is_cut_unless_that_is_allowed() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let idle = |faulty: &Faulty| Load {
        pause: Duration::from_millis(50),
        ..http_load(faulty, "/")
    };
    let faulty = Faulty::always(Behaviour::AnswerOnce(answer)).await;
    let ledger = expect_loss(idle(&faulty), Class::Cut).await;
    assert_eq!(ledger.examples[0].phase, Phase::Idle);
    assert_eq!(ledger.exchanges.lost(), 0, "{ledger:#?}");

    let allowed = Load {
        idle_close: IdleClose::Allowed,
        ..idle(&faulty)
    };
    let ledger = run_until(allowed, |ledger| ledger.idle_closes > 5).await;
    assert!(ledger.is_clean(), "{ledger:#?}");
}

#[tokio::test]
async fn an_idle_client_asks_once_and_is_cut_when_its_connection_ends() {
    let faulty = Faulty::always(Behaviour::Good).await;
    let load = Load {
        exchanges_per_connection: 2,
        ..echo_load(Shape::Idle, faulty.address, 5)
    };
    let running = load.start().unwrap();
    let answered = |ledger: &Ledger| ledger.exchanges.count(Class::Ok) == 5;
    while !answered(&running.snapshot()) {
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_millis(100)).await;
    assert_eq!(running.established(), 5);
    let ledger = running.finish().await;
    assert!(ledger.is_clean() && answered(&ledger), "{ledger:#?}");

    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let faulty = Faulty::always(Behaviour::AnswerOnce(answer)).await;
    let load = Load {
        shape: Shape::Idle,
        ..http_load(&faulty, "/")
    };
    let ledger = expect_loss(load, Class::Cut).await;
    assert_eq!(ledger.examples[0].phase, Phase::Idle);
}

#[tokio::test]
async fn a_connection_is_ended_politely_after_its_number_of_exchanges() {
    let faulty = Faulty::always(Behaviour::Good).await;
    let load = Load {
        exchanges_per_connection: 10,
        ..echo_load(Shape::KeepAlive, faulty.address, 3)
    };
    let ledger = run_until(load, |ledger| ledger.exchanges.count(Class::Ok) > 200).await;
    assert!(ledger.is_clean(), "{ledger:#?}");
    let connections = ledger.connections.started();
    assert!(
        connections >= ledger.exchanges.started() / 10,
        "{connections} connections"
    );
    assert!(
        connections <= ledger.exchanges.started() / 10 + 6,
        "{connections} connections"
    );
}
