//! Drivers around drivers: to lose packets on purpose, to count them, to watch them. They nest.

mod count;
mod fault;
mod trace;

pub use count::{Counter, Counts};
pub use fault::{FaultInjector, FaultRates};
pub use trace::{Direction, Tracer};
