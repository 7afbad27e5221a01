//! What holds for the chunked coding, whatever the bytes: any cut gives the same data, verdict and end.

use edge::http1::{ChunkedDecoder, Refused};

/// Panics where the law is broken. The first byte chooses the cut.
pub(crate) fn check(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else {
        return;
    };
    let whole = decode(bytes, bytes.len().max(1));
    assert_eq!(whole, decode(bytes, 1), "byte by byte");
    assert_eq!(
        whole,
        decode(bytes, usize::from(*cut).max(1)),
        "cut at {cut}"
    );
    if let Ok(Read {
        ended: true, used, ..
    }) = whole
    {
        assert!(bytes[..used].ends_with(b"\r\n"), "the end is a line's end");
        // What follows belongs to the next message, and does not change this one.
        assert_eq!(whole, decode(&bytes[..used], used), "without the rest");
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Read {
    data: Vec<u8>,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
    used: usize,
    ended: bool,
}

fn decode(bytes: &[u8], step: usize) -> Result<Read, Refused> {
    let mut decoder = ChunkedDecoder::new();
    let (mut data, mut used) = (Vec::new(), 0);
    for piece in bytes.chunks(step) {
        let mut rest = piece;
        while !rest.is_empty() && !decoder.is_end() {
            let part = decoder.decode(rest)?;
            assert!(part.consumed > 0 && part.consumed <= rest.len());
            if let Some(range) = part.data {
                assert_eq!(range.end, part.consumed);
                data.extend_from_slice(&rest[range]);
            }
            assert_eq!(part.end, decoder.is_end());
            used += part.consumed;
            rest = &rest[part.consumed..];
        }
    }
    let trailers = decoder
        .trailers()
        .inspect(|field| assert!(!field.value.iter().any(|byte| b"\r\n\0".contains(byte))))
        .map(|field| (field.name.to_vec(), field.value.to_vec()))
        .collect();
    Ok(Read {
        data,
        trailers,
        used,
        ended: decoder.is_end(),
    })
}
