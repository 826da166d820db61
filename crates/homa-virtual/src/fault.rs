//! What goes wrong, besides what links do to packets ([`LinkPlan`](crate::LinkPlan)).

/// Faults of the whole network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Chance, in a million packets sent, of a forged or damaged copy.
    pub forge_ppm: u32,
    /// Chance, in a million packets sent, of another copy much later.
    pub late_ppm: u32,
    /// How much later, in ns.
    pub late_ns: u64,
    /// Chance, in a million packets to a host that is down, that the sender is told.
    pub icmp_ppm: u32,
}

/// How often transmissions are refused, in a million trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusalRates {
    /// No room, perhaps after part of the train went out.
    pub no_room_ppm: u32,
    /// No route for the moment.
    pub unreachable_ppm: u32,
    /// Forbidden by the system.
    pub refused_ppm: u32,
}

/// A change of what paths carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MtuChange {
    /// Sending host.
    pub from: usize,
    /// Receiving host.
    pub to: usize,
    /// Longest IP packet from now on, in bytes.
    pub mtu: u32,
    /// Whether the sender's own system knows at once (it refuses longer packets).
    pub known: bool,
}

/// Nothing passes from some hosts to some hosts for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Sending hosts; empty means all.
    pub from: Vec<usize>,
    /// Receiving hosts; empty means all.
    pub to: Vec<usize>,
    /// When it begins, in ns.
    pub start_ns: u64,
    /// When it heals, in ns.
    pub end_ns: u64,
}

impl Partition {
    pub(crate) fn cuts(&self, from: usize, to: usize, now_ns: u64) -> bool {
        let covers = |hosts: &[usize], host| hosts.is_empty() || hosts.contains(&host);
        (self.start_ns..self.end_ns).contains(&now_ns)
            && covers(&self.from, from)
            && covers(&self.to, to)
    }
}
