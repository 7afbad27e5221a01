//! A rate table's buckets as bytes, for the successor process.
//!
//! Room  pure.
//! Holds no more than asked for goes out, the fullest buckets first; whatever comes in that is not exactly a
//!       snapshot is ignored as a whole. Layout: `ZWRT`, version 1, unix milliseconds of the capture (u64), then entries
//!       of 25 bytes: scope (u64), family (u8), address (u64), remaining nanoseconds (u64); big endian.

use std::time::Duration;

use super::{Entry, Family, Key, RateTable, lock, nanoseconds};

const MAGIC: &[u8; 5] = b"ZWRT\x01";
const HEAD: usize = MAGIC.len() + 8;
const ENTRY: usize = 25;
/// No bucket of a sensible limit lasts longer; a snapshot does not lock anybody out for years.
const LONGEST: u64 = 24 * 3600 * 1_000_000_000;

impl RateTable {
    /// The buckets in use, at most `entries_max` of them (25 bytes each).
    pub fn export(&self, now: Duration, now_unix_ms: u64, entries_max: usize) -> Vec<u8> {
        let now = nanoseconds(now);
        let mut used: Vec<Entry> = self
            .sets
            .iter()
            .flat_map(|set| lock(set).entries)
            .filter(|entry| entry.until > now)
            .collect();
        if used.len() > entries_max {
            used.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.until));
            used.truncate(entries_max);
        }
        let mut bytes = Vec::with_capacity(HEAD + used.len() * ENTRY);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&now_unix_ms.to_be_bytes());
        for entry in used {
            bytes.extend_from_slice(&entry.key.scope.to_be_bytes());
            bytes.push(entry.key.family.code());
            bytes.extend_from_slice(&entry.key.address.to_be_bytes());
            bytes.extend_from_slice(&(entry.until - now).to_be_bytes());
        }
        bytes
    }

    /// Takes a snapshot in beside what is there; the fuller one of two buckets stays. Returns how many buckets
    /// were still running. `now_unix_ms` is compared with the capture's time, so that the way here counts.
    pub fn import(&self, bytes: &[u8], now: Duration, now_unix_ms: u64) -> usize {
        let Some((captured, entries)) = parse(bytes) else {
            return 0;
        };
        // A wall clock that was set back must not make anybody wait longer.
        let passed = now_unix_ms
            .saturating_sub(captured)
            .saturating_mul(1_000_000);
        let now = nanoseconds(now);
        let mut taken = 0;
        for (key, remaining) in entries.take(self.sets.len() * super::WAYS) {
            let remaining = remaining.min(LONGEST).saturating_sub(passed);
            if remaining > 0 {
                let mut set = self.set(key);
                let entry = set.place(key, now);
                entry.until = entry.until.max(now.saturating_add(remaining));
                taken += 1;
            }
        }
        taken
    }
}

fn parse(bytes: &[u8]) -> Option<(u64, impl Iterator<Item = (Key, u64)>)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (captured, rest) = rest.split_first_chunk()?;
    let (entries, odd) = rest.as_chunks::<ENTRY>();
    if !odd.is_empty() || !entries.iter().all(|bytes| entry(bytes).is_some()) {
        return None;
    }
    Some((
        u64::from_be_bytes(*captured),
        entries.iter().filter_map(entry),
    ))
}

fn entry(bytes: &[u8; ENTRY]) -> Option<(Key, u64)> {
    let (scope, rest) = bytes.split_first_chunk()?;
    let ([code], rest) = rest.split_first_chunk()?;
    let (address, rest) = rest.split_first_chunk()?;
    let (remaining, _) = rest.split_first_chunk()?;
    let key = Key {
        scope: u64::from_be_bytes(*scope),
        address: u64::from_be_bytes(*address),
        family: [Family::All, Family::V4, Family::V6]
            .into_iter()
            .find(|family| family.code() == *code)?,
    };
    Some((key, u64::from_be_bytes(*remaining)))
}
