//! The Rust examples of the documentation, as tests: `cargo test -p homa-docs` compiles and runs them.

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/tcp-form.md")]
mod tcp_form {}
