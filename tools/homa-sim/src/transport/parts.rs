//! What several transports are built of.

mod flight;
mod header;
mod inbox;
mod timers;

pub(crate) use flight::Flight;
pub use header::Header;
pub(crate) use header::{SIZE, TOP};
pub(crate) use inbox::{Inbox, PacketSet, Taken};
pub(crate) use timers::Timers;
