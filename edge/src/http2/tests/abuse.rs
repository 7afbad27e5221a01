//! Known attacks: each is ended, at the count that its limit says, and memory stays bounded.

use super::super::{Abuse, Fault};
use super::client::Pair;

/// Sends until the connection is ended: after how many, and why.
fn until_ended(mut send: impl FnMut(&mut Pair, u32) -> Result<(), Fault>) -> (u32, Fault) {
    let mut pair = Pair::new();
    pair.request(1, false, &[]).expect("a request");
    for count in 1..1_000_000 {
        if let Err(fault) = send(&mut pair, count) {
            return (count, fault);
        }
        pair.seen();
    }
    panic!("never ended");
}

#[test]
fn rapid_reset() {
    // CVE-2023-44487: the client resets what it asked for.
    let ended = until_ended(|pair, count| {
        let stream = count * 2 + 1;
        pair.request(stream, true, &[])?;
        pair.send(0x3, 0, stream, &[0, 0, 0, 8])?;
        pair.ours.close(stream, super::super::Code::Internal);
        Ok(())
    });
    assert_eq!(ended, (6, Fault::Abuse(Abuse::Resets)));
}

#[test]
fn made_you_reset() {
    // CVE-2025-8671: the client breaks a rule, so that we reset and it may open another.
    for breaks in [
        (0x8, 0, &[0_u8; 4][..]),
        (0x2, 0, &[0; 4]),
        (0x8, 0, &[0x7f, 0xff, 0xff, 0xff]),
    ] {
        let ended = until_ended(|pair, count| {
            let stream = count * 2 + 1;
            pair.request(stream, true, &[])?;
            pair.send(breaks.0, breaks.1, stream, breaks.2)?;
            pair.ours.close(stream, super::super::Code::Internal);
            Ok(())
        });
        assert_eq!(ended, (6, Fault::Abuse(Abuse::Resets)));
    }
}

#[test]
fn more_streams_than_allowed() {
    let ended = until_ended(|pair, count| pair.request(count * 2 + 1, false, &[]));
    // Nine more are taken, five refused, the sixth ends it.
    assert_eq!(ended, (15, Fault::Abuse(Abuse::Resets)));
}

#[test]
fn floods_of_frames_that_carry_nothing() {
    let empty: &[u8] = &[];
    for (what, kind, flags, stream, payload) in [
        ("SETTINGS", 0x4, 0, 0, empty),
        ("PING", 0x6, 0, 0, &[0; 8][..]),
        ("PING answers", 0x6, 1, 0, &[0; 8][..]),
        ("PRIORITY", 0x2, 0, 1, &[0; 5][..]),
        ("empty DATA", 0x0, 0, 1, empty),
        ("unknown frames", 0x77, 0, 0, empty),
        ("GOAWAY", 0x7, 0, 0, &[0; 8][..]),
    ] {
        let (count, fault) = until_ended(|pair, _| pair.send(kind, flags, stream, payload));
        assert_eq!(fault, Fault::Abuse(Abuse::Controls), "{what}");
        assert!((190..=201).contains(&count), "{what}: {count}");
    }
    let (count, fault) = until_ended(|pair, _| pair.send(0x8, 0, 0, &[0, 0, 0, 1]));
    assert_eq!((count, fault), (100_001, Fault::Abuse(Abuse::Controls)));
}

#[test]
fn a_header_block_without_an_end() {
    // CVE-2024-27316.
    let mut pair = Pair::new();
    pair.send(0x1, 0, 1, &[]).expect("a beginning");
    let mut frames = 1;
    let fault = loop {
        match pair.send(0x9, 0, 1, &[0x82; 100]) {
            Ok(()) => frames += 1,
            Err(fault) => break fault,
        }
    };
    assert_eq!((frames, fault), (16, Fault::Abuse(Abuse::Block)));
    let mut pair = Pair::new();
    pair.send(0x1, 0, 1, &[0x82; 16_000]).expect("a beginning");
    let ended = pair.send(0x9, 0, 1, &[0x82; 16_000]);
    assert_eq!(
        ended,
        Err(Fault::Abuse(Abuse::Block)),
        "also in few large ones"
    );
}

#[test]
fn a_bomb_of_references_is_no_large_head() {
    // A few bytes on the wire, each one a long field.
    let mut pair = Pair::new();
    let usual = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "a"),
    ];
    let mut block = pair.block(&usual);
    block.extend(pair.block(&[("x-bomb", &"b".repeat(250))]));
    block.extend(std::iter::repeat_n(0x80 | 62, 10_000));
    pair.send(0x1, 0x5, 1, &block).expect("a stream's matter");
    let arrived = pair.arrived();
    assert!(arrived[0].head.is_none(), "answered with 431");
}

#[test]
fn a_client_that_asks_and_does_not_read() {
    // CVE-2019-9515 and others: answers pile up. The loop stops reading once they are many.
    let mut pair = Pair::new();
    let mut largest = 0;
    for stream in (1..).step_by(2).take(10) {
        pair.request(stream, true, &[]).expect("a request");
        pair.ours.head(stream, 200, false, |_| {});
        while let super::super::Room::Bytes(room) = pair.ours.room(stream) {
            pair.ours.data(stream, &vec![0; room], false);
        }
        largest = largest.max(pair.ours.queued());
    }
    assert!(largest < 90 * 1024, "{largest}");
}
