//! The competitor: RPCs over TCP, with everything a careful program does.
//!
//! A frame is a header of 12 bytes (length of the body as `u32`, RPC id as `u64`, both little endian) and
//! the body. NODELAY is set, large bodies are written without being
//! copied, and receive buffers are left to the kernel's autotuning, which beats any fixed size. Small frames
//! leave one by one, as in most RPC libraries, or share a `write`, which is the best a program can do that
//! makes many calls at a time; see [`TcpWrites`](super::TcpWrites).

pub(crate) mod blocking;
pub(crate) mod event_client;
pub(crate) mod event_server;
pub(crate) mod frame;
pub(crate) mod output;
pub(crate) mod socket;
pub(crate) mod tokio_api;
