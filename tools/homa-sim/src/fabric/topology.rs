//! Which hosts and switches there are, and which way packets go.

use super::{Buffer, Node, Port};
use crate::{
    event::{HostId, PortId, SwitchId},
    packet::PacketSize,
    time::{Rate, Span},
};

/// How the switches are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All hosts at one switch.
    SingleSwitch {
        /// Number of hosts.
        hosts: u32,
    },
    /// Racks of hosts, each with a switch that is connected to every switch of the spine. Packets
    /// take one of them at random, each by itself.
    LeafSpine {
        /// Number of racks.
        racks: u32,
        /// Hosts of a rack.
        hosts_per_rack: u32,
        /// Switches of the spine.
        spines: u32,
    },
}

/// A network: shape, rates and delays. Switches store and forward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Topology {
    /// How the switches are arranged.
    pub shape: Shape,
    /// Rate of a host's link.
    pub host_rate: Rate,
    /// Rate of a link between switches.
    pub spine_rate: Rate,
    /// Of every link.
    pub propagation: Span,
    /// From the last bit of a packet until it is in the queue of its port, at every switch.
    pub switch_delay: Span,
    /// From the transport to the NIC's first bit.
    pub send_delay: Span,
    /// From the last bit at a host to the transport.
    pub receive_delay: Span,
    /// The NIC asks the transport for a packet when it can send one; otherwise the transport hands
    /// packets over by its own clock, and they wait in the NIC's queue.
    pub nic_pulls: bool,
    /// How much may wait in a switch. Where the transport demands queues by rank or that trim,
    /// those have limits of their own instead.
    pub buffer: Buffer,
    /// Bytes of link time that wait at a port of a switch when packets are marked (ECN), instead
    /// of what the transport demands.
    pub ecn_bytes: Option<u32>,
}

/// A network that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// A message needs another host to go to: raise the number of hosts.
    #[error("a network has at least 2 hosts, not {hosts}")]
    #[non_exhaustive]
    Hosts {
        /// How many there would be.
        hosts: u64,
    },
    /// Racks need a spine between them: raise the number of its switches.
    #[error("{racks} racks need at least one switch between them")]
    #[non_exhaustive]
    Spine {
        /// How many racks there are.
        racks: u32,
    },
}

/// Most hosts of a network: one gets an address of 10.0.0.0/8.
const HOSTS_MAX: u64 = 1 << 24;

impl Topology {
    /// The network of the SIGCOMM 2018 evaluation, with so many racks of 16 hosts (9 there).
    ///
    /// 10 Gbit/s to the hosts, four switches between the racks at 40 Gbit/s.
    pub fn sigcomm18(racks: u32) -> Self {
        let rate = |mbps| Rate::from_mbps(mbps).expect("not 0");
        let shape = match racks {
            1 => Shape::SingleSwitch { hosts: 16 },
            racks => Shape::LeafSpine { racks, hosts_per_rack: 16, spines: 4 },
        };
        Self {
            shape,
            host_rate: rate(10_000),
            spine_rate: rate(40_000),
            propagation: Span::ZERO,
            switch_delay: Span::from_ns(250),
            // Software, then the NIC.
            send_delay: Span::from_ns(500 + 500),
            receive_delay: Span::from_ns(500),
            nic_pulls: true,
            buffer: Buffer::Unlimited,
            ecn_bytes: None,
        }
    }

    /// Checks that there can be such a network.
    ///
    /// # Errors
    /// See [`TopologyError`].
    pub fn validate(&self) -> Result<(), TopologyError> {
        let hosts = match self.shape {
            Shape::SingleSwitch { hosts } => u64::from(hosts),
            Shape::LeafSpine { racks, hosts_per_rack, .. } => {
                u64::from(racks) * u64::from(hosts_per_rack)
            }
        };
        if !(2..=HOSTS_MAX).contains(&hosts) {
            return Err(TopologyError::Hosts { hosts });
        }
        match self.shape {
            Shape::LeafSpine { racks, spines: 0, .. } => Err(TopologyError::Spine { racks }),
            _ => Ok(()),
        }
    }

