//! Fuzzes the law of response heads: see `laws/response_head.rs`.

#![no_main]

#[path = "../laws/response_head.rs"]
mod law;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| law::check(bytes));
