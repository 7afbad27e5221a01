//! Windows in both directions (RFC 9113 sections 5.2 and 6.9).

use super::super::{CONNECTION_WINDOW, Code, Fault, Piece, Received, Room, STREAM_WINDOW};
use super::client::Pair;

fn increment(frame: &super::client::Seen) -> u32 {
    u32::from_be_bytes(frame.payload[..4].try_into().expect("four bytes"))
}

#[test]
fn a_body_gets_its_window_back_only_as_it_is_taken() {
    let mut pair = Pair::new();
    pair.request(1, false, &[]).expect("a request");
    let frame = vec![0; 16_384];
    for _ in 0..STREAM_WINDOW / 16_384 {
        pair.send(0x0, 0, 1, &frame).expect("within the window");
    }
    assert!(
        pair.kinds().is_empty(),
        "nothing was taken, nothing is given"
    );
    let mut taken = 0;
    let mut given = 0;
    while let Received::Piece(Piece::Data(data)) = pair.body(1) {
        taken += u32::try_from(data.len()).expect("short");
        given += pair
            .seen()
            .iter()
            .filter(|f| f.stream == 1)
            .map(increment)
            .sum::<u32>();
        assert!(given <= taken);
    }
    assert_eq!((taken, given), (STREAM_WINDOW, STREAM_WINDOW));
}

#[test]
fn more_than_a_window_ends_the_stream_and_more_than_all_the_connection() {
    let mut pair = Pair::new();
    let frame = vec![0; 16_384];
    for stream in [1, 3, 5, 7] {
        pair.request(stream, false, &[]).expect("a request");
        for _ in 0..STREAM_WINDOW / 16_384 {
            pair.send(0x0, 0, stream, &frame)
                .expect("within the window");
        }
    }
    assert_eq!(
        pair.send(0x0, 0, 7, b"x"),
        Err(Fault::Broken(Code::FlowControl)),
        "{CONNECTION_WINDOW} bytes are four streams'"
    );
    let mut pair = Pair::new();
    pair.request(1, false, &[]).expect("a request");
    for _ in 0..STREAM_WINDOW / 16_384 {
        pair.send(0x0, 0, 1, &frame).expect("within the window");
    }
    pair.send(0x0, 0, 1, b"x").expect("the stream's matter");
    assert_eq!(pair.reset(), Some(Code::FlowControl as u8));
}

#[test]
fn what_nobody_reads_is_given_back_to_the_connection() {
    let mut pair = Pair::new();
    let frame = vec![0; 16_384];
    // Four connections' worth, in streams that are closed unread.
    let mut given = 0;
    for stream in (1..).step_by(2).take(16) {
        pair.request(stream, false, &[]).expect("a request");
        for _ in 0..STREAM_WINDOW / 16_384 {
            pair.send(0x0, 0, stream, &frame)
                .expect("within the windows");
        }
        pair.ours.head(stream, 200, true, |_| {});
        pair.ours.close(stream, Code::Internal);
        given += pair
            .seen()
            .iter()
            .filter(|f| f.kind == 0x8 && f.stream == 0)
            .map(increment)
            .sum::<u32>();
    }
    assert_eq!(given, 4 * CONNECTION_WINDOW);
    // Also what comes after the end, and padding.
    for _ in 0..CONNECTION_WINDOW / 16_384 {
        pair.send(0x0, 0, 31, &frame).expect("it was on its way");
    }
    assert_eq!(pair.kinds(), [0x8, 0x8]);
}

#[test]
fn an_answer_keeps_to_the_windows_of_its_client() {
    let mut pair = Pair::new();
    // First windows of 100 bytes.
    pair.send(0x4, 0, 0, &[0, 4, 0, 0, 0, 100])
        .expect("SETTINGS");
    pair.request(1, true, &[]).expect("a request");
    assert_eq!(pair.ours.room(1), Room::Bytes(100));
    pair.ours.data(1, &[0; 100], false);
    assert_eq!(pair.ours.room(1), Room::Later);
    pair.send(0x8, 0, 1, &[0, 0, 0, 7]).expect("WINDOW_UPDATE");
    assert_eq!(pair.ours.room(1), Room::Bytes(7));
    // A smaller first window makes it negative; it has to come back first.
    pair.send(0x4, 0, 0, &[0, 4, 0, 0, 0, 50])
        .expect("SETTINGS");
    assert_eq!(pair.ours.room(1), Room::Later);
    pair.send(0x8, 0, 1, &[0, 0, 0, 44]).expect("WINDOW_UPDATE");
    assert_eq!(pair.ours.room(1), Room::Bytes(1));
    pair.send(0x3, 0, 1, &[0, 0, 0, 8]).expect("RST_STREAM");
    assert_eq!(pair.ours.room(1), Room::Gone);
}

#[test]
fn streams_that_compete_take_turns() {
    let mut pair = Pair::new();
    pair.send(0x4, 0, 0, &[0, 4, 0x7f, 0, 0, 0])
        .expect("SETTINGS");
    pair.send(0x8, 0, 0, &[0x3f, 0, 0, 0])
        .expect("WINDOW_UPDATE");
    pair.seen();
    let streams = [1, 3, 5];
    for stream in streams {
        pair.request(stream, true, &[]).expect("a request");
    }
    let mut served = [0_usize; 3];
    for _ in 0..40 {
        // Everybody asks until it has to wait, the first one always first.
        for (stream, served) in streams.into_iter().zip(&mut served) {
            while let Room::Bytes(room) = pair.ours.room(stream) {
                pair.ours.data(stream, &vec![0; room], false);
                *served += room;
            }
        }
        pair.seen();
    }
    let (least, most) = (served.iter().min(), served.iter().max());
    let (least, most) = (*least.expect("three"), *most.expect("three"));
    assert!(least > 0 && most <= least * 2, "{served:?}");
}

#[test]
fn a_shut_window_is_in_nobodys_way() {
    let mut pair = Pair::new();
    pair.send(0x4, 0, 0, &[0, 4, 0, 0, 0, 0]).expect("SETTINGS");
    pair.request(1, true, &[]).expect("a request");
    pair.send(0x4, 0, 0, &[0, 4, 0, 1, 0, 0]).expect("SETTINGS");
    pair.send(0x4, 0, 0, &[0, 4, 0, 0, 0, 0]).expect("SETTINGS");
    pair.request(3, true, &[]).expect("a request");
    pair.send(0x8, 0, 3, &[0, 0, 0, 9]).expect("WINDOW_UPDATE");
    assert_eq!(pair.ours.room(1), Room::Later);
    assert_eq!(pair.ours.room(3), Room::Bytes(9));
}
