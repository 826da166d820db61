//! See `homa_fuzz::capture`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| homa_fuzz::capture::run(bytes));
