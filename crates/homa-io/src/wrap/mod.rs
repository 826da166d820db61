//! Drivers around drivers: to lose packets on purpose, to count them, to watch them. They nest.

mod count;
mod fault;
mod trace;

pub use count::{Counter, Counts};
pub use fault::{Dice, FaultInjector, FaultRates};
#[cfg(feature = "virtual")]
pub(crate) use trace::write_packet;
pub use trace::{Direction, Tracer};
