//! Parts that both interfaces share: an endpoint's core, and calls, requests and streams as things
//! to poll.
//!
//! In layers, each of which knows only those before it:
//!
//! * limits: [`room`] for messages, [`turns`] of clients, both by [`peers`]; requests in
//!   [`service`]; who waits for them is in [`waiters`], who for a time in
//!   [`alarms`], who is to be woken in [`wakes`];
//! * [`frame`]: what a message says besides its body; [`singles`]: the two RPCs of a call that goes
//!   both ways at once;
//! * [`rpc`]: state of an RPC that its user shares with the thread that drives; [`set`]: calls that
//!   share one such state, which are handed over together, with their other half behind the lock in
//!   [`sets`]; [`origin`]: the name of a request, which may have no state that is shared, and then
//!   is noted in [`given_up`] if its client gives it up; [`accept`]: requests for those that
//!   accept; [`rooms`] has all limits of an endpoint;
//! * what happens under the lock: [`ops`] go in, messages are handed over in [`send`], [`events`]
//!   come out, of the RPCs of the [`registry`], all in a [`context`]; [`plain`]: requests that have
//!   no state that is shared;
//! * [`core`](self::core): inbox and seat around the shard, which is behind its lock in [`locked`],
//!   on any driver and clock; beside it [`facts`] and the [`lifecycle`];
//! * [`handle`]: a share of the core, which [`open`] makes;
//! * a user's view: [`call`], [`completions`], [`acceptor`], [`replier`], [`stream`]; [`resolve`]
//!   finds the address of a server, a `permit` is room for a call that is not made yet.

mod accept;
mod acceptor;
mod alarms;
mod call;
mod completions;
mod context;
pub(crate) mod core;
mod events;
mod facts;
mod frame;
mod given_up;
mod guard_thread;
mod handle;
mod lifecycle;
mod locked;
mod open;
mod ops;
mod origin;
mod peers;
#[cfg(feature = "tower")]
mod permit;
mod plain;
mod registry;
mod replier;
mod resolve;
mod room;
mod rooms;
mod rpc;
mod send;
mod service;
mod set;
mod sets;
mod singles;
mod spin;
mod stream;
mod task_slot;
mod turns;
#[cfg(test)]
mod virtual_tests;
mod waiters;
mod wakes;

pub(crate) use accept::ServingMode;
pub(crate) use acceptor::{Accepted, Acceptor};
pub(crate) use call::PendingCall;
pub(crate) use completions::{Completions, Starting};
pub(crate) use handle::{Closing, Handle, HasHandle, Idle};
pub(crate) use open::{core_on, open, open_socket};
#[cfg(feature = "tower")]
pub(crate) use permit::Permit;
pub(crate) use replier::Replier;
pub(crate) use rpc::Content;
pub(crate) use stream::{IncomingStream as Incoming, OutgoingStream as Outgoing};
