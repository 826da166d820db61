//! Counters of a UDP driver.

/// Counters of a [`UdpDriver`](super::UdpDriver) since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpStats {
    /// Homa packets received.
    pub received_packets: u64,
    /// Their bytes, headers included.
    pub received_bytes: u64,
    /// Receive calls that brought something: packets or trains.
    pub receives: u64,
    /// Of these, trains: several packets joined by the kernel.
    pub received_trains: u64,
    /// Receive calls that found nothing.
    pub empty_receives: u64,
    /// Packets dropped because they were longer than any Homa packet can be.
    pub truncated_packets: u64,
    /// Packets that the kernel dropped because the receive buffer was full.
    pub dropped_packets: u64,
    /// Homa packets sent.
    pub sent_packets: u64,
    /// Their bytes, headers included.
    pub sent_bytes: u64,
    /// Send calls that succeeded: packets or trains.
    pub sends: u64,
    /// Of these, trains.
    pub sent_trains: u64,
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
    /// Hosts found to take no trains, so that packets to them go one by one.
    pub uncut_hosts: u64,
    /// Packets whose payload lay in so many pieces that it was joined first.
    pub joined_packets: u64,
    /// Error reports read from the socket.
    pub reports: u64,
    /// Of these, forgotten because too many came between two receives.
    pub lost_reports: u64,
}
