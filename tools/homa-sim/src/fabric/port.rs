//! A port that sends: a queue and a link.

use serde::{Deserialize, Serialize};

use super::{
    Node,
    faults::Losses,
    jitter::Jitter,
    memory::Memory,
    queue::{Discipline, Levels, Place, Queue, Ranked, Trimming},
    topology::HEAD_BYTES,
};
use crate::{
    event::{PacketId, SwitchId},
    packet::{Ecn, PRIORITIES, Packets, Route},
    time::{Rate, Span, Time},
};

/// What a port has sent, and how much waited.
#[derive(Clone, Debug, Default)]
struct PortStats {
    /// Bytes of link time by priority.
    sent_bytes: [u64; PRIORITIES],
    /// Most bytes that waited at a time.
    queued_bytes_max: u64,
    /// Bytes that waited, times the picoseconds that they did.
    queued_byte_ps: u128,
    dropped: Tally,
    trimmed: Tally,
    lost: Tally,
    marked_packets: u64,
}

/// Packets, and bytes of link time.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    packets: u64,
    bytes: u64,
}

impl Tally {
    fn add(&mut self, bytes: u32) {
        self.packets += 1;
        self.bytes += u64::from(bytes);
    }
}

/// Kinds of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortKind {
    /// From hosts to their switch.
    HostUp,
    /// From switches of racks to their hosts.
    RackDown,
    /// From switches of racks to the spine.
    RackUp,
    /// From the spine, or the aggregation switches of a fat tree, to the racks.
    SpineDown,
    /// From there up, to switches without hosts.
    CoreUp,
    /// Back down to them.
    CoreDown,
    /// Between switches as far from hosts as each other.
    Across,
}

impl PortKind {
    /// All of them, from hosts up and down again.
    pub const ALL: [Self; 7] = [
        Self::HostUp,
        Self::RackUp,
        Self::CoreUp,
        Self::Across,
        Self::CoreDown,
        Self::SpineDown,
        Self::RackDown,
    ];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::HostUp => "host up",
            Self::RackDown => "ToR down",
            Self::RackUp => "ToR up",
            Self::SpineDown => "spine down",
            Self::CoreUp => "core up",
            Self::CoreDown => "core down",
            Self::Across => "across",
        }
    }

    /// Of ports between switches of these tiers.
    pub(super) fn between(from: u32, to: u32) -> Self {
        match (from, to) {
            (from, to) if from == to => Self::Across,
            (0, _) => Self::RackUp,
            (_, 0) => Self::SpineDown,
            (from, to) if from < to => Self::CoreUp,
            _ => Self::CoreDown,
        }
    }
}

/// What the ports of a kind did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortSummary {
    /// Which ports.
    #[serde(rename = "ports")]
    pub kind: PortKind,
    /// How many.
    #[serde(rename = "count")]
    pub ports: u32,
    /// Part of the time in which they sent.
    pub utilization: f64,
    /// Part of what they sent, by priority; the lowest first.
    #[serde(rename = "bytes_by_priority")]
    pub by_priority: [f64; PRIORITIES],
    /// Bytes that waited at a port, in the mean over time and ports. What a port is sending does
    /// not wait.
    pub queued_bytes_mean: f64,
    /// The most that waited at one port.
    pub queued_bytes_max: u64,
    /// Packets that were dropped for want of room.
    pub dropped_packets: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// Packets that were cut down to their header.
    pub trimmed_packets: u64,
    /// Bytes that were cut off.
    pub trimmed_bytes: u64,
    /// Packets that were marked (ECN).
    pub marked_packets: u64,
    /// Packets that were lost on the link, or had no way from its end.
    pub lost_packets: u64,
    /// Their bytes.
    pub lost_bytes: u64,
}

/// What a port does at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortView {
    /// Which port: its kind, and its place among those.
    pub kind: PortKind,
    /// From 0, in the order of hosts or switches.
    pub index: u32,
    /// Of its link.
    pub rate: Rate,
    /// Bytes of link time that wait, by priority. Where a discipline has no queue of each, all of
    /// them are in the lowest.
    pub queued_bytes: [u32; PRIORITIES],
    /// Bytes of link time that it has sent since it is measured.
    pub sent_bytes: u64,
}

impl PortSummary {
    pub(super) fn new(kind: PortKind) -> Self {
        Self {
            kind,
            ports: 0,
            utilization: 0.0,
            by_priority: [0.0; PRIORITIES],
            queued_bytes_mean: 0.0,
            queued_bytes_max: 0,
            dropped_packets: 0,
            dropped_bytes: 0,
            trimmed_packets: 0,
            trimmed_bytes: 0,
            marked_packets: 0,
            lost_packets: 0,
            lost_bytes: 0,
        }
    }

