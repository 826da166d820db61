//! A port that sends: queues by priority, and a link.

use super::Node;
use crate::{
    event::PacketId,
    packet::{PRIORITIES, Packets, Route},
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
}

/// Kinds of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// From hosts to their switch.
    HostUp,
    /// From switches of racks to their hosts.
    RackDown,
    /// From switches of racks to the spine.
    RackUp,
    /// From the spine to the racks.
    SpineDown,
}

/// What the ports of a kind did.
#[derive(Clone, Debug, PartialEq)]
pub struct PortSummary {
    /// Which ports.
    pub kind: PortKind,
    /// How many.
    pub ports: u32,
    /// Part of the time in which they sent.
    pub utilization: f64,
    /// Part of what they sent, by priority; the lowest first.
    pub by_priority: [f64; PRIORITIES],
    /// Bytes that waited at a port, in the mean over time and ports. What a port is sending does
    /// not wait.
    pub queued_bytes_mean: f64,
    /// The most that waited at one port.
    pub queued_bytes_max: u64,
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
        }
    }

    /// Adds what a port did: sums, until [`over`](Self::over).
    pub(super) fn add(&mut self, port: &Port) {
        let stats = &port.stats;
        self.ports += 1;
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
    pub(crate) busy_until: Time,
    rest: u32,
    queues: [Option<(PacketId, PacketId)>; PRIORITIES],
    occupied: u8,
    queued_bytes: u64,
    stats: PortStats,
}

impl Port {
    pub(crate) fn new(leads_to: Node, rate: Rate, delay: Span) -> Self {
        Self {
            leads_to,
            rate,
            delay,
            pulls: false,
            fifo: false,
            busy_until: Time::ZERO,
            rest: 0,
            queues: [None; PRIORITIES],
            occupied: 0,
            queued_bytes: 0,
            stats: PortStats::default(),
        }
    }

    /// Begins to measure anew.
    pub(crate) fn measure(&mut self) {
        self.stats = PortStats::default();
    }

    pub(crate) fn is_busy(&self, now: Time) -> bool {
        now < self.busy_until
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.occupied == 0
    }

    /// Lets a packet wait.
    pub(crate) fn put<H: Copy>(&mut self, now: Time, id: PacketId, packets: &mut Packets<H>) {
        let route = packets.route_mut(id);
        route.queued_at = now;
        route.next = None;
        let bytes = u64::from(route.wire_bytes);
        let level = if self.fifo { 0 } else { usize::from(route.priority) % PRIORITIES };
        self.queues[level] = Some(match self.queues[level] {
            None => (id, id),
            Some((first, last)) => {
                packets.route_mut(last).next = Some(id);
                (first, id)
            }
        });
        self.occupied |= 1 << level;
        self.queued_bytes += bytes;
        self.stats.queued_bytes_max = self.stats.queued_bytes_max.max(self.queued_bytes);
    }

    /// The packet to send next: of the highest priority that has one.
    pub(crate) fn take<H: Copy>(&mut self, now: Time, packets: &Packets<H>) -> Option<PacketId> {
        let level = self.occupied.checked_ilog2()? as usize;
        let (first, last) = self.queues[level]?;
        let route = packets.route(first);
        self.queues[level] = route.next.map(|next| (next, last));
        if route.next.is_none() {
            self.occupied &= !(1 << level);
        }
        let bytes = u64::from(route.wire_bytes);
        self.queued_bytes -= bytes;
        let waited_ps = now.since(route.queued_at).as_ps();
        self.stats.queued_byte_ps += u128::from(bytes) * u128::from(waited_ps);
        Some(first)
    }

    /// Sends a packet from now on. Returns when it is out.
    pub(crate) fn transmit(&mut self, now: Time, packet: &Route) -> Time {
        let level = usize::from(packet.priority) % PRIORITIES;
        self.stats.sent_bytes[level] += u64::from(packet.wire_bytes);
        self.busy_until = now + self.rate.time(packet.wire_bytes, &mut self.rest);
        self.busy_until
    }
}
