//! What holds for request heads, whatever the bytes: the verdict does not depend on how they are cut, and an
//! accepted head has one reading.

use edge::http1::{HeadLimits, RequestBody, RequestTarget, Version, parse_request};

const LIMITS: HeadLimits = HeadLimits {
    bytes: 512,
    lines: 12,
};

/// Panics where the law is broken.
pub(crate) fn check(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(600)];
    let whole = read(bytes);
    // From the first verdict on, further bytes change nothing about acceptance or its reading.
    let mut decided = false;
    for end in 0..=bytes.len() {
        match read(&bytes[..end]) {
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
        one_reading(bytes);
    }
}

fn read(bytes: &[u8]) -> Result<Option<String>, ()> {
    let head = parse_request(bytes, &LIMITS).map_err(|_| ())?;
    Ok(head.map(|head| format!("{head:?}")))
}

/// Judged by another, simpler reader of lines.
fn one_reading(bytes: &[u8]) {
    let head = parse_request(bytes, &LIMITS)
        .expect("was accepted")
        .expect("was complete");
    let raw = &bytes[..head.len];
    let raw = raw.strip_prefix(b"\r\n").unwrap_or(raw);
    let text = raw
        .strip_suffix(b"\r\n\r\n")
        .expect("ends in an empty line");
    let lines: Vec<&[u8]> = split_lines(text);
    assert!(lines.iter().all(|line| !line.is_empty()));
    assert!(!lines.concat().iter().any(|byte| b"\r\n\0".contains(byte)));
    let named = |name: &str| {
        let prefix = format!("{name}:");
        let is_named = |line: &&&[u8]| {
            let start = line.get(..prefix.len()).unwrap_or_default();
            start.eq_ignore_ascii_case(prefix.as_bytes())
        };
        lines[1..].iter().filter(is_named).count()
    };
    let (hosts, lengths, codings) = (
        named("host"),
        named("content-length"),
        named("transfer-encoding"),
    );
    assert_eq!(lines.len() - 1, head.fields().len());
    assert!(hosts == 1 || (hosts == 0 && head.version == Version::Http10));
    assert!(lengths + codings <= 1);
    assert_eq!(codings == 1, head.body == RequestBody::Chunked);
    assert!(lengths == 1 || !matches!(head.body, RequestBody::Length(_)));
    assert!(head.upgrade.is_none() || head.body == RequestBody::None);
    // A Host with userinfo, a target with a fragment: nobody behind us gets to interpret one.
    assert!(!head.authority.contains(['@', '/', '#', '\\', ' ']));
    if let RequestTarget::Origin { path_and_query } = head.target {
        assert!(path_and_query.starts_with('/') && !path_and_query.contains(['#', '\\', ' ']));
    }
    for field in head.fields() {
        assert!(!field.name.is_empty());
        assert_eq!(field.value, field.value.trim_ascii());
    }
}

fn split_lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    lines
}