    /// Adds what a port did: sums, until [`over`](Self::over).
    pub(super) fn add(&mut self, port: &Port) {
        let stats = &port.waits.stats;
        self.ports += 1;
        self.dropped_packets += stats.dropped.packets;
        self.dropped_bytes += stats.dropped.bytes;
        self.trimmed_packets += stats.trimmed.packets;
        self.trimmed_bytes += stats.trimmed.bytes;
        self.lost_packets += stats.lost.packets;
        self.lost_bytes += stats.lost.bytes;
        self.marked_packets += stats.marked_packets;
        for (sum, bytes) in self.by_priority.iter_mut().zip(stats.sent_bytes) {
            *sum += bytes as f64;
        }
        let sent: u64 = stats.sent_bytes.iter().sum();
        self.utilization += sent as f64 * 8e6 / f64::from(port.rate.mbps());
        self.queued_bytes_mean += stats.queued_byte_ps as f64;
        self.queued_bytes_max = self.queued_bytes_max.max(stats.queued_bytes_max);
    }

    /// Divides the sums by the time.
    pub(super) fn over(&mut self, span: Span) {
        let ps = span.as_ps().max(1) as f64 * f64::from(self.ports);
        self.utilization /= ps;
        self.queued_bytes_mean /= ps;
        let sent: f64 = self.by_priority.iter().sum();
        self.by_priority.iter_mut().for_each(|part| *part /= sent.max(1.0));
    }
}

/// A port. The packet that it sends is in no queue.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) leads_to: Node,
    pub(crate) rate: Rate,
    /// From the end of a packet on the link until the node at its end has dealt with it.
    pub(crate) delay: Span,
    /// It asks its host for the next packet whenever it has sent one.
    pub(crate) pulls: bool,
    /// Packets leave in the order of arrival, whatever their priority.
    pub(crate) fifo: bool,
    /// Packets are sent on before they have come whole.
    pub(super) cuts_through: bool,
    /// Failures of its link that last.
    pub(super) failures: u32,
    /// What its link loses by chance.
    pub(super) losses: Option<Box<Losses>>,
    /// What its delay varies by.
    pub(super) jitter: Option<Box<Jitter>>,
    pub(super) kind: PortKind,
    /// The switch that it belongs to.
    pub(super) switch: SwitchId,
    pub(crate) busy_until: Time,
    rest: u32,
    queue: Queue,
    waits: Waits,
}

/// What waits at a port.
#[derive(Debug)]
struct Waits {
    queued_bytes: u64,
    /// Packets are marked when so many bytes wait.
    ecn_bytes: u64,
    stats: PortStats,
}

impl Port {
    /// A port of a host.
    pub(crate) fn new(kind: PortKind, leads_to: Node, rate: Rate, delay: Span) -> Self {
        Self {
            leads_to,
            rate,
            delay,
            pulls: false,
            fifo: false,
            cuts_through: false,
            failures: 0,
            losses: None,
            jitter: None,
            kind,
            switch: SwitchId::NONE,
            busy_until: Time::ZERO,
            rest: 0,
            queue: Queue::new(Discipline::Priorities, 0),
            waits: Waits { queued_bytes: 0, ecn_bytes: u64::MAX, stats: PortStats::default() },
        }
    }

    /// Makes it a port of a switch.
    pub(super) fn belongs_to(&mut self, switch: SwitchId, queue: Queue, ecn_bytes: Option<u32>) {
        (self.switch, self.queue) = (switch, queue);
        self.waits.ecn_bytes = ecn_bytes.map_or(u64::MAX, u64::from);
    }

    /// Adds a delay of a host, which may vary.
    pub(super) fn vary(&mut self, delay: Span, sigma: f64, seed: u64) {
        match sigma > 0.0 {
            true => self.jitter = Some(Box::new(Jitter::new(delay, sigma, seed))),
            false => self.delay = self.delay + delay,
        }
    }

    /// Begins to measure anew.
    pub(crate) fn measure(&mut self) {
        self.waits.stats = PortStats::default();
    }

    pub(crate) fn is_busy(&self, now: Time) -> bool {
        now < self.busy_until
    }

    /// Bytes that wait, and what is left of the packet that it sends.
    pub(crate) fn backlog_bytes(&self, now: Time) -> u64 {
        let left = if self.is_busy(now) { self.busy_until.since(now).as_ps() } else { 0 };
        self.waits.queued_bytes + (left * u64::from(self.rate.mbps())).div_ceil(8_000_000)
    }

