//! See `homa_fuzz::engine`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| homa_fuzz::engine::run(bytes));
