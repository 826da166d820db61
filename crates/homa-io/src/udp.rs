//! The default driver: Homa packets as the payload of UDP datagrams, through an ordinary socket,
//! without privileges.
//!
//! * Out: a *train* (packets of equal length to one destination) is one `sendmsg` with
//!   `UDP_SEGMENT`, gathered from headers and payload where they lie; nothing is copied together.
//!   A single packet goes without segmentation.
//! * In: one `recvmsg` brings one packet or, by `UDP_GRO`, a whole train, which is split here.
//! * Errors: the kernel answers a send with whatever error is pending on the socket, perhaps of
//!   another peer; the driver empties the error queue and tries again before it blames the
//!   destination. What the network reported reaches the engine with the next receive.
//!
//! Source: `UDP_SEGMENT` and the error queue in udp(7) and ip(7); costs by the benchmark
//! `udp_costs`.

mod connection;
mod receive;
mod route;
mod send;
mod stats;
mod train;

pub use stats::UdpStats;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use homa_sys::UdpSocket;
use homa_sys::udp::GSO_SEGMENTS_MAX;

use crate::driver::{Driver, RxCapacity};
use crate::socket::capacity::capacity_of;
use crate::socket::reports::Reports;
use crate::socket::same_over_sockets;
use connection::Connection;
use receive::Receiver;
use route::Routes;

/// How a UDP driver is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpConfig {
    receive_buffer_bytes: usize,
    receives_per_call: usize,
    shared: bool,
    offload: bool,
    receive_marks: bool,
    one_peer: bool,
}

impl Default for UdpConfig {
    fn default() -> Self {
        Self {
            receive_buffer_bytes: 16 << 20,
            receives_per_call: 16,
            shared: false,
            offload: true,
            receive_marks: false,
            one_peer: false,
        }
    }
}

impl UdpConfig {
    /// The receive buffer to ask for, in bytes of the kernel's accounting (an MTU-size packet
    /// takes 2,304). Default 16 MiB. What the kernel gave decides [`Driver::rx_capacity`]:
    /// without privileges at most twice `net.core.rmem_max`.
    #[must_use]
    pub fn receive_buffer_bytes(mut self, bytes: usize) -> Self {
        self.receive_buffer_bytes = bytes;
        self
    }

    /// Most packets or trains fetched by one call of [`Driver::receive`], at least 1.
    /// Default 16, which is at most 1 MiB.
    #[must_use]
    pub fn receives_per_call(mut self, receives: usize) -> Self {
        self.receives_per_call = receives.max(1);
        self
    }

    /// Whether several sockets share the address (`SO_REUSEPORT`). Default no.
    #[must_use]
    pub fn shared(mut self, shared: bool) -> Self {
        self.shared = shared;
        self
    }

    /// Whether to send trains in one call where the kernel can. Default yes; without, every
    /// packet is a call of its own, for comparison.
    #[must_use]
    pub fn offload(mut self, offload: bool) -> Self {
        self.offload = offload;
        self
    }

    /// Whether [`RxMeta::dscp`](homa_core::RxMeta::dscp) and `ecn` are asked of the kernel, which
    /// costs time per packet. Default no: they are 0.
    #[must_use]
    pub fn receive_marks(mut self, receive_marks: bool) -> Self {
        self.receive_marks = receive_marks;
        self
    }

    /// Whether only those are heard that are spoken to, as a mere client may want it: while that is
    /// one address the socket is connected to it, which saves time per packet. Default no.
    #[must_use]
    pub fn one_peer(mut self, one_peer: bool) -> Self {
        self.one_peer = one_peer;
        self
    }
}

/// A [`Driver`] over one UDP socket.
#[derive(Debug)]
pub struct UdpDriver {
    socket: UdpSocket,
    local: SocketAddr,
    capacity: RxCapacity,
    receiver: Receiver,
    reports: Reports,
    routes: Routes,
    stats: UdpStats,
    /// Segments that one send may carry: 1 without offload.
    train_max: usize,
    /// Where the pieces of a short packet, or of one that lies in too many of them, are joined.
    joined: Vec<u8>,
    /// Sends in a row whose mark was not the socket's default.
    other_marks: u32,
    connection: Connection,
}

impl UdpDriver {
    /// Opens a socket at `address`; `[::]` takes IPv4 as well.
    ///
    /// # Errors
    /// As [`UdpSocket::bind`]: the address is in use, not local, or reserved.
    pub fn bind(address: SocketAddr, config: &UdpConfig) -> io::Result<Self> {
        let socket = match (config.shared, config.one_peer) {
            (true, _) => UdpSocket::bind_shared(address),
            (false, true) => connection::bind_by_number(address),
            (false, false) => UdpSocket::bind(address),
        }?;
        Self::new(socket, config)
    }

    /// Drives a socket that is bound already; `shared` and `one_peer` of `config` do not count.
    ///
    /// # Errors
    /// As [`UdpSocket::from_bound`].
    pub fn from_bound(socket: std::net::UdpSocket, config: &UdpConfig) -> io::Result<Self> {
        Self::new(UdpSocket::from_bound(socket)?, &config.one_peer(false))
    }

    /// Drives a socket that is open.
    fn new(socket: UdpSocket, config: &UdpConfig) -> io::Result<Self> {
        let buffer_bytes = socket.set_receive_buffer(config.receive_buffer_bytes)?;
        if config.receive_marks {
            socket.set_receive_tos(true)?;
        }
        let train_max = if config.offload && socket.gso_supported() { GSO_SEGMENTS_MAX } else { 1 };
        let local = socket.local_addr()?;
        Ok(Self {
            local,
            capacity: capacity_of(buffer_bytes as u64),
            receiver: Receiver::new(config.receives_per_call),
            reports: Reports::default(),
            routes: Routes::default(),
            stats: UdpStats::default(),
            train_max,
            joined: Vec::with_capacity(2048),
            other_marks: 0,
            connection: Connection::first(local, config.one_peer),
            socket,
        })
    }

    /// Whether a receive may bring a whole train (`UDP_GRO`), which it does by default.
    ///
    /// # Errors
    /// None are expected.
    pub(crate) fn set_joined_receives(&self, on: bool) -> io::Result<()> {
        self.socket.set_gro(on)
    }

    /// Counters so far.
    pub fn stats(&self) -> &UdpStats {
        &self.stats
    }

    /// Empties the error queue, with it the error that the next call would fail with.
    fn drain_reports(&mut self) {
        let drained = self.reports.drain(|| self.socket.read_error(), route::mtu);
        self.stats.reports += drained.read;
        self.stats.lost_reports += drained.lost;
    }
}

impl AsFd for UdpDriver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Driver for UdpDriver {
    same_over_sockets!();

    fn path(&mut self, remote: SocketAddr) -> (Option<u32>, Option<u32>) {
        self.routes.path(remote.ip())
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn tx_backlog_bytes(&self) -> Option<u64> {
        self.socket.queued_tx_bytes().ok().map(|bytes| bytes as u64)
    }
}

#[cfg(test)]
pub(crate) mod tests;
