//! Homa: remote procedure calls with the latency of the network, for data centers.
//!
//! # The contract
//!
//! * An [`Endpoint`] is one UDP socket that sends requests to any number of servers and, made by
//!   `bind`, serves requests of any number of clients. There are no connections and no order
//!   between RPCs.
//! * What takes time is a future for tasks and has a `wait` for threads: `call.await` in any
//!   runtime, `call.wait()` in none. One endpoint serves both at the same time.
//! * A **call** sends one message of at most `limits.max_message_bytes` and ends in exactly one of
//!   two ways: with the whole response, or with a [`CallError`] that says what happened, whether
//!   the server [may have executed it](CallError::may_have_executed) and whether to call
//!   [again](CallError::is_retryable). It always ends, within the timeout for silent servers or the
//!   deadline of the call.
//! * A request is executed **at most once** by an incarnation of the server, whatever the network
//!   duplicates. A handler that works for long is waited for, without limit but the deadline.
//! * **Dropping** a call aborts its RPC and tells the server; dropping a [`Request`] without a
//!   reply tells the client; dropping the last handle of an endpoint closes it.
//! * Memory is bounded: outstanding calls and bytes have limits. At a limit a call waits;
//!   [`Call::try_start`] returns [`CallErrorKind::LimitReached`] naming it.
//! * No thread stands between the caller and the socket: the thread (or task) that waits runs the
//!   protocol. One guard thread per endpoint answers the network while no caller waits.
//! * After `fork` an endpoint works in the parent only; in the child everything returns `Forked`.
//!
//! # Example
//!
//! A server that waits in a thread, and a client that waits in a task:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use homa_transport::Endpoint;
//!
//! let server = Endpoint::bind("127.0.0.1:0")?;
//! let address = server.local_addr();
//! std::thread::spawn(move || {
//!     while let Ok(request) = server.accept().wait() {
//!         let response = format!("{} bytes", request.body().len());
//!         let _ = request.reply(response).wait();
//!     }
//! });
//!
//! let client = Endpoint::client()?;
//! assert_eq!(client.call(address, "hello").await?, "5 bytes");
//! # Ok(()) }
//! ```
//!
//! # Waiting
//!
//! A waiting caller looks for packets for up to 50 µs before it sleeps, as long as that pays off
//! ([`EndpointBuilder::spin`]): waking a sleeping core costs more than a round trip. This holds for
//! threads and for current-thread runtimes. [`EndpointBuilder::busy_poll`] never sleeps. Responses
//! are collected into one transmission while further requests wait to be accepted, for at most
//! 10 µs unless a handler in between takes longer.
//!
//! # From here to production
//!
//! The guide (docs/guide.md in the repository) has deadlines, retries, streams, draining, overload
//! and sizing, each with code; the examples are whole programs.
//!
//! # Features
//!
//! * `tokio` (default): a task of the runtime drives the endpoint. Without it, and in other
//!   runtimes, futures work all the same; a thread of the endpoint drives, which takes longer. With
//!   it [`BodyReader`] is `AsyncRead` and [`BodyWriter`] `AsyncWrite`.
//! * `futures`: they are `Stream` and `Sink`.
//! * `http-body`: [`BodyReader`] is an `http_body::Body`.
//! * `tower`: clients and servers as services of the crate tower, in the module `tower`.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(loom))]
mod body_traits;
#[cfg(not(loom))]
mod builder;
#[cfg(not(loom))]
mod call;
#[cfg(not(loom))]
mod call_set;
#[cfg(not(loom))]
mod clock;
#[cfg_attr(
    any(loom, not(feature = "tokio")),
    allow(dead_code, reason = "parts of it serve tasks of tokio only")
)]
mod drive;
#[cfg(not(loom))]
mod driven;
#[cfg(not(loom))]
mod driver_choice;
#[cfg(all(feature = "tokio", not(loom)))]
mod driver_task;
#[cfg(not(loom))]
mod endpoint;
mod error;
#[cfg(not(loom))]
mod pending;
#[cfg(not(loom))]
mod request;
#[cfg(not(loom))]
#[cfg_attr(
    not(feature = "tokio"),
    allow(dead_code, reason = "parts of it serve tasks of tokio only")
)]
mod shared;
mod socket_error;
mod stats;
#[cfg(not(loom))]
mod stream;
mod target;
#[cfg(all(feature = "tower", not(loom)))]
pub mod tower;

#[cfg(not(loom))]
pub use builder::EndpointBuilder;
pub use bytes::{Buf, Bytes};
#[cfg(not(loom))]
pub use call::{Call, StreamingCall};
#[cfg(not(loom))]
pub use call_set::{CallId, CallSet};
#[cfg(not(loom))]
pub use clock::Clock;
#[cfg(not(loom))]
pub use driven::Drive;
#[cfg(not(loom))]
pub use driver_choice::{DriverChoice, DriverInUse};
#[cfg(not(loom))]
pub use endpoint::Endpoint;
pub use error::{
    AcceptError, BindError, CallError, CallErrorKind, Limit, Rejection, ReplyError, StreamError,
};
pub use homa_core::{Carriage, Config, ConfigError, PeerSettings};
pub use homa_io::driver::Driver;
pub use homa_io::xdp::{AttachMode, BindMode, XdpConfig, XdpError, XdpPlace};
pub use homa_io::{Body, METADATA_BYTES_MAX, Message, Metadata};
#[cfg(not(loom))]
pub use pending::{Operation, Pending};
#[cfg(not(loom))]
pub use request::{Request, RequestStream, Responder};
pub use socket_error::SocketError;
pub use stats::{ClientStats, Stats};
#[cfg(not(loom))]
pub use stream::{BodyReader, BodyWriter};
pub use target::Target;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
