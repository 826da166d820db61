//! What is fuzzed, and what must hold whatever the input.
//!
//! | target | what the input is | what must hold |
//! | --- | --- | --- |
//! | [`wire`] | a datagram, or headers | parsed and encoded again it is the same; packets lie side by side |
//! | [`engine`] | packets, calls, times and settings for one engine | the contract of `homa-core`; all ends in the end |
//! | [`capture`] | a file, or frames | it is read to its end or an error; what is written is read again |
//! | [`pair`] | calls between two hosts, and what the network does to them | every call ends, with the right bytes or an error |
//!
//! A target is a function of bytes that panics if something is wrong. `tools/fuzz` runs them by
//! libFuzzer, guided by coverage; `cargo test` here replays the inputs in `corpus/`.
#![forbid(unsafe_code)]

pub mod capture;
pub mod engine;
mod headers;
mod input;
pub mod pair;
mod settings;
pub mod wire;

/// A function that panics if something is wrong.
pub type Target = fn(&[u8]);

/// The name of each target, and its function.
pub const TARGETS: [(&str, Target); 4] =
    [("wire", wire::run), ("engine", engine::run), ("capture", capture::run), ("pair", pair::run)];
