//! What a client may not do, and what happens then (RFC 9113 sections 4 to 8).

use proptest::prelude::*;

use super::super::{Code, Connection, Fault, Piece, Received};
use super::client::{Pair, frame};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[test]
fn a_connection_begins_with_preface_and_settings() {
    let fresh = || {
        Connection::new(super::super::Bounds {
            streams: 1,
            resets: 1,
            list_bytes: 100,
        })
    };
    let protocol = Err(Fault::Broken(Code::Protocol));
    assert_eq!(fresh().take(b"GET / HTTP/1.1\r\n", 0), protocol);
    for (kind, flags) in [(0x6, 0), (0x4, 1)] {
        let mut ours = fresh();
        let payload: &[u8] = if kind == 0x6 { &[0; 8] } else { &[] };
        let bytes = [PREFACE, &frame(kind, flags, 0, payload)].concat();
        assert_eq!(ours.take(&bytes, 0), protocol);
    }
    let mut ours = fresh();
    let bytes = [PREFACE, &frame(0x4, 0, 0, &[])].concat();
    let mut at = 0;
    for end in 1..=bytes.len() {
        at += ours.take(&bytes[at..end], 0).expect("any pieces");
    }
    assert!(ours.has_begun() && at == bytes.len());
}

/// After a request on stream 1 whose body has not ended.
const ENDS_ALL: &str = "
    Protocol     kind=0 flags=0 stream=0 payload=78           DATA on no stream
    Protocol     kind=0 flags=0 stream=9 payload=78           DATA on an idle stream
    Protocol     kind=0 flags=8 stream=1 payload=0901         padding longer than the frame
    Protocol     kind=1 flags=4 stream=0 payload=-            HEADERS on no stream
    Protocol     kind=1 flags=4 stream=2 payload=-            HEADERS on an even stream
    Compression  kind=1 flags=4 stream=3 payload=80           a block that is none
    Protocol     kind=2 flags=0 stream=0 payload=0000000000   PRIORITY on no stream
    FrameSize    kind=3 flags=0 stream=1 payload=000000       RST_STREAM too short
    Protocol     kind=3 flags=0 stream=9 payload=00000000     RST_STREAM on an idle stream
    Protocol     kind=4 flags=0 stream=1 payload=-            SETTINGS on a stream
    FrameSize    kind=4 flags=0 stream=0 payload=0000000000   SETTINGS in pieces
    FrameSize    kind=4 flags=1 stream=0 payload=000000000000 an acknowledgement with a payload
    FlowControl  kind=4 flags=0 stream=0 payload=000480000000 a window that is too large
    Protocol     kind=4 flags=0 stream=0 payload=000500000001 frames that are too small
    Protocol     kind=4 flags=0 stream=0 payload=000200000002 push that is neither on nor off
    Protocol     kind=5 flags=4 stream=1 payload=00000002     a push by a client
    Protocol     kind=6 flags=0 stream=1 payload=0000000000000000 PING on a stream
    FrameSize    kind=6 flags=0 stream=0 payload=00000000000000 PING too short
    Protocol     kind=7 flags=0 stream=1 payload=0000000000000000 GOAWAY on a stream
    FrameSize    kind=8 flags=0 stream=0 payload=000000       WINDOW_UPDATE too short
    Protocol     kind=8 flags=0 stream=0 payload=00000000     a window that grows by nothing
    FlowControl  kind=8 flags=0 stream=0 payload=7fffffff     a window that overflows
    Protocol     kind=8 flags=0 stream=9 payload=00000001     WINDOW_UPDATE on an idle stream
    Protocol     kind=9 flags=4 stream=1 payload=-            CONTINUATION of nothing
";

#[test]
fn what_ends_a_connection() {
    for case in ENDS_ALL.lines().filter(|line| !line.trim().is_empty()) {
        let words: Vec<&str> = case.split_whitespace().collect();
        let number = |at: usize| {
            let (_, number) = words[at].split_once('=').expect("a number");
            number.parse::<u32>().expect("a number")
        };
        let payload = words[4].trim_start_matches("payload=").trim_matches('-');
        let payload: Vec<u8> = (0..payload.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&payload[at..at + 2], 16).expect("hex"))
            .collect();
        let byte = |at| u8::try_from(number(at)).expect("a byte");
        let mut pair = Pair::new();
        pair.request(1, false, &[]).expect("a request");
        let ended = pair.send(byte(1), byte(2), number(3), &payload);
        let Err(Fault::Broken(code)) = ended else {
            panic!("{case}: {ended:?}");
        };
        assert_eq!(format!("{code:?}"), words[0], "{case}");
    }
    let mut pair = Pair::new();
    let long = frame(0x0, 0, 1, &vec![0; 16_385]);
    assert_eq!(pair.take(&long), Err(Fault::Broken(Code::FrameSize)));
}

