//! Tests of the packet formats.

mod captures;
mod exhaustive;
mod properties;
mod worked_examples;
