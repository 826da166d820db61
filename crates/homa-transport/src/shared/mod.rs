//! What both faces share: an endpoint's core, and calls, requests and streams as things to poll.
//!
//! [`core`](self::core) holds the shard behind its lock and is what `drive` drives; [`ops`] goes
//! in, [`events`] come out, [`rpc`] is what both sides share about one RPC. Everything else is a
//! user's view: [`call`], [`accept`], [`answer`], [`stream`], [`completions`].

mod accept;
mod answer;
mod call;
mod completions;
mod context;
pub(crate) mod core;
mod events;
mod guard_thread;
mod handle;
mod ops;
mod peers;
mod room;
mod rpc;
mod spin;
mod stream;
mod turns;
mod waiters;
mod wakes;

pub(crate) use accept::{Accepted, ServingMode};
pub(crate) use answer::Answer;
pub(crate) use call::{CallMode, PendingCall};
pub(crate) use completions::Completions;
pub(crate) use handle::Handle;
pub(crate) use stream::{IncomingStream as Incoming, OutgoingStream as Outgoing};
