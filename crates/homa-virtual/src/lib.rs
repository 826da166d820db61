//! Hosts on a network in virtual time, with everything that goes wrong on real ones.
//!
//! Nothing reads a clock and all chance comes from one seed: a run repeats exactly.
//!
//! * [`World`]: hosts, links, the calendar of what will happen, and the time.
//! * Hosts ([`HostPlan`]) run real [`Shard`](homa_io::Shard)s over a [`VirtualDriver`] and keep to
//!   the protocol, or not ([`Conduct`]). The world takes their turns; those of a host that is
//!   [attached](World::attach) are taken by whoever holds its [`AttachedDriver`].
//! * Links ([`LinkPlan`]) delay, lose, repeat and reorder packets; a switch port ([`PortPlan`])
//!   with eight strict priorities lies before each host.
//! * Faults: of the whole network ([`Faults`]), at one time ([`Partition`], [`MtuChange`],
//!   [`World::restart`], [`World::pause_at`]), of a driver ([`RefusalRates`]).
//! * The plan: calls ([`CallPlan`]) at their times, and what servers do ([`Response`]).
//! * [`Ledger`]: how each call ended, how often its handler ran, and every broken promise. All
//!   bytes are compared to a [`Pattern`]; each RPC has one final `Released` and one `Ended`, and
//!   nothing afterwards. An [`Auditor`] watches the packets of all links.
//! * [`shrink`] finds what can be left out of a plan that fails ([`Cut`]).
//!
//! ```
//! use homa_virtual::{CallEnd, CallPlan, LinkPlan, World};
//!
//! let mut world = World::with_hosts(1, 2, |_| {});
//! world.set_link(0, 1, LinkPlan { loss_ppm: 200_000, ..LinkPlan::default() });
//! let call = world.call(CallPlan::new(0, 1, 50_000, 100));
//! assert!(world.run_calls(10_000_000_000));
//! assert_eq!(world.ledger.end(call), Some(CallEnd::Answered));
//! assert!(world.ledger.violations.is_empty() && world.auditor.violations.is_empty());
//! ```
#![forbid(unsafe_code)]

mod app;
mod attached;
mod auditor;
mod conduct;
mod cut;
mod dice;
mod digest;
mod driver;
mod fault;
mod host;
mod ledger;
mod link;
mod pattern;
mod plan;
mod time;
mod world;

pub use attached::AttachedDriver;
pub use auditor::Auditor;
pub use conduct::Conduct;
pub use cut::{Cut, shrink};
pub use dice::Dice;
pub use driver::VirtualDriver;
pub use fault::{Faults, MtuChange, Partition, RefusalRates};
pub use host::HostPlan;
pub use ledger::{Call, CallEnd, Ledger};
pub use link::{LinkPlan, PortPlan};
pub use pattern::Pattern;
pub use plan::{CallPlan, Response, Writes};
pub use world::{Heard, Rare, World};
