//! Hosts on a network in virtual time, with everything that goes wrong on real ones.
//!
//! A [`World`] has hosts ([`HostPlan`]) on links ([`LinkPlan`]) and makes calls ([`CallPlan`]) at
//! planned times. Hosts run real [`Shard`](homa_io::Shard)s over a [`VirtualDriver`]; what is
//! simulated is only what lies between sockets: serialization, queues with eight strict priorities,
//! delay, jitter, loss, duplication, partitions, path MTU, receive buffers; and what happens to
//! hosts: pauses, restarts, refused transmissions, forged packets, peers that do not keep to the
//! protocol. Nothing reads a clock and all chance comes from one seed: a run repeats exactly.
//!
//! The [`Ledger`] tells how each call ended and how often its handler ran. Every payload byte is
//! compared to a [`Pattern`], every promise of the event stream (one final `Released`, one `Ended`,
//! nothing afterwards) is checked on the way, and an [`Auditor`] watches the packets of every link.
//!
//! [`wrap`] has drivers around drivers, for real sockets as well.
#![forbid(unsafe_code)]

mod app;
mod attached;
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
pub mod wrap;

pub use attached::AttachedDriver;
pub use auditor::Auditor;
pub use conduct::Conduct;
pub use driver::{RefusalRates, VirtualDriver};
pub use ledger::{Call, CallEnd, Ledger};
pub use link::{LinkPlan, Partition, PortPlan};
pub use pattern::Pattern;
pub use plan::{CallPlan, Response};
pub use world::{Heard, HostPlan, MtuChange, Rare, World};
pub use wrap::Dice;
