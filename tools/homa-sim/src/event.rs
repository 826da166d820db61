//! What happens, and the names of what it happens to.

/// Names a host: 0 and up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u32);

/// Names a port that sends: those of the hosts come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PortId(pub(crate) u32);

/// Names a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SwitchId(pub(crate) u32);

impl SwitchId {
    /// Of ports of hosts.
    pub(crate) const NONE: Self = Self(u32::MAX);
}

/// Names a packet while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PacketId(pub(crate) u32);

/// Names a message: 0 and up, in the order in which they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u32);

/// What happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A packet has come to the end of a link.
    Arrived(PacketId),
    /// A packet has come to its host beside the network.
    ArrivedOutside(PacketId),
    /// A port has sent a packet.
    Freed(PortId),
    /// A transport wanted to be asked again.
    Due(HostId),
    /// The next message of a source of traffic begins: those of the hosts come first.
    Begins(HostId),
    /// A link fails or is mended, or switches learn of it: a change of the network.
    Changed(u32),
}
