//! What holds for the chunked coding, whatever the bytes: any cut gives the same data, verdict and end.

use edge::http1::{ChunkedDecoder, Refused};

/// Panics where the law is broken.
pub(crate) fn check(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(600)];
    let whole = decode([bytes]);
    assert_eq!(whole, decode(bytes.chunks(1)), "byte by byte");
    for cut in 0..bytes.len() {
        let (one, two) = bytes.split_at(cut);
        assert_eq!(whole, decode([one, two]), "cut at {cut}");
    }
    if let Ok(Read {
        ended: true, used, ..
    }) = whole
    {
        assert!(bytes[..used].ends_with(b"\r\n"), "the end is a line's end");
        // What follows belongs to the next message, and does not change this one.
        assert_eq!(whole, decode([&bytes[..used]]), "without the rest");
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Read {
    data: Vec<u8>,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
    used: usize,
    ended: bool,
}

fn decode<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> Result<Read, Refused> {
    let mut decoder = ChunkedDecoder::new();
    let (mut data, mut used) = (Vec::new(), 0);
    for piece in pieces {
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
