//! Homa: remote procedure calls with the latency of the network, for data centers.
//!
//! # The contract
//!
//! * An [`Endpoint`] (async) or [`blocking::Endpoint`] is one UDP socket that sends requests to any
//!   number of servers and, made by `bind`, serves requests of any number of clients. There are no
//!   connections and no order between RPCs.
//! * A **call** sends one message of 1 byte to `limits.max_message_bytes` and ends in exactly one
//!   of two ways: with the whole response, or with a [`CallError`] that says what happened and
//!   whether the server [may have executed it](CallError::may_have_executed). It always ends,
//!   within the timeout for silent servers or the deadline of the call.
//! * A request is executed **at most once** by an incarnation of the server, whatever the network
//!   duplicates. A handler that works for long is waited for, without limit but the deadline.
//! * **Dropping** a call aborts its RPC and tells the server; dropping a [`Request`] without a
//!   reply rejects it; dropping the last handle of an endpoint closes it.
//! * Memory is bounded: outstanding calls and bytes have limits. At a limit `call` waits,
//!   `try_call` returns [`CallError::LimitReached`] naming it.
//! * No thread stands between the caller and the socket: the thread (or task) that waits runs the
//!   protocol. One guard thread per endpoint answers the network while no caller waits.
//! * After `fork` an endpoint works in the parent only; in the child everything returns `Forked`.
//!
//! # Example
//!
//! A server and a client on tokio; [`blocking`] shows the same without a runtime.
//!
//! ```
//! # #[cfg(feature = "tokio")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use homa_transport::Endpoint;
//!
//! let server = Endpoint::bind("127.0.0.1:0").await?;
//! let address = server.local_addr();
//! tokio::spawn(async move {
//!     while let Ok(Some(request)) = server.accept().await {
//!         tokio::spawn(async move {
//!             let response = format!("{} bytes", request.body().len());
//!             let _ = request.reply(response).await;
//!         });
//!     }
//! });
//!
//! let client = Endpoint::client()?;
//! assert_eq!(client.call(address, "hello").await?, "5 bytes");
//! # Ok(()) }
//! # #[cfg(not(feature = "tokio"))]
//! # fn main() {}
//! ```
//!
//! # Waiting
//!
//! A waiting caller looks for packets for up to 50 µs before it sleeps, as long as that pays off
//! ([`EndpointBuilder::spin`]): waking a sleeping core costs more than a round trip. This holds for
//! blocking calls and for current-thread runtimes. [`EndpointBuilder::busy_poll`] never sleeps.
//! Responses are collected into one transmission while further requests wait to be accepted, for at
//! most 10 µs unless a handler in between takes longer.
//!
//! # Features
//!
//! * `tokio` (default): the async face. Runtimes need `enable_io`, without which the first call or
//!   accept panics.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(loom))]
mod builder;
#[cfg(not(loom))]
mod clock;
#[cfg_attr(
    any(loom, not(feature = "tokio")),
    allow(dead_code, reason = "parts of it serve the async face only")
)]
mod drive;
mod error;
mod options;
#[cfg(not(loom))]
#[cfg_attr(
    not(feature = "tokio"),
    allow(dead_code, reason = "parts of it serve the async face only")
)]
mod shared;
mod socket_error;
mod stats;

#[cfg(not(loom))]
pub mod blocking;

#[cfg(feature = "tokio")]
mod asynchronous;

#[cfg(feature = "tokio")]
pub use asynchronous::{
    BodySender, Call, Endpoint, PendingResponse, Request, RequestStream, Responder, ResponseStream,
};
#[cfg(not(loom))]
pub use builder::EndpointBuilder;
pub use bytes::{Buf, Bytes};
pub use error::{AcceptError, BindError, CallError, Limit, ReplyError, StreamError};
pub use homa_core::{Carriage, Config, ConfigError, PeerSettings};
pub use homa_io::{Body, Message};
pub use options::CallOptions;
pub use socket_error::SocketError;
pub use stats::Stats;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
