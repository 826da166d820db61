//! A network in virtual time, with everything that goes wrong in real ones.
//!
//! Hosts run real [`Shard`](crate::Shard)s over a [`VirtualDriver`]; what is simulated is only what lies
//! between sockets: serialisation, queues with eight strict priorities, delay, jitter, spikes, loss,
//! duplication, partitions, path MTU, receive buffers; and what happens to hosts: pauses, restarts, refused
//! transmissions, garbage, peers that do not keep to the protocol. Nothing reads a clock and all chance comes from one seed, so a run can be repeated
//! exactly.
//!
//! A test describes [`CallPlan`]s, runs the [`World`] and looks at the [`Ledger`]: how each call ended and how
//! often its handler ran, with every payload byte compared to a pattern, and every promise of the event stream
//! (one final `Released`, one `Ended`, nothing afterwards) checked on the way.

mod app;
mod auditor;
mod conduct;
mod digest;
mod driver;
mod ledger;
mod link;
mod pattern;
mod plan;
mod time;
mod world;

pub use auditor::Auditor;
pub use conduct::Conduct;
pub use driver::{RefusalRates, VirtualDriver};
pub use ledger::{Call, CallEnd, Ledger};
pub use link::{LinkPlan, Partition, PortPlan};
pub use pattern::Pattern;
pub use plan::{CallPlan, Response};
pub use world::{Heard, HostPlan, MtuChange, Rare, World};

pub use crate::wrap::Dice;
