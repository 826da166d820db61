//! See `homa_fuzz::wire`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| homa_fuzz::wire::run(bytes));
