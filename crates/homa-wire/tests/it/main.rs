//! Tests of the packet formats.

mod captures;
mod dissector;
mod exhaustive;
mod properties;
mod worked_examples;
