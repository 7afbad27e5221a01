//! One look at everything that runs (proc(5)).
//!
//! Holds  a process that ends while it is looked at is left out; nobody's number is believed beyond the look.

use std::fs;

use crate::family::{Kin, parse_stat};

/// All processes that may be seen.
pub(crate) fn take() -> Vec<Kin> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = entries.flatten().filter(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
    });
    numbers
        .filter_map(|entry| fs::read(entry.path().join("stat")).ok())
        // A process may have any name; the fields themselves are digits.
        .filter_map(|stat| parse_stat(&String::from_utf8_lossy(&stat)))
        .collect()
}
