//! Drivers: the trait that UDP sockets, raw sockets, AF_XDP rings and the virtual network
//! implement.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use homa_core::{Carriage, IcmpKind, RpcKey, RxMeta, Segment, Transmit, TransmitError};

/// Gives the payload bytes of outgoing segments.
pub trait Payloads {
    /// Calls `piece` for each contiguous piece of `range` of the outgoing message of `rpc`, in
    /// order. Bytes that are gone (a message that ended meanwhile) come as zeros, so that the
    /// pieces always add up to the range.
    fn pieces<'a>(&'a self, rpc: RpcKey, range: std::ops::Range<u32>, piece: impl FnMut(&'a [u8]));
}

/// Takes what a driver receives.
pub trait PacketSink {
    /// One whole Homa packet (header and payload).
    fn packet(&mut self, meta: &RxMeta, packet: &[u8]);
    /// Whether the packet just passed was for a port that is not served here. The driver may tell
    /// its sender by ICMP if that does not understand what the engine says.
    fn refused_port(&self) -> bool {
        false
    }
    /// The network reports an error about a packet of ours to `destination`; `quoted` is what it
    /// quotes of the Homa packet, perhaps nothing.
    fn icmp_error(&mut self, kind: IcmpKind, destination: SocketAddr, quoted: &[u8]);
    /// The path to `destination` carries IP packets of at most `mtu` bytes.
    fn path_mtu(&mut self, destination: SocketAddr, mtu: u32);
}

/// State after a call of [`Driver::receive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxStatus {
    /// The last look found nothing more.
    Drained,
    /// The batch was full: there may be more.
    More,
}

/// Why a group of segments was not sent, or not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsent {
    /// Index of the first segment that was not sent.
    pub first: usize,
    /// Why.
    pub why: TransmitError,
}

/// Capacity of a driver for packets that were not fetched yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxCapacity {
    /// Bytes of payload in MTU-size packets.
    pub bytes: u64,
    /// Small packets.
    pub packets: u32,
}

/// Sends and receives Homa packets. Implementations never block and never allocate per packet.
pub trait Driver {
    /// Receives one bounded batch into `sink`.
    ///
    /// # Errors
    /// Only what makes the driver unusable (the socket is gone); everything else is reported to
    /// the sink or counted.
    fn receive(&mut self, sink: &mut impl PacketSink) -> io::Result<RxStatus>;

    /// Sends `segments` (already cut to `transmit.segments`) to `transmit.path`. ICMP errors and
    /// MTU changes found on the path are kept and delivered by the next `receive`.
    ///
    /// # Errors
    /// [`Unsent`]: from which segment on nothing was sent, and why.
    fn transmit(
        &mut self,
        transmit: &Transmit,
        segments: &[Segment],
        payloads: &impl Payloads,
    ) -> Result<(), Unsent>;

    /// Current MTU (IP packet bytes) and link speed (10^6 bit/s, physical devices only) towards
    /// `remote`; `None` where unknown.
    fn path(&mut self, remote: SocketAddr) -> (Option<u32>, Option<u32>);

    /// Capacity of the receive buffer.
    fn rx_capacity(&self) -> RxCapacity;

    /// The address packets are received at.
    fn local_addr(&self) -> SocketAddr;

    /// How packets travel through this driver.
    fn carriage(&self) -> Carriage {
        Carriage::Udp
    }

    /// The descriptor that is readable while packets wait; `None` if there is nothing to sleep on:
    /// then the source of packets also drives the shard.
    fn readable(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Bytes handed over that have not left the host, if the driver can tell.
    fn tx_backlog_bytes(&self) -> Option<u64>;

    /// Packets the system dropped because they were not fetched in time.
    fn rx_dropped(&self) -> u64;
}
