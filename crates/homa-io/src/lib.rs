//! Drivers, payload store, and the turn that joins them to the protocol engine.
//!
//! A [`Shard`] owns one [`Engine`](homa_core::Engine), one [`Driver`](driver::Driver) and the bytes
//! of all messages on their way. A caller that waits for something calls [`Shard::turn`]: it
//! receives, lets the engine decide, copies payload where the engine says, hands events to the
//! application, sends, and says when it wants to be called again. There is no thread and no clock
//! in here: the caller passes the time, so the same code runs over sockets and, in the crate
//! `homa-virtual`, over a virtual network.
//!
//! A reader's way in: [`driver`] (what a network must offer), [`shard`] (the turn), [`store`]
//! (where bytes lie).
#![forbid(unsafe_code)]

pub mod driver;
mod home;
pub mod ip;
pub mod message;
mod metadata;
mod rare;
pub mod shard;
mod short_queue;
mod socket;
pub mod store;
pub mod udp;
pub mod xdp;

pub use message::{Body, Message};
pub use metadata::{METADATA_BYTES_MAX, Metadata};
pub use shard::{EventHandler, Shard, ShardView, Turn};
pub use store::Store;
