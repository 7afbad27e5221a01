//! Fuzzes the law of the chunked coding: see `laws/chunked.rs`.

#![no_main]

#[path = "../laws/chunked.rs"]
mod law;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| law::check(bytes));
