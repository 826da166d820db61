//! Counters of a raw IP driver.

/// Counters of an [`IpDriver`](super::IpDriver) since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IpStats {
    /// Homa packets received.
    pub received_packets: u64,
    /// Their bytes, Homa headers included.
    pub received_bytes: u64,
    /// Receive calls that brought something.
    pub receives: u64,
    /// Looks that found nothing to receive.
    pub empty_looks: u64,
    /// Packets ignored: shorter than a port number, from an address that no host has (unspecified,
    /// multicast, broadcast, mapped), or to one that is not a single host's.
    pub martian_packets: u64,
    /// Packets for other ports, received before the filter was in place.
    pub stray_packets: u64,
    /// Of the packets received, those that looked like TCP segments. What a rule of the system
    /// turned into ordinary packets before does not count here.
    pub received_tcp_packets: u64,
    /// Packets ignored because they looked like TCP segments and had a wrong checksum.
    pub damaged_packets: u64,
    /// Packets to unserved ports, answered by this process for the host.
    pub answered_for_nobody: u64,
    /// Packets to the own port, which is not served, answered by ICMP.
    pub answered_by_icmp: u64,
    /// Packets that the kernel dropped because the receive buffer was full.
    pub dropped_packets: u64,
    /// Homa packets sent.
    pub sent_packets: u64,
    /// Their bytes, Homa headers included.
    pub sent_bytes: u64,
    /// Send calls that succeeded.
    pub sends: u64,
    /// Sends refused because the socket or the device was full.
    pub no_room: u64,
    /// Sends refused because packets were longer than the MTU.
    pub too_big: u64,
    /// Sends refused without a route to the destination.
    pub unreachable: u64,
    /// Sends forbidden by the system.
    pub refused: u64,
    /// Sends repeated because an error of an earlier one was pending.
    pub repeated_sends: u64,
    /// Packets whose payload lay in so many pieces that it was joined first.
    pub joined_packets: u64,
    /// Error reports about packets from the own port.
    pub reports: u64,
    /// Error reports about packets of others, which every raw socket gets.
    pub foreign_reports: u64,
    /// Of the own reports, forgotten because too many came between two receives.
    pub lost_reports: u64,
}
