//! Links between hosts.

use std::collections::VecDeque;

use crate::dice::Dice;
use crate::driver::Packet;

/// Treatment of packets from one host to another. All chances are per packet, in a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkPlan {
    /// Time of flight in ns.
    pub delay_ns: u64,
    /// Added to it, uniformly between 0 and this, in ns: packets overtake each other.
    pub jitter_ns: u64,
    /// Chance of a spike.
    pub spike_ppm: u32,
    /// Added to the delay by a spike, in ns.
    pub spike_ns: u64,
    /// Chance to disappear.
    pub loss_ppm: u32,
    /// Chance to arrive twice, the second time after another delay.
    pub duplicate_ppm: u32,
    /// Longest IP packet that gets through, in bytes.
    pub mtu: u32,
    /// Whether the sender is told about packets that are too long.
    pub too_big_is_told: bool,
}

impl Default for LinkPlan {
    /// 5 µs without faults, MTU 1500.
    fn default() -> Self {
        Self {
            delay_ns: 5_000,
            jitter_ns: 0,
            spike_ppm: 0,
            spike_ns: 0,
            loss_ppm: 0,
            duplicate_ppm: 0,
            mtu: 1500,
            too_big_is_told: true,
        }
    }
}

impl LinkPlan {
    /// Time of flight of one packet.
    pub(crate) fn flight_ns(&self, dice: &mut Dice) -> u64 {
        let spike = if dice.hits_ppm(self.spike_ppm) { self.spike_ns } else { 0 };
        let jitter = if self.jitter_ns > 0 { dice.below(self.jitter_ns + 1) } else { 0 };
        self.delay_ns + jitter + spike
    }
}

/// The switch port in front of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortPlan {
    /// Speed in 10^6 bit/s; `None`: infinitely fast.
    pub mbps: Option<u32>,
    /// Bytes its queues hold together; more is dropped.
    pub buffer_bytes: u64,
}

impl Default for PortPlan {
    fn default() -> Self {
        Self { mbps: None, buffer_bytes: 1 << 20 }
    }
}

/// Eight queues, the highest first; a packet's queue is the class selector of its DSCP.
#[derive(Debug, Default)]
pub(crate) struct Port {
    queues: [VecDeque<Packet>; 8],
    bytes: u64,
    pub(crate) busy: bool,
}

impl Port {
    /// `false`: the buffer is full and the packet gone.
    pub(crate) fn push(&mut self, packet: Packet, plan: &PortPlan) -> bool {
        let bytes = packet.wire_bytes();
        if self.bytes + bytes > plan.buffer_bytes {
            return false;
        }
        self.bytes += bytes;
        let level = usize::from(packet.meta.dscp >> 3) & 7;
        self.queues[level].push_back(packet);
        true
    }

    /// The next packet to leave.
    pub(crate) fn pop(&mut self) -> Option<Packet> {
        let packet = self.queues.iter_mut().rev().find_map(VecDeque::pop_front)?;
        self.bytes -= packet.wire_bytes();
        Some(packet)
    }
}

/// Time that `bytes` take on a line of `mbps`.
pub(crate) fn serialisation_ns(bytes: u64, mbps: u32) -> u64 {
    bytes * 8_000 / u64::from(mbps.max(1))
}
