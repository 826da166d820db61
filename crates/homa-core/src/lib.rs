//! The Homa transport protocol as a state machine: no I/O, no clock, no threads, `no_std`.
//!
//! # Contract
//!
//! An [`Engine`] sees packet *headers* and byte *ranges*, never payload bytes; its caller moves the
//! bytes. Every call passes the time. After any call that may change something (everything but the
//! `&self` methods), drain in this order:
//!
//! 1. [`Engine::poll_event`] until `None`: hand events to the application. Their answers
//!    (`send_response`, `consumed`, …) are further calls.
//! 2. [`Engine::poll_transmit`] until `None` or the driver has no room. What the driver refuses
//!    goes straight back through [`Engine::transmit_failed`].
//! 3. [`Engine::poll_timeout`]: call [`Engine::handle_timeout`] then. Early and spurious calls
//!    are harmless.
//!
//! [`Engine::handle_packet`] never builds packets: a batch of arrivals is answered once, in
//! `poll_transmit`. A [`Received::Place`] must be copied before the next `poll_event`.
//!
//! Every accepted send ends in one final [`Event::Released`]; every RPC that the caller got a
//! key for ends in one [`Event::Ended`], after which its key is dead. Stale keys are errors.
//!
//! The same inputs give the same outputs: randomness comes from the seed.
//! Nothing from the network can panic, loop, or grow the engine beyond [`Config`].

#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::std_instead_of_core, clippy::std_instead_of_alloc, clippy::alloc_instead_of_core)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod addr;
mod budget;
pub mod config;
mod cutoffs;
mod engine;
mod event;
mod finished;
mod histogram;
mod priority;
mod secret;
mod structures;
mod time;

pub use addr::{Carriage, Path, RxMeta};
pub use budget::HostBudget;
pub use config::{
    Config, ConfigError, CutoffSource, LINUX_MESSAGE_BYTES_MAX, MESSAGE_BYTES_LIMIT,
    PRIORITIES_MAX, PeerSettings,
};
pub use cutoffs::Cutoffs;
#[cfg(any(test, feature = "check"))]
pub use engine::HeldBytes;
pub use engine::{
    Engine, PIECE_BYTES, PortError, PortOptions, RequestOptions, ResponseOptions, RpcError,
    RpcInfo, SendError, Stats,
};
pub use event::{
    DropReason, Event, FailReason, IcmpKind, PeerAddr, Placement, Received, RpcKey,
    SEGMENT_HEADER_MAX, Segment, Transmit, TransmitError, Urgency, WakeReason,
};
pub use histogram::{LargeMessages, LengthBin};
pub use secret::Seed;
pub use time::Instant;
