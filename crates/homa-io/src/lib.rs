//! Drivers, payload store, and the turn that joins them to the protocol engine.

pub mod driver;
