//! Rows of the framing matrix, and bytes that nobody should send.
//!
//! The laws that hold for every input (any split, no panic) are in `edge/fuzz/laws`; `edge/tests/laws.rs` runs them.

mod chunked;
mod matrix;
mod request;
mod response;

use super::{
    BodyDecoder, HeadLimits, Refused, RequestHead, ResponseHead, ResponseTo, parse_request,
    parse_response,
};

const LIMITS: HeadLimits = HeadLimits {
    bytes: 32 * 1024,
    lines: 100,
};

fn request(bytes: &[u8]) -> RequestHead<'_> {
    let head = parse_request(bytes, &LIMITS).unwrap_or_else(|e| panic!("{e}: {}", show(bytes)));
    head.unwrap_or_else(|| panic!("incomplete: {}", show(bytes)))
}

fn request_refused(bytes: &[u8]) -> Refused {
    match parse_request(bytes, &LIMITS) {
        Err(refused) => refused,
        Ok(head) => panic!("not refused: {} {head:?}", show(bytes)),
    }
}

const TO_GET: ResponseTo = ResponseTo {
    is_head: false,
    is_connect: false,
};

fn response(bytes: &[u8], to: ResponseTo) -> ResponseHead<'_> {
    let head =
        parse_response(bytes, &LIMITS, to).unwrap_or_else(|e| panic!("{e}: {}", show(bytes)));
    head.unwrap_or_else(|| panic!("incomplete: {}", show(bytes)))
}

fn response_refused(bytes: &[u8]) -> Refused {
    match parse_response(bytes, &LIMITS, TO_GET) {
        Err(refused) => refused,
        Ok(head) => panic!("not refused: {} {head:?}", show(bytes)),
    }
}

/// What a body decodes to, and whether it ended.
fn decode(mut body: BodyDecoder, input: &[u8]) -> Result<(Vec<u8>, BodyDecoder, usize), Refused> {
    let (mut data, mut at) = (Vec::new(), 0);
    while at < input.len() && !body.is_end() {
        let rest = &input[at..];
        let step = body.decode(rest)?;
        data.extend_from_slice(step.data.map_or(&[][..], |range| &rest[range]));
        assert!(step.consumed > 0, "no progress");
        at += step.consumed;
    }
    Ok((data, body, at))
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
