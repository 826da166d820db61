//! What the load generator needs of a transport: one thread that calls all peers and serves them.
//!
//! A program that speaks another transport implements [`Mesh`] and hands it to
//! [`run_with`](super::run_with).

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

pub use crate::generator::Ended;

/// A host of one transport: client of all others and server at the same time, in one thread.
pub trait Mesh {
    /// Where it serves.
    fn address(&self) -> SocketAddr;

    /// Prepares calls to these servers, named by their index from now on.
    ///
    /// # Errors
    /// A server that cannot be reached within `timeout`.
    fn connect(&mut self, servers: &[SocketAddr], timeout: Duration) -> io::Result<()>;

    /// Begins a call with a request of `bytes` to the server of this index. Its end is reported by
    /// [`poll`](Self::poll), with `token`.
    ///
    /// # Errors
    /// What is known at once.
    fn start(&mut self, token: u64, server: usize, bytes: usize) -> io::Result<()>;

    /// Serves, sends and receives until a call ended or until `until`; adds calls that ended.
    ///
    /// Waking late delays the next call, so `until` asks for more precision than timers of a
    /// millisecond have.
    ///
    /// # Errors
    /// The host cannot go on.
    fn poll(&mut self, until: Instant, ended: &mut Vec<Ended>) -> io::Result<()>;

    /// Counters since the start of the host.
    fn counters(&self) -> Counters;
}

/// What a transport counted.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Bytes sent again.
    pub retransmitted_bytes: u64,
    /// Packets sent again.
    pub retransmitted_packets: u64,
    /// Packets dropped at the socket because nobody fetched them in time.
    pub dropped_by_system: u64,
    /// Others, by name.
    pub named: Vec<(String, u64)>,
}