#[test]
fn what_ends_one_stream() {
    type Case = (&'static str, u8, u8, &'static [u8], Code);
    let cases: &[Case] = &[
        (
            "DATA beyond Content-Length",
            0x0,
            0,
            b"123456",
            Code::Protocol,
        ),
        (
            "DATA short of Content-Length",
            0x0,
            1,
            b"1234",
            Code::Protocol,
        ),
        (
            "trailers short of Content-Length",
            0x1,
            5,
            &[],
            Code::Protocol,
        ),
        ("trailers that do not end", 0x1, 4, &[], Code::Protocol),
        (
            "a window that grows by nothing",
            0x8,
            0,
            &[0; 4],
            Code::Protocol,
        ),
        (
            "a window that overflows",
            0x8,
            0,
            &[0x7f, 0xff, 0xff, 0xff],
            Code::FlowControl,
        ),
        ("PRIORITY of another size", 0x2, 0, &[0; 4], Code::FrameSize),
    ];
    for (what, kind, flags, payload, code) in cases {
        let mut pair = Pair::new();
        pair.request(1, false, &[("content-length", "5")])
            .expect("a request");
        pair.send(*kind, *flags, 1, payload).expect(what);
        assert_eq!(pair.reset(), Some(*code as u8), "{what}");
        assert!(pair.is_gone(1));
        assert_eq!(pair.body(1), Received::Gone, "{what}");
        pair.ours.close(1, Code::Internal);
        assert_eq!(pair.reset(), None, "{what}: it knows already");
        pair.request(3, true, &[]).expect("others go on");
    }
    let mut pair = Pair::new();
    pair.request(1, true, &[]).expect("a request");
    pair.send(0x0, 0, 1, b"x").expect("only this stream");
    assert_eq!(pair.reset(), Some(Code::StreamClosed as u8));
}

#[test]
fn malformed_requests_are_reset_and_large_ones_answered() {
    let mut pair = Pair::new();
    pair.request(1, true, &[("connection", "close")])
        .expect("a stream's matter");
    assert_eq!(pair.reset(), Some(Code::Protocol as u8));
    pair.request(3, true, &[("content-length", "5")])
        .expect("a stream's matter");
    assert_eq!(pair.reset(), Some(Code::Protocol as u8));
    assert!(pair.arrived().is_empty());
    pair.request(5, true, &[("x", &"y".repeat(5000))])
        .expect("a stream's matter");
    let arrived = pair.arrived();
    assert!(arrived.len() == 1 && arrived[0].head.is_none());
    pair.request(7, true, &[("x", "y")])
        .expect("the tables are still the same");
    assert_eq!(
        pair.arrived()[0].head.as_ref().expect("a head").field("x"),
        Some(&b"y"[..])
    );
}

#[test]
fn a_block_in_pieces_is_one_and_nothing_comes_between() {
    let mut pair = Pair::new();
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "a"),
    ];
    let block = pair.block(&fields);
    pair.send(0x1, 0x1, 1, &block[..2]).expect("a beginning");
    assert_eq!(pair.ours.block_since(), Some(1));
    let mut other = Pair::new();
    other.send(0x1, 0x1, 1, &block[..2]).expect("a beginning");
    for (kind, stream) in [(0x6, 0), (0x9, 3), (0x1, 3)] {
        let mut pair = Pair::new();
        pair.send(0x1, 0x1, 1, &block[..2]).expect("a beginning");
        let ended = pair.send(kind, 0x4, stream, &[0; 8]);
        assert_eq!(ended, Err(Fault::Broken(Code::Protocol)));
    }
    pair.send(0x9, 0, 1, &block[2..3]).expect("a piece");
    pair.send(0x9, 0x4, 1, &block[3..]).expect("the end");
    assert_eq!(pair.ours.block_since(), None);
    let arrived = pair.arrived();
    assert!(arrived[0].has_ended);
    assert_eq!(arrived[0].head.as_ref().expect("a head").path(), Some("/"));
}

