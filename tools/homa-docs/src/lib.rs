//! Tests of the documentation: `cargo test -p homa-docs` compiles and runs its Rust examples, and
//! looks up what the repository cites (`tests/citations.rs`).
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide.md")]
mod guide {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/tcp-form.md")]
mod tcp_form {}
