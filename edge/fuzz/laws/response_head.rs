//! What holds for response heads, whatever the bytes and the request: the verdict does not depend on how they are
//! cut, and a body's end has one reading.

use edge::http1::{HeadLimits, ResponseBody, ResponseTo, Version, parse_response};

const LIMITS: HeadLimits = HeadLimits {
    bytes: 512,
    lines: 12,
};

/// Panics where the law is broken.
pub(crate) fn check(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(600)];
    for (is_head, is_connect) in [(false, false), (true, false), (false, true)] {
        let to = ResponseTo {
            is_head,
            is_connect,
        };
        let whole = read(bytes, to);
        let mut decided = false;
        for end in 0..=bytes.len() {
            match read(&bytes[..end], to) {
                Ok(None) => assert!(!decided, "a verdict at an earlier byte was taken back"),
                Ok(head) => {
                    decided = true;
                    assert_eq!(Ok(head), whole, "cut at {end}");
                }
                Err(()) => {
                    decided = true;
                    assert_eq!(whole, Err(()), "cut at {end}");
                }
            }
        }
        if let Ok(Some(_)) = whole {
            one_reading(bytes, to);
        }
    }
}

fn read(bytes: &[u8], to: ResponseTo) -> Result<Option<String>, ()> {
    let head = parse_response(bytes, &LIMITS, to).map_err(|_| ())?;
    Ok(head.map(|head| format!("{head:?}")))
}

fn one_reading(bytes: &[u8], to: ResponseTo) {
    let head = parse_response(bytes, &LIMITS, to)
        .expect("was accepted")
        .expect("was complete");
    assert!(bytes[..head.len].ends_with(b"\r\n\r\n"));
    let count = |name: &str| {
        let fields = head.fields().iter();
        fields.filter(|field| field.is(name)).count()
    };
    let (lengths, codings) = (count("content-length"), count("transfer-encoding"));
    assert!(lengths + codings <= 1);
    assert!(codings == 0 || head.version == Version::Http11);
    let never = to.is_head || head.status < 200 || matches!(head.status, 204 | 304);
    match head.body {
        ResponseBody::None => assert!(never || to.is_connect),
        ResponseBody::Length(_) => assert!(!never && lengths == 1),
        ResponseBody::Chunked => assert!(!never && codings == 1),
        ResponseBody::UntilClose => assert!(!never && !head.keep_alive && lengths + codings == 0),
    }
    assert!(head.upgrade.is_none() || head.status == 101);
}