    /// Number of hosts.
    pub fn hosts(&self) -> u32 {
        match self.shape {
            Shape::SingleSwitch { hosts } => hosts,
            Shape::LeafSpine { racks, hosts_per_rack, .. } => racks * hosts_per_rack,
        }
    }

    /// The rack that a host is in.
    fn rack(&self, host: HostId) -> u32 {
        match self.shape {
            Shape::SingleSwitch { .. } => 0,
            Shape::LeafSpine { hosts_per_rack, .. } => host.0 / hosts_per_rack,
        }
    }

    /// All ports: those of the hosts, those of the racks to their hosts, those of the racks to the
    /// spine, those of the spine.
    pub(crate) fn ports(&self) -> Vec<Port> {
        let hosts = || (0..self.hosts()).map(HostId);
        let to_switch = self.propagation + self.switch_delay;
        let up = hosts().map(|host| {
            let delay = self.send_delay + to_switch;
            let mut port = Port::new(Node::Rack(self.rack(host)), self.host_rate, delay);
            (port.pulls, port.fifo) = (self.nic_pulls, !self.nic_pulls);
            port
        });
        let to_host = self.propagation + self.receive_delay;
        let down = hosts().map(|host| Port::new(Node::Host(host), self.host_rate, to_host));
        let mut ports: Vec<_> = up.chain(down).collect();
        if let Shape::LeafSpine { racks, spines, .. } = self.shape {
            let spine = |node| Port::new(node, self.spine_rate, to_switch);
            ports.extend((0..racks * spines).map(|index| spine(Node::Spine(index % spines))));
            ports.extend((0..spines * racks).map(|index| spine(Node::Rack(index % racks))));
        }
        ports
    }

    /// Number of switches: those of the racks come first.
    pub(crate) fn switches(&self) -> u32 {
        match self.shape {
            Shape::SingleSwitch { .. } => 1,
            Shape::LeafSpine { racks, spines, .. } => racks + spines,
        }
    }

    /// The switch that a port belongs to, which is not a host's.
    pub(crate) fn switch_of(&self, port: PortId) -> SwitchId {
        let port = port.0 - self.hosts();
        SwitchId(match self.shape {
            _ if port < self.hosts() => self.rack(HostId(port)),
            Shape::SingleSwitch { .. } => 0,
            Shape::LeafSpine { racks, spines, .. } => match port - self.hosts() {
                up if up < racks * spines => up / spines,
                down => racks + (down - racks * spines) / racks,
            },
        })
    }

    /// The port by which a packet leaves a switch.
    pub(crate) fn next(&self, node: Node, to: HostId, spray: &mut fastrand::Rng) -> PortId {
        let hosts = self.hosts();
        match (self.shape, node) {
            (Shape::LeafSpine { racks, spines, .. }, Node::Spine(spine)) => {
                PortId(2 * hosts + racks * spines + spine * racks + self.rack(to))
            }
            (Shape::LeafSpine { spines, .. }, Node::Rack(rack)) if rack != self.rack(to) => {
                PortId(2 * hosts + rack * spines + spray.u32(..spines))
            }
            _ => PortId(hosts + to.0),
        }
    }

    /// The time that a message takes on the idle network, from its first byte given to the sender's
    /// transport to its last one taken from the receiver's, in packets of such a size.
    pub fn idle_time(&self, from: HostId, to: HostId, bytes: u32, packet: &PacketSize) -> Span {
        let host = |bytes| self.host_rate.time(bytes, &mut 0).as_ps();
        let spine = |bytes| self.spine_rate.time(bytes, &mut 0).as_ps();
        let first = packet.wire_bytes(bytes.min(packet.payload_max()));
        let (full, last) = (bytes / packet.payload_max(), bytes % packet.payload_max());
        let own = u64::from(full) * host(packet.wire_bytes(packet.payload_max()))
            + if last > 0 { host(packet.wire_bytes(last)) } else { 0 };
        let ends = self.send_delay.as_ps() + self.receive_delay.as_ps();
        let hop = self.switch_delay.as_ps() + self.propagation.as_ps();
        let same = hop + self.propagation.as_ps() + host(first);
        let apart = if self.rack(from) == self.rack(to) { 0 } else { 2 * (hop + spine(first)) };
        Span::from_ps(own + ends + same + apart)
    }
}
