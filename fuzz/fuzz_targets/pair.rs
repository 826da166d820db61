//! See `homa_fuzz::pair`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| homa_fuzz::pair::run(bytes));
