//! The tables that field lines refer to (RFC 7541 sections 2.3 and 4, appendix A).
//!
//! Room  pure. In the decoder the peer decides what is kept, in the encoder we do.
//! Holds the entries' sizes never exceed the limit; an entry larger than the limit empties the table.

use std::collections::VecDeque;

/// What an entry costs beside its bytes (RFC 7541 section 4.1).
const OVERHEAD: usize = 32;

/// Size of a dynamic table unless SETTINGS say otherwise, in octets (RFC 9113 section 6.5.2).
pub(crate) const TABLE_SIZE: usize = 4096;

/// Entries that both ends know; the first has the index 1.
pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// A field line that is kept.
#[derive(Debug)]
struct Entry {
    /// The name, then the value.
    bytes: Box<[u8]>,
    name: usize,
    /// Of both, to look without comparing.
    hash: u64,
}

impl Entry {
    fn size(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at_checked(self.name).unwrap_or_default()
    }
}

/// A dynamic table, the newest entry first.
#[derive(Debug)]
pub(super) struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    limit: usize,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            limit: TABLE_SIZE,
        }
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.shrink_to(limit);
    }

    /// Name and value under an index of either table.
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let fixed = index.checked_sub(1)?;
        if let Some((name, value)) = STATIC.get(fixed) {
            return Some((name.as_bytes(), value.as_bytes()));
        }
        self.entries.get(fixed - STATIC.len()).map(Entry::parts)
    }

    /// The index of an entry that is exactly this.
    pub(super) fn find(&self, hash: u64, name: &[u8], value: &[u8]) -> Option<usize> {
        let place = self
            .entries
            .iter()
            .position(|entry| entry.hash == hash && entry.parts() == (name, value))?;
        Some(place + STATIC.len() + 1)
    }

    pub(super) fn insert(&mut self, hash: u64, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + OVERHEAD;
        self.shrink_to(self.limit.saturating_sub(size));
        if size > self.limit {
            return;
        }
        self.size += size;
        self.entries.push_front(Entry {
            bytes: [name, value].concat().into_boxed_slice(),
            name: name.len(),
            hash,
        });
    }

    fn shrink_to(&mut self, size: usize) {
        while self.size > size {
            let Some(oldest) = self.entries.pop_back() else {
                return;
            };
            self.size -= oldest.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn the_oldest_make_room_and_the_too_large_empty_it() {
        let mut table = Table::new();
        table.set_limit(100);
        table.insert(1, b"a", b"1");
        table.insert(2, b"b", b"2");
        assert_eq!(table.get(62), Some((&b"b"[..], &b"2"[..])));
        assert_eq!(table.find(1, b"a", b"1"), Some(63));
        table.insert(3, b"c", b"3");
        assert_eq!((table.size, table.get(64)), (68, None));
        table.insert(4, &[b'd'; 60], &[b'4'; 60]);
        assert_eq!((table.size, table.get(62)), (0, None));
        assert_eq!(table.get(2), Some((&b":method"[..], &b"GET"[..])));
        assert_eq!(table.get(0), None);
    }
}
