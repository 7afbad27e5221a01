//! Bodies: every framing, its bounds and its end.

use proptest::prelude::*;

use super::decode;
use crate::http1::{BodyDecoder, Refused, RequestBody, ResponseBody, Truncated, chunk_header};

fn chunked() -> BodyDecoder {
    BodyDecoder::request(&RequestBody::Chunked)
}

fn refused(input: &[u8]) -> Refused {
    decode(chunked(), input)
        .map(|(data, ..)| data)
        .expect_err("refused")
}

#[test]
fn data_trailers_and_what_comes_after() {
    let input = b"5;a=\"b\"\r\nhello\r\n00A\r\n0123456789\r\n0\r\nX-A: 1 \r\nx-b:\r\n\r\nGET /";
    let (data, body, at) = decode(chunked(), input).expect("valid");
    assert_eq!(data, b"hello0123456789");
    assert_eq!(&input[at..], b"GET /");
    let trailers: Vec<_> = body.trailers().map(|f| (f.name, f.value)).collect();
    let expected: [(&[u8], &[u8]); 2] = [(b"X-A", b"1"), (b"x-b", b"")];
    assert_eq!(trailers, expected);
}

#[test]
fn extensions_and_trailers_are_bounded() {
    let extension = |bytes| format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(bytes));
    assert!(decode(chunked(), extension(256).as_bytes()).is_ok());
    assert_eq!(refused(extension(257).as_bytes()), Refused::ChunkExtension);
    let lines = |count| format!("0\r\n{}\r\n", "X: 1\r\n".repeat(count));
    assert!(decode(chunked(), lines(64).as_bytes()).is_ok());
    assert_eq!(refused(lines(65).as_bytes()), Refused::Trailers);
    let value = |bytes| format!("0\r\nX: {}\r\n\r\n", "v".repeat(bytes));
    assert!(decode(chunked(), value(8000).as_bytes()).is_ok());
    assert_eq!(refused(value(9000).as_bytes()), Refused::Trailers);
    // Also where its line never ends.
    assert_eq!(
        refused(format!("0\r\n{}", "v".repeat(9000)).as_bytes()),
        Refused::Trailers
    );
}

#[test]
fn the_largest_size_is_no_overflow() {
    let (data, mut body, _) = decode(chunked(), b"ffffffffffffffff\r\nx").expect("valid so far");
    assert_eq!(data, b"x");
    assert_eq!(body.on_eof(), Err(Truncated));
    assert_eq!(refused(b"10000000000000000\r\n"), Refused::ChunkSize);
}

#[test]
fn a_body_that_breaks_off_is_told_from_one_that_ended() {
    let whole = b"3\r\nabc\r\n0\r\nX: 1\r\n\r\n";
    for length in 0..=whole.len() {
        let (_, mut body, _) = decode(chunked(), &whole[..length]).expect("valid");
        assert_eq!(body.on_eof().is_ok(), length == whole.len(), "{length}");
    }
    let (data, mut body, at) =
        decode(BodyDecoder::request(&RequestBody::Length(3)), b"ab").expect("valid");
    assert_eq!(
        (data.as_slice(), at, body.on_eof()),
        (&b"ab"[..], 2, Err(Truncated))
    );
    let (data, mut body, at) =
        decode(BodyDecoder::request(&RequestBody::Length(3)), b"abcd").expect("valid");
    assert_eq!(
        (data.as_slice(), at, body.on_eof()),
        (&b"abc"[..], 3, Ok(()))
    );
    let (data, mut body, _) =
        decode(BodyDecoder::response(&ResponseBody::UntilClose), b"abc").expect("valid");
    assert_eq!((data.as_slice(), body.is_end()), (&b"abc"[..], false));
    assert_eq!((body.on_eof(), body.is_end()), (Ok(()), true));
    for none in [
        BodyDecoder::request(&RequestBody::None),
        BodyDecoder::response(&ResponseBody::None),
        BodyDecoder::response(&ResponseBody::Length(0)),
    ] {
        assert!(none.is_end());
    }
}

proptest! {
    #[test]
    fn what_is_written_in_chunks_is_read_again(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6),
        step in 1_usize..40,
    ) {
        let mut sent = Vec::new();
        for chunk in &chunks {
            chunk_header(chunk.len(), &mut sent);
            sent.extend_from_slice(chunk);
            sent.extend_from_slice(b"\r\n");
        }
        sent.extend_from_slice(b"0\r\nX-T: 1\r\n\r\n");
        let (mut body, mut data) = (chunked(), Vec::new());
        for piece in sent.chunks(step) {
            let (run, next, at) = decode(body, piece).expect("valid");
            prop_assert_eq!(at, piece.len());
            data.extend_from_slice(&run);
            body = next;
        }
        prop_assert!(body.is_end());
        prop_assert_eq!(body.trailers().count(), 1);
        prop_assert_eq!(data, chunks.concat());
    }
}

#[test]
fn chunk_headers() {
    for (length, line) in [
        (1, "1\r\n"),
        (15, "f\r\n"),
        (16, "10\r\n"),
        (0x00ab_cdef, "abcdef\r\n"),
    ] {
        let mut out = Vec::new();
        chunk_header(length, &mut out);
        assert_eq!(out, line.as_bytes());
    }
    let mut out = Vec::new();
    chunk_header(usize::MAX, &mut out);
    assert_eq!(out, format!("{:x}\r\n", usize::MAX).as_bytes());
}
