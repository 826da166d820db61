//! Counters of an AF_XDP driver.

/// Counters of an [`XdpDriver`](super::XdpDriver) since it was opened. What goes through its
/// sockets is counted there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct XdpStats {
    /// Homa packets, or over UDP datagrams, received through rings.
    pub received_packets: u64,
    /// Their bytes, Homa headers included.
    pub received_bytes: u64,
    /// Looks at the rings that brought something.
    pub receives: u64,
    /// Looks at the rings that brought nothing.
    pub empty_looks: u64,
    /// Looks at the sockets and for changes of the network.
    pub socket_looks: u64,
    /// Frames ignored because their headers contradict each other or the length.
    pub malformed_frames: u64,
    /// Frames ignored because of a wrong checksum.
    pub damaged_frames: u64,
    /// Frames ignored because no host can have sent them.
    pub martian_frames: u64,
    /// Datagrams sent through rings.
    pub sent_packets: u64,
    /// Their bytes, Homa headers included.
    pub sent_bytes: u64,
    /// Groups of them that were shown to the kernel together.
    pub sends: u64,
    /// Groups of segments sent through the sockets since their way does not lead through the
    /// interface, or not yet.
    pub socket_sends: u64,
    /// Sends refused because no frame was free.
    pub no_room: u64,
    /// Sends refused because packets were longer than the MTU.
    pub too_big: u64,
    /// Sends that the kernel refused since the interface was down.
    pub down: u64,
    /// Look-ups of routes and neighbours.
    pub route_lookups: u64,
    /// Times the network was looked at anew because something changed.
    pub changes: u64,
    /// Times the rings were set up anew for another MTU.
    pub reopened: u64,
}
