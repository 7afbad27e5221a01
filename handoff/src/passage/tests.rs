//! Both ends of a passage in one process, with faults.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::json;
use serde_json::value::to_raw_value;

use super::{Fate, Giver, Item, Taker};
use crate::batches::BATCH_SOCKETS_MAX;
use crate::link::{Channel, Link};
use crate::passage::message::{Entry, Offer, ToGiver, ToTaker};

const ROOM: u32 = 1000;

/// Two of them stand for a connection.
fn sockets(count: usize) -> (Vec<OwnedFd>, Vec<UnixStream>) {
    (0..count)
        .map(|_| UnixStream::pair().expect("a pair"))
        .map(|(ours, far)| (OwnedFd::from(ours), far))
        .unzip()
}

fn item<'a>(name: &str, socket: &'a OwnedFd, held: &[u8]) -> Item<'a> {
    Item {
        record: to_raw_value(&json!({ "name": name })).expect("a record"),
        descriptors: vec![socket.as_fd()],
        held: held.to_vec(),
    }
}

#[tokio::test]
async fn whole_connections_arrive_in_order_with_what_they_held() {
    let (here, there) = Channel::pair().expect("a pair");
    let (ours, mut far) = sockets(3);
    let taking = tokio::spawn(async move {
        let mut taker = Taker::open(there, ROOM).await.expect("opens");
        let delivery = taker.next().await.expect("arrives").expect("a batch");
        let refused = vec![(1, "not wanted".to_owned())];
        taker
            .take(delivery.batch(), refused, ROOM)
            .await
            .expect("is heard");
        assert!(taker.next().await.expect("ends").is_none());
        delivery.connections
    });
    let mut giver = Giver::open(here).await.expect("opens");
    let items = [
        item("a", &ours[0], b"first"),
        item("b", &ours[1], b""),
        item("c", &ours[2], b"third"),
    ];
    let fates = giver.offer(&items).await;
    assert_eq!(
        fates,
        [
            Fate::Taken,
            Fate::Refused("not wanted".to_owned()),
            Fate::Taken
        ]
    );
    giver.over().await;
    let arrived = taking.await.expect("ends");
    let names: Vec<_> = arrived
        .iter()
        .map(|one| one.record.get().to_owned())
        .collect();
    assert_eq!(
        names,
        [r#"{"name":"a"}"#, r#"{"name":"b"}"#, r#"{"name":"c"}"#]
    );
    let held: Vec<_> = arrived.iter().map(|one| one.held.as_slice()).collect();
    assert_eq!(held, [b"first".as_slice(), b"", b"third"]);
    // The descriptor that arrived is the same socket.
    drop(ours);
    let third = arrived.into_iter().nth(2).expect("three");
    let mut third = UnixStream::from(third.descriptors.into_iter().next().expect("one"));
    third.write_all(b"hello").expect("writes");
    let mut heard = [0; 5];
    far[2].read_exact(&mut heard).expect("is heard");
    assert_eq!(&heard, b"hello");
}

#[tokio::test]
async fn an_answer_that_was_queued_before_the_end_counts_and_none_can_be_queued_after_it() {
    let (here, there) = Channel::pair().expect("a pair");
    let (mut here, mut there) = (
        Link::new(here).expect("links"),
        Link::new(there).expect("links"),
    );
    let taken = |batch| ToGiver::Taken {
        batch,
        refused: Vec::new(),
        room: 0,
    };
    there.send(&taken(1), &[]).await.expect("is queued");
    assert_eq!(here.end::<ToGiver>(), [taken(1)]);
    there
        .send(&taken(2), &[])
        .await
        .expect_err("nobody can hear it");
    assert!(here.end::<ToGiver>().is_empty());
}

#[tokio::test]
async fn whoever_answers_too_late_serves_nobody_and_the_giver_goes_on() {
    let (here, there) = Channel::pair().expect("a pair");
    let (ours, _far) = sockets(1);
    let mut taker = Taker::open(there, ROOM).await.expect("opens");
    let mut giver = Giver::open(here).await.expect("opens");
    let begun = Instant::now();
    let fates = giver.offer(&[item("a", &ours[0], b"x")]).await;
    assert_eq!(fates, [Fate::Unanswered]);
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert!(
        giver
            .broken()
            .is_some_and(|why| why.contains("acknowledge"))
    );
    let delivery = taker.next().await.expect("it arrived").expect("a batch");
    taker
        .take(delivery.batch(), Vec::new(), ROOM)
        .await
        .expect_err("it is too late");
    assert_eq!(
        giver.offer(&[item("a", &ours[0], b"")]).await,
        [Fate::Unanswered]
    );
}

#[tokio::test]
async fn a_taker_that_ends_gives_everything_back_but_what_it_acknowledged() {
    let (here, there) = Channel::pair().expect("a pair");
    let (ours, _far) = sockets(2);
    let taking = tokio::spawn(async move {
        let mut taker = Taker::open(there, ROOM).await.expect("opens");
        let delivery = taker.next().await.expect("arrives").expect("a batch");
        taker
            .take(delivery.batch(), Vec::new(), ROOM)
            .await
            .expect("is heard");
        let _unanswered = taker.next().await;
    });
    let mut giver = Giver::open(here).await.expect("opens");
    assert_eq!(
        giver.offer(&[item("a", &ours[0], b"")]).await,
        [Fate::Taken]
    );
    assert_eq!(
        giver.offer(&[item("b", &ours[1], b"")]).await,
        [Fate::Unanswered]
    );
    taking.await.expect("ends");
}

#[tokio::test]
async fn a_full_batch_of_long_records_is_cut_in_two() {
    let (here, there) = Channel::pair().expect("a pair");
    let count = BATCH_SOCKETS_MAX - 1;
    let (ours, _far) = sockets(count);
    let taking = tokio::spawn(async move {
        let mut taker = Taker::open(there, ROOM).await.expect("opens");
        let mut sizes = Vec::new();
        while let Some(delivery) = taker.next().await.expect("arrives") {
            sizes.push(delivery.connections.len());
            taker
                .take(delivery.batch(), Vec::new(), ROOM)
                .await
                .expect("is heard");
        }
        sizes
    });
    let mut giver = Giver::open(here).await.expect("opens");
    assert_eq!(giver.room(), count);
    let long = "x".repeat(400);
    let items: Vec<_> = ours
        .iter()
        .map(|socket| item(&long, socket, b"held"))
        .collect();
    assert_eq!(giver.offer(&items).await, vec![Fate::Taken; count]);
    let endless = "x".repeat(70_000);
    let fates = giver
        .offer(&[item(&endless, &ours[0], b""), item("a", &ours[1], b"")])
        .await;
    assert!(matches!(&fates[..], [Fate::Refused(why), Fate::Taken] if why.contains("too long")));
    giver.over().await;
    assert_eq!(taking.await.expect("ends"), [126, 126, 1]);
}

#[tokio::test]
async fn an_offer_that_lies_about_what_it_brings_is_refused_as_a_whole() {
    let entry = |fds, bytes| Entry {
        fds,
        bytes,
        record: to_raw_value(&json!({})).expect("a record"),
    };
    for (connections, bytes, batch) in [
        (vec![entry(2, 0)], 0, 1),
        (vec![entry(0, 0)], 0, 1),
        (vec![entry(1, 9)], 0, 1),
        (vec![entry(1, 0)], 5, 1),
        (vec![entry(1, 0)], 0, 2),
        (vec![entry(u32::MAX, u64::MAX)], 0, 1),
    ] {
        let (here, there) = Channel::pair().expect("a pair");
        let (ours, _far) = sockets(1);
        let mut taker = Taker::open(there, ROOM).await.expect("opens");
        let mut giver = Link::new(here).expect("links");
        let offer = ToTaker {
            offer: Some(Offer {
                batch,
                connections,
                bytes,
            }),
            over: false,
        };
        giver
            .send(&offer, &[ours[0].as_fd()])
            .await
            .expect("is sent");
        taker.next().await.expect_err("is refused");
    }
}
