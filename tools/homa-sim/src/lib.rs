//! A data center in simulated time: the Homa engine that ships on every host, discrete events
//! around it, no payload, no sockets, no clock.
//!
//! * [`reproduce`]: published evaluations, set up and compared.
//! * [`plan`]: simulations as files, whose points are runs.
//! * [`network`]: networks as TOML.
//! * [`Run`]: a network, its load and what hosts speak; it gives an [`Outcome`].
//! * [`World`]: hosts of a [`Topology`] that send the messages of a [`Traffic`]; the same seed
//!   gives the same run on every machine.
//! * [`transport`]: the trait that a transport implements, and the adapter of Homa's engine.
//! * [`summary`]: slowdown by size, queues, priorities; [`figures`]: what is kept of it.
#![forbid(unsafe_code)]

mod calendar;
mod calls;
mod chance;
mod event;
mod fabric;
pub mod figures;
mod journey;
pub mod network;
mod packet;
pub mod plan;
mod receivers;
pub mod reproduce;
mod run;
pub mod summary;
mod time;
mod traffic;
pub mod transport;
mod world;

pub use event::{HostId, MessageId};
pub use fabric::{
    Buffer, Discipline, Failure, Graph, Link, Loss, OUTSIDE, PortKind, PortSummary, PortView,
    Queues, Routing, Shape, Switch, SwitchSummary, Topology, TopologyError,
};
pub use journey::Journey;
pub use packet::{Delivered, Outgoing, PRIORITIES, PacketSize};
pub use run::{Moment, Outcome, Run, SetupError};
pub use time::{Rate, Span, Time};
pub use traffic::{
    Arrivals, Background, Demand, Incast, Load, Pattern, Recorded, Trace, TraceError, Traffic,
    TrafficError,
};
pub use world::{Counts, Message, World};
