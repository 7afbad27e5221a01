//! Fuzzes the law of request heads: see `laws/request_head.rs`.

#![no_main]

#[path = "../laws/request_head.rs"]
mod law;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| law::check(bytes));
