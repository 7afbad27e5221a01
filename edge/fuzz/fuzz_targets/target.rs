//! Fuzzes the law of request targets: see `laws/target.rs`.

#![no_main]

#[path = "../laws/target.rs"]
mod law;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| law::check(bytes));