    pub(crate) fn is_empty(&self) -> bool {
        // No packet is of 0 bytes.
        self.waits.queued_bytes == 0
    }

    /// Lets a packet wait; where there is no room, it or another one is dropped or trimmed.
    pub(super) fn put<H: Copy>(
        &mut self,
        now: Time,
        id: PacketId,
        packets: &mut Packets<H>,
        memory: Option<&mut Memory>,
    ) {
        packets.route_mut(id).queued_at = now;
        let mut arrival = Arrival { now, waits: &mut self.waits, packets, memory };
        match &mut self.queue {
            Queue::Levels(levels) => arrival.wait_in_level(levels, self.fifo, id),
            Queue::Ranked(ranked) => arrival.wait_by_rank(ranked, id),
            Queue::Trimming(trimming) => arrival.wait_or_trim(trimming, id),
        }
    }

    /// The packet to send next, by the discipline.
    pub(super) fn take<H: Copy>(
        &mut self,
        now: Time,
        packets: &Packets<H>,
        memory: Option<&mut Memory>,
    ) -> Option<PacketId> {
        let id = self.queue.take(packets)?;
        self.waits.left(now, packets.route(id), memory);
        Some(id)
    }

    /// Bytes that wait, by priority, and those sent.
    pub(super) fn view(&self) -> ([u32; PRIORITIES], u64) {
        let queued_bytes = match &self.queue {
            Queue::Levels(levels) => std::array::from_fn(|level| levels.bytes(level)),
            Queue::Ranked(_) | Queue::Trimming(_) => {
                let all = u32::try_from(self.waits.queued_bytes).unwrap_or(u32::MAX);
                std::array::from_fn(|level| if level == 0 { all } else { 0 })
            }
        };
        (queued_bytes, self.waits.stats.sent_bytes.iter().sum())
    }

    /// Sends a packet from now on. Returns when it is out, and when the node at the end of the
    /// link has dealt with it.
    pub(crate) fn transmit(&mut self, now: Time, packet: &Route) -> (Time, Time) {
        let level = usize::from(packet.priority) % PRIORITIES;
        self.waits.stats.sent_bytes[level] += u64::from(packet.wire_bytes);
        self.busy_until = now + self.rate.time(packet.wire_bytes, &mut self.rest);
        let over = match self.cuts_through {
            true => now + self.rate.time(HEAD_BYTES, &mut 0),
            false => self.busy_until,
        };
        let arrives = over + self.delay;
        let arrives = self.jitter.as_mut().map_or(arrives, |jitter| jitter.after(arrives));
        (self.busy_until, arrives)
    }

    /// Whether the link loses the packet that comes to its end.
    pub(super) fn loses(&mut self) -> bool {
        self.failures > 0 || self.losses.as_mut().is_some_and(|losses| losses.next())
    }

    /// A packet that left here is lost.
    pub(super) fn lost(&mut self, packet: &Route) {
        self.waits.stats.lost.add(packet.wire_bytes);
    }
}

impl Waits {
    fn came(&mut self, now: Time, bytes: u32, memory: Option<&mut Memory>) {
        self.queued_bytes += u64::from(bytes);
        self.stats.queued_bytes_max = self.stats.queued_bytes_max.max(self.queued_bytes);
        if let Some(memory) = memory {
            memory.take(now, bytes.into());
        }
    }

    fn left(&mut self, now: Time, route: &Route, memory: Option<&mut Memory>) {
        let bytes = u64::from(route.wire_bytes);
        self.queued_bytes -= bytes;
        let waited_ps = now.since(route.queued_at).as_ps();
        self.stats.queued_byte_ps += u128::from(bytes) * u128::from(waited_ps);
        if let Some(memory) = memory {
            memory.free(now, bytes);
        }
    }
}

/// A packet that comes to a queue.
struct Arrival<'a, H> {
    now: Time,
    waits: &'a mut Waits,
    packets: &'a mut Packets<H>,
    memory: Option<&'a mut Memory>,
}