#[test]
fn bodies_come_in_order_with_their_trailers() {
    let mut pair = Pair::new();
    pair.request(1, false, &[]).expect("a request");
    pair.send(0x0, 0x8, 1, &[2, b'a', b'b', 0, 0])
        .expect("padded");
    let trailers = pair.block(&[("x-sum", "1")]);
    pair.send(0x1, 0x5, 1, &trailers).expect("trailers");
    assert!(!pair.ours.body_is_over(1));
    assert_eq!(
        pair.body(1),
        Received::Piece(Piece::Data(bytes::Bytes::from_static(b"ab")))
    );
    match pair.body(1) {
        Received::Piece(Piece::Trailers(map)) => assert_eq!(map.get("x-sum").expect("one"), "1"),
        other => panic!("{other:?}"),
    }
    assert_eq!(pair.body(1), Received::End);
    assert!(pair.ours.body_is_over(1));
}

#[test]
fn an_answer_before_the_whole_request_takes_back_the_rest() {
    let mut pair = Pair::new();
    pair.request(1, false, &[]).expect("a request");
    pair.ours.head(1, 413, true, |_| {});
    pair.ours.close(1, Code::Internal);
    assert_eq!(pair.reset(), Some(Code::NoError as u8));
    pair.send(0x0, 0x1, 1, b"late").expect("it was on its way");
    pair.request(3, true, &[]).expect("a request");
    pair.ours.close(3, Code::Cancel);
    assert_eq!(pair.reset(), Some(Code::Cancel as u8), "no answer at all");
}

#[test]
fn a_head_larger_than_a_frame_is_continued() {
    let mut pair = Pair::new();
    pair.request(1, true, &[]).expect("a request");
    let value = "v".repeat(20_000);
    pair.ours.head(1, 200, true, |block| {
        use crate::field::FieldSink as _;
        block.put(b"X-Long", value.as_bytes());
    });
    let seen = pair.seen();
    let shape: Vec<_> = seen
        .iter()
        .map(|f| (f.kind, f.flags, f.payload.len() > 16_000))
        .collect();
    assert_eq!(shape, [(0x1, 0x1, true), (0x9, 0x4, false)]);
    let block: Vec<u8> = seen.into_iter().flat_map(|frame| frame.payload).collect();
    let mut names = Vec::new();
    pair.decoder
        .decode(&block, |name, value| {
            names.push((name.to_vec(), value.len()))
        })
        .expect("one block");
    assert_eq!(
        names,
        [(b":status".to_vec(), 3), (b"x-long".to_vec(), 20_000)]
    );
}

#[test]
fn leaving_serves_what_was_on_its_way() {
    let mut pair = Pair::new();
    pair.request(1, true, &[]).expect("a request");
    pair.ours.warn();
    let seen = pair.seen();
    assert_eq!(seen[0].payload[..4], [0x7f, 0xff, 0xff, 0xff]);
    assert_eq!((seen[0].kind, seen[1].kind), (0x7, 0x6));
    pair.request(3, true, &[]).expect("crossed the GOAWAY");
    assert_eq!(pair.arrived().len(), 2);
    pair.send(0x6, 0x1, 0, &seen[1].payload)
        .expect("the answer to our PING");
    let last = pair.seen();
    assert_eq!(
        (last[0].kind, &last[0].payload[..4]),
        (0x7, &[0, 0, 0, 3][..])
    );
    pair.request(5, true, &[]).expect("too late, and ignored");
    assert!(pair.arrived().is_empty() && !pair.ours.is_over());
    pair.ours.close(1, Code::Internal);
    pair.ours.close(3, Code::Internal);
    assert!(pair.ours.is_over());
}

proptest! {
    #[test]
    fn any_frames_in_any_pieces_are_taken(
        frames in proptest::collection::vec(
            (0_u8..12, any::<u8>(), 0_u32..8, proptest::collection::vec(any::<u8>(), 0..40)),
            0..40,
        ),
        cut in 1_usize..50,
    ) {
        let mut pair = Pair::new();
        let bytes: Vec<u8> = frames
            .iter()
            .flat_map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload))
            .collect();
        let mut held: Vec<u8> = Vec::new();
        for piece in bytes.chunks(cut) {
            held.extend_from_slice(piece);
            match pair.take(&held) {
                Ok(taken) => drop(held.drain(..taken)),
                Err(_) => break,
            }
            for arrived in pair.arrived() {
                pair.ours.head(arrived.id, 200, false, |_| {});
                let _ = pair.ours.room(arrived.id);
            }
        }
        pair.seen();
    }
}
