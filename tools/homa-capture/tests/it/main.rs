//! Tests of decoder and checker.

mod harness;
mod recordings;
mod robustness;
mod tshark;
mod violations;