impl<H: Copy> Arrival<'_, H> {
    fn wait_in_level(&mut self, levels: &mut Levels, fifo: bool, id: PacketId) {
        let Route { priority, wire_bytes, .. } = *self.packets.route(id);
        let level = if fifo { 0 } else { usize::from(priority) % PRIORITIES };
        let (in_level, at_port) = (u64::from(levels.bytes(level)), self.waits.queued_bytes);
        if let Some(memory) = &self.memory {
            if !memory.admits(wire_bytes.into(), in_level, at_port) {
                return self.drop(id);
            }
        }
        self.mark(id);
        levels.put(level, id, self.packets);
        self.came(id);
    }

    fn wait_by_rank(&mut self, ranked: &mut Ranked, id: PacketId) {
        self.mark(id);
        ranked.put(id, self.packets);
        self.came(id);
        while self.waits.queued_bytes > ranked.bytes_max() {
            let Some(worst) = ranked.take_worst() else { return };
            self.left(worst);
            self.drop(worst);
        }
    }

    fn wait_or_trim(&mut self, trimming: &mut Trimming, id: PacketId) {
        let cut = match trimming.put(id, self.packets) {
            Place::Waits => {
                self.mark(id);
                return self.came(id);
            }
            Place::Dropped => return self.drop(id),
            Place::Trim(cut) => cut,
        };
        if cut != id {
            self.left(cut);
            self.came(id);
        }
        let route = self.packets.route_mut(cut);
        self.waits.stats.trimmed.packets += 1;
        self.waits.stats.trimmed.bytes +=
            u64::from(route.wire_bytes - trimming.trimmed_wire_bytes());
        (route.queued_at, route.trimmed) = (self.now, true);
        route.wire_bytes = trimming.trimmed_wire_bytes();
        match trimming.put_header(cut) {
            Place::Waits => self.came(cut),
            _ => self.drop(cut),
        }
    }

    /// Marks a packet that finds the queue long (DCTCP).
    fn mark(&mut self, id: PacketId) {
        if self.waits.queued_bytes > self.waits.ecn_bytes {
            let route = self.packets.route_mut(id);
            if route.ecn != Ecn::Incapable {
                route.ecn = Ecn::Marked;
                self.waits.stats.marked_packets += 1;
            }
        }
    }

    fn came(&mut self, id: PacketId) {
        let bytes = self.packets.route(id).wire_bytes;
        self.waits.came(self.now, bytes, self.memory.as_deref_mut());
    }

    fn left(&mut self, id: PacketId) {
        self.waits.left(self.now, self.packets.route(id), self.memory.as_deref_mut());
    }

    fn drop(&mut self, id: PacketId) {
        self.waits.stats.dropped.add(self.packets.route(id).wire_bytes);
        self.packets.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{HostId, PortId},
        fabric::Buffer,
    };

    /// A port of a switch, and packets of 1,000 bytes for it.
    struct Bench {
        port: Port,
        memory: Memory,
        packets: Packets<()>,
    }

    impl Bench {
        fn new(discipline: Discipline, buffer: Buffer, ecn_bytes: Option<u32>) -> Self {
            let rate = Rate::from_mbps(10_000).unwrap();
            let mut port = Port::new(PortKind::RackDown, Node::Host(HostId(9)), rate, Span::ZERO);
            port.belongs_to(SwitchId(0), Queue::new(discipline, 1), ecn_bytes);
            Self { port, memory: Memory::new(buffer), packets: Packets::new() }
        }

        /// A packet comes; its name is its flow.
        fn put(&mut self, flow: u32, priority: u8, rank: u32) -> PacketId {
            let (from, to) = (HostId(flow), HostId(9));
            let route = Route {
                queued_at: Time::ZERO,
                next: PacketId(0),
                from,
                to,
                port: PortId(0),
                wire_bytes: 1_000,
                flow,
                rank,
                priority,
                ecn: Ecn::Capable,
                trimmed: false,
                stored: false,
            };
            let id = self.packets.add(route, None, ());
            self.port.put(Time::ZERO, id, &mut self.packets, Some(&mut self.memory));
            id
        }

        /// Takes all packets out: flow, rank, whether it was marked, whether it was trimmed.
        fn drain(&mut self) -> Vec<(u32, u32, bool, bool)> {
            let take = || {
                let id = self.port.take(Time::ZERO, &self.packets, Some(&mut self.memory))?;
                let route = self.packets.route(id);
                Some((route.flow, route.rank, route.ecn == Ecn::Marked, route.trimmed))
            };
            let taken = std::iter::from_fn(take).collect();
            assert!(self.port.is_empty());
            taken
        }

        fn flows(&mut self) -> Vec<u32> {
            self.drain().into_iter().map(|(flow, ..)| flow).collect()
        }
    }

    #[test]
    fn the_highest_priority_leaves_first_and_within_one_what_came_first() {
        let mut bench = Bench::new(Discipline::Priorities, Buffer::Unlimited, None);
        for (flow, priority) in [(0, 3), (1, 0), (2, 7), (3, 3), (4, 7), (5, 0)] {
            bench.put(flow, priority, 0);
        }
        assert_eq!(bench.flows(), [2, 4, 0, 3, 1, 5]);
    }

    #[test]
    fn a_packet_that_finds_more_than_the_threshold_is_marked() {
        let mut bench = Bench::new(Discipline::Priorities, Buffer::Unlimited, Some(2_000));
        for flow in 0..5 {
            bench.put(flow, 0, 0);
        }
        assert_eq!(bench.port.waits.stats.marked_packets, 2);
        let marked: Vec<_> = bench.drain().into_iter().map(|(_, _, marked, _)| marked).collect();
        assert_eq!(marked, [false, false, false, true, true]);
    }

    #[test]
    fn a_full_port_drops_what_comes_and_its_memory_is_free_when_it_is_empty() {
        let buffer = Buffer::PerPort { bytes: 2_500 };
        let mut bench = Bench::new(Discipline::Priorities, buffer, None);
        for flow in 0..4 {
            bench.put(flow, 0, 0);
        }
        assert_eq!((bench.flows(), bench.port.waits.stats.dropped.packets), (vec![0, 1], 2));
        assert_eq!(bench.memory.used_bytes(), 0);
        bench.put(4, 0, 0);
        assert_eq!(bench.flows(), [4]);
    }

    #[test]
    fn by_rank_the_earliest_packet_of_the_flow_of_the_lowest_rank_leaves_first() {
        let discipline = Discipline::Ranked { bytes_max: 100_000 };
        let mut bench = Bench::new(discipline, Buffer::Unlimited, None);
        // Ranks are what remains of a flow: its later packets have lower ones.
        for (flow, rank) in [(0, 50), (1, 40), (2, 45), (1, 20), (0, 30)] {
            bench.put(flow, 0, rank);
        }
        let order: Vec<_> =
            bench.drain().into_iter().map(|(flow, rank, ..)| (flow, rank)).collect();
        assert_eq!(order, [(1, 40), (1, 20), (0, 50), (0, 30), (2, 45)]);
    }

    #[test]
    fn by_rank_the_highest_is_dropped_first_and_of_equal_ones_the_latest() {
        let discipline = Discipline::Ranked { bytes_max: 3_000 };
        let mut bench = Bench::new(discipline, Buffer::Unlimited, None);
        for (flow, rank) in [(0, 9), (1, 9), (2, 5)] {
            bench.put(flow, 0, rank);
        }
        // The one that comes displaces the later one of rank 9; the next is itself the highest.
        bench.put(3, 0, 7);
        bench.put(4, 0, 10);
        assert_eq!(bench.port.waits.stats.dropped.packets, 2);
        assert_eq!(bench.flows(), [2, 3, 0]);
        assert_eq!(bench.memory.used_bytes(), 0);
    }

    #[test]
    fn a_full_queue_of_data_trims_what_comes_or_its_last_and_headers_leave_first() {
        let discipline =
            Discipline::Trimming { data_packets: 2, header_packets: 30, trimmed_ip_bytes: 40 };
        let mut bench = Bench::new(discipline, Buffer::Unlimited, None);
        for flow in 0..22 {
            bench.put(flow, 0, 0);
        }
        assert_eq!(bench.port.waits.stats.trimmed.packets, 20);
        // A header takes the shortest frame.
        assert_eq!(bench.port.waits.queued_bytes, 2 * 1_000 + 20 * 84);
        let left = bench.drain();
        // Ten headers for one packet of data.
        let trimmed: Vec<_> = left.iter().map(|(.., trimmed)| *trimmed).collect();
        let whole: Vec<_> = (0..22).filter(|place| !trimmed[*place]).collect();
        assert_eq!(whole, [10, 21]);
        // The first of the queue stays; the last one changes by chance.
        assert_eq!((left[10].0, left[21].0 > 1), (0, true));
        assert_eq!(bench.memory.used_bytes(), 0);
    }

    #[test]
    fn a_header_that_finds_no_room_is_dropped() {
        let discipline =
            Discipline::Trimming { data_packets: 1, header_packets: 2, trimmed_ip_bytes: 40 };
        let mut bench = Bench::new(discipline, Buffer::Unlimited, None);
        bench.put(0, 7, 0);
        for flow in 1..5 {
            bench.put(flow, 0, 0);
        }
        // Of four packets of data one waits whole, one trimmed, two are dropped.
        let stats = &bench.port.waits.stats;
        assert_eq!((stats.trimmed.packets, stats.dropped.packets), (3, 2));
        assert_eq!(bench.flows().len(), 3);
        assert_eq!(bench.memory.used_bytes(), 0);
    }
}
