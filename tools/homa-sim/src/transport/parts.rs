//! What several transports are built of.

mod flight;
mod inbox;
mod timers;

pub(crate) use flight::Flight;
pub(crate) use inbox::{Inbox, PacketSet, Taken};
pub(crate) use timers::Timers;
