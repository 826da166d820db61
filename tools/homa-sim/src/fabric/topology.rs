//! Which hosts and switches there are, and which way packets go.

use std::{iter, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Buffer,
    faults::{Failure, Loss},
    graph::{Graph, Hop},
};
use crate::{
    event::HostId,
    packet::PacketSize,
    time::{Rate, Span},
};

/// How the switches are arranged.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// All hosts at one switch.
    SingleSwitch {
        /// Number of hosts.
        hosts: u32,
    },
    /// Racks of hosts, each with a switch that is connected to every switch of the spine.
    LeafSpine {
        /// Number of racks.
        racks: u32,
        /// Hosts of a rack.
        hosts_per_rack: u32,
        /// Switches of the spine.
        spines: u32,
    },
    /// Three tiers of switches with `k` ports each (Al-Fares et al., SIGCOMM 2008): `k` pods of
    /// `k / 2` edge switches and as many aggregation switches, connected by `(k / 2)^2` cores.
    FatTree {
        /// Ports of a switch: an even number.
        k: u32,
        /// Hosts of an edge switch: `k / 2` without oversubscription.
        hosts_per_edge: u32,
    },
    /// Any other network.
    Links(Arc<Graph>),
}

/// Which of several shortest ways a packet takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Routing {
    /// Any by chance, each packet by itself.
    #[default]
    Spray,
    /// That of its flow: by a hash of sender, receiver and flow (ECMP).
    Ecmp,
}

/// A network: shape, rates and delays.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    /// How the switches are arranged.
    pub shape: Shape,
    /// Rate of a host's link.
    pub host_rate: Rate,
    /// Rate of a link from the switches that have hosts to the next ones.
    pub spine_rate: Rate,
    /// Rate of a link from there to the cores of a fat tree.
    pub core_rate: Rate,
    /// Of every link, unless a network of links says other.
    pub propagation: Span,
    /// From the last bit of a packet until it is in the queue of its port, at every switch; from
    /// its first bytes where switches cut through.
    pub switch_delay: Span,
    /// Switches send a packet on when they know where to, instead of storing it first, unless the
    /// next link is faster than the one it comes by.
    pub cuts_through: bool,
    /// Which of several ways packets take.
    pub routing: Routing,
    /// From the transport to the NIC's first bit.
    pub send_delay: Span,
    /// From the last bit at a host to the transport.
    pub receive_delay: Span,
    /// How much the delays of hosts vary: they are log-normal with these means and this standard
    /// deviation of their logarithm. Packets do not overtake each other.
    pub delay_sigma: f64,
    /// The NIC asks the transport for a packet when it can send one; otherwise the transport hands
    /// packets over by its own clock, and they wait in the NIC's queue.
    pub nic_pulls: bool,
    /// A NIC that does not ask sends by strict priorities instead of first in, first out.
    pub nic_priorities: bool,
    /// How much may wait in a switch. Where the transport demands queues by rank or that trim,
    /// those have limits of their own instead.
    pub buffer: Buffer,
    /// Bytes of link time that wait at a port of a switch when packets are marked (ECN), instead
    /// of what the transport demands.
    pub ecn_bytes: Option<u32>,
    /// Packets that links lose.
    pub loss: Loss,
    /// Links that fail for a while.
    pub failures: Vec<Failure>,
    /// From the failure of a link, or its end, until all switches route accordingly.
    pub detection: Span,
}

/// A network that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// A message needs another host to go to: raise the number of hosts.
    #[error("a network has from 2 to 2^24 hosts, not {hosts}")]
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
    /// Half the ports of a switch lead up: give an even number.
    #[error("a fat tree has switches of an even number of ports, at least 2, not {k}")]
    #[non_exhaustive]
    FatTree {
        /// Ports of a switch.
        k: u32,
    },
    /// Its routes would take gigabytes: simulate fewer switches.
    #[error("a network of {switches} switches, most of them with hosts, is too large")]
    #[non_exhaustive]
    Switches {
        /// How many switches there would be.
        switches: usize,
    },
    /// A link names a switch that is not there: add it.
    #[error("a link from switch {} to {}, one of which is not there", .ends[0], .ends[1])]
    #[non_exhaustive]
    Link {
        /// Places of the switches.
        ends: [u32; 2],
    },
    /// A message between their hosts has no way to go: add a link.
    #[error("no links lead from {} to {}, which have hosts", .switches[0], .switches[1])]
    #[non_exhaustive]
    Apart {
        /// Names of the switches.
        switches: [String; 2],
    },
    /// A link is to fail that does not exist: see [`Failure`] for the names of switches.
    #[error("no link between {} and {} could fail", .switches[0], .switches[1])]
    #[non_exhaustive]
    Failure {
        /// Names of the switches.
        switches: [String; 2],
    },
    /// A part of packets is not from 0 to below 1, or not possible in bursts of this length.
    #[error(
        "lost is a part from 0 to below 1, at most burst / (burst + 1); bursts are of 1 or more"
    )]
    Loss,
    /// The factor of the free buffer is not above 0.
    #[error("alpha, the factor of the free buffer, must be above 0")]
    Alpha,
    /// The variation of delays is not from 0 to 3.
    #[error("the standard deviation of the logarithm of delays must be from 0 to 3")]
    Sigma,
}

impl TopologyError {
    pub(super) fn check_hosts(hosts: u64) -> Result<(), Self> {
        match (2..=HOSTS_MAX).contains(&hosts) {
            true => Ok(()),
            false => Err(Self::Hosts { hosts }),
        }
    }
}

/// Most hosts of a network: one gets an address of 10.0.0.0/8.
const HOSTS_MAX: u64 = 1 << 24;
/// Most ports of a switch of a fat tree: more make more routes than [`Graph`] takes.
const K_MAX: u32 = 128;
/// Most variation of delays: beyond it few runs have a delay that makes the mean.
const SIGMA_MAX: f64 = 3.0;

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
            core_rate: rate(40_000),
            propagation: Span::ZERO,
            switch_delay: Span::from_ns(250),
            cuts_through: false,
            routing: Routing::Spray,
            // Software, then the NIC.
            send_delay: Span::from_ns(500 + 500),
            receive_delay: Span::from_ns(500),
            delay_sigma: 0.0,
            nic_pulls: true,
            nic_priorities: false,
            buffer: Buffer::Unlimited,
            ecn_bytes: None,
            loss: Loss::default(),
            failures: Vec::new(),
            detection: Span::from_ns(1_000_000),
        }
    }

    /// Checks that there can be such a network.
    ///
    /// # Errors
    /// See [`TopologyError`].
    pub fn validate(&self) -> Result<(), TopologyError> {
        let edges = match self.shape {
            Shape::SingleSwitch { hosts } => (1, hosts),
            Shape::LeafSpine { racks, spines: 0, .. } => {
                return Err(TopologyError::Spine { racks });
            }
            Shape::LeafSpine { racks, hosts_per_rack, .. } => (racks, hosts_per_rack),
            Shape::FatTree { k, .. } if k < 2 || k % 2 > 0 || k > K_MAX => {
                return Err(TopologyError::FatTree { k });
            }
            Shape::FatTree { k, hosts_per_edge } => (k * k / 2, hosts_per_edge),
            Shape::Links(ref graph) => (1, graph.hosts()),
        };
        TopologyError::check_hosts(u64::from(edges.0) * u64::from(edges.1))?;
        if !self.loss.is_valid() {
            return Err(TopologyError::Loss);
        }
        if matches!(self.buffer, Buffer::Shared { alpha, .. } if alpha <= 0.0 || alpha.is_nan()) {
            return Err(TopologyError::Alpha);
        }
        if !(0.0..=SIGMA_MAX).contains(&self.delay_sigma) {
            return Err(TopologyError::Sigma);
        }
        self.graph().map(|_| ())
    }

    /// Its switches and links, of which those that are to fail exist.
    pub(super) fn graph(&self) -> Result<Graph, TopologyError> {
        let graph = Graph::of(self)?;
        for Failure { ends, .. } in &self.failures {
            if graph.links_named(ends).is_empty() {
                return Err(TopologyError::Failure { switches: ends.clone() });
            }
        }
        Ok(graph)
    }

    /// Number of hosts.
    pub fn hosts(&self) -> u32 {
        match self.shape {
            Shape::SingleSwitch { hosts } => hosts,
            Shape::LeafSpine { racks, hosts_per_rack, .. } => racks * hosts_per_rack,
            Shape::FatTree { k, hosts_per_edge } => k * (k / 2) * hosts_per_edge,
            Shape::Links(ref graph) => graph.hosts(),
        }
    }

    /// The links of a way between two hosts, the hosts' own apart.
    pub(super) fn path(&self, from: HostId, to: HostId) -> Vec<Hop> {
        let hop = |rate, width| Hop { rate, propagation: self.propagation, width };
        match self.shape {
            Shape::SingleSwitch { .. } => Vec::new(),
            Shape::LeafSpine { hosts_per_rack, spines, .. } => {
                match from.0 / hosts_per_rack == to.0 / hosts_per_rack {
                    true => Vec::new(),
                    false => vec![hop(self.spine_rate, spines); 2],
                }
            }
            Shape::FatTree { k, hosts_per_edge } => {
                let half = k / 2;
                let [a, b] = [from, to].map(|host| host.0 / hosts_per_edge);
                let spine = hop(self.spine_rate, half);
                let core = hop(self.core_rate, half * half);
                match (a == b, a / half == b / half) {
                    (true, _) => Vec::new(),
                    (_, true) => vec![spine; 2],
                    _ => vec![spine, core, core, spine],
                }
            }
            Shape::Links(ref graph) => graph.path(from, to),
        }
    }

    /// The time that a message takes on the idle network, from its first byte given to the sender's
    /// transport to its last one taken from the receiver's, in packets of such a size. Where
    /// software delays are drawn, their means count.
    pub fn idle_time(&self, from: HostId, to: HostId, bytes: u32, packet: &PacketSize) -> Span {
        let own = Hop { rate: self.host_rate, propagation: self.propagation, width: 1 };
        let hops = iter::once(own).chain(self.path(from, to)).chain(iter::once(own));
        let (full, rest) = (bytes / packet.payload_max(), bytes % packet.payload_max());
        let before = if rest > 0 { full } else { full.saturating_sub(1) };
        let full = packet.wire_bytes(packet.payload_max());
        let last = packet.wire_bytes(bytes - before * packet.payload_max());
        // From where the packets before the last one queue: the next can follow after that long.
        let mut slowest = 0;
        // When a link begins to send the packet before the last one, and the last one.
        let (mut previous, mut begin) = (0, 0);
        let mut into: Option<Hop> = None;
        for hop in hops {
            let ps = |bytes| hop.rate.time(bytes, &mut 0).as_ps();
            if let Some(into) = into {
                previous += self.until_sent_on(&into, &hop, full).as_ps();
                begin += self.until_sent_on(&into, &hop, last).as_ps();
            }
            if before > 0 {
                let interval = ps(full) / u64::from(if self.sprays() { hop.width } else { 1 });
                previous += (u64::from(before) - 1) * interval.saturating_sub(slowest);
                slowest = slowest.max(interval);
                begin = begin.max(previous + interval);
            }
            into = Some(hop);
        }
        let ends = self.send_delay + self.receive_delay + self.propagation;
        Span::from_ps(begin) + self.host_rate.time(last, &mut 0) + ends
    }

    /// The time from the begin of a packet on a link until the next one can begin to send it.
    fn until_sent_on(&self, into: &Hop, out: &Hop, bytes: u32) -> Span {
        let waits_for = match self.cuts_through && out.rate.mbps() <= into.rate.mbps() {
            true => HEAD_BYTES,
            false => bytes,
        };
        into.rate.time(waits_for, &mut 0) + into.propagation + self.switch_delay
    }

    fn sprays(&self) -> bool {
        self.routing == Routing::Spray
    }
}

/// Bytes of link time after which a switch that cuts through knows where a packet goes: preamble
/// and the length of the shortest frame.
pub(super) const HEAD_BYTES: u32 = 8 + 64;

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: PacketSize = PacketSize { ip_bytes_max: 1500, header_bytes: 80 };

    fn leaf_spine() -> Topology {
        let shape = Shape::LeafSpine { racks: 2, hosts_per_rack: 2, spines: 4 };
        Topology { shape, ..Topology::sigcomm18(1) }
    }

    /// Time of a full packet at 10 Gbit/s.
    const FULL_PS: u64 = 1538 * 800;

    /// In picoseconds, without the delays of hosts and switches.
    fn idle_ps(topology: Topology, to: u32, bytes: u32) -> u64 {
        let none = Span::ZERO;
        let topology =
            Topology { switch_delay: none, send_delay: none, receive_delay: none, ..topology };
        topology.idle_time(HostId(0), HostId(to), bytes, &SIZE).as_ps()
    }

    #[test]
    fn a_packet_is_sent_again_by_every_switch_that_stores_and_forwards() {
        assert_eq!(idle_ps(leaf_spine(), 1, 1420), 2 * FULL_PS);
        assert_eq!(idle_ps(leaf_spine(), 3, 1420), 2 * FULL_PS + 2 * FULL_PS / 4);
        // Of a second, short packet only the last link matters: 118 bytes of headers and 100.
        assert_eq!(idle_ps(leaf_spine(), 1, 1520), 2 * FULL_PS + 218 * 800);
    }

    #[test]
    fn a_packet_that_cuts_through_is_sent_once_besides_its_head() {
        let topology = || Topology { cuts_through: true, ..leaf_spine() };
        let head_ps = u64::from(HEAD_BYTES) * 800;
        assert_eq!(idle_ps(topology(), 1, 1420), head_ps + FULL_PS);
        // To a faster link it is stored; from there on only the head is.
        assert_eq!(idle_ps(topology(), 3, 1420), FULL_PS + 2 * head_ps / 4 + FULL_PS);
    }

    #[test]
    fn a_message_takes_the_time_of_its_slowest_link_unless_it_is_sprayed_over_several() {
        let slow = Rate::from_mbps(5_000).unwrap();
        let spray = Topology { spine_rate: slow, ..leaf_spine() };
        let ecmp = Topology { routing: Routing::Ecmp, ..spray.clone() };
        assert_eq!(idle_ps(spray, 3, 10 * 1420), 11 * FULL_PS + 2 * 2 * FULL_PS);
        assert_eq!(idle_ps(ecmp, 3, 10 * 1420), 2 * FULL_PS + 11 * 2 * FULL_PS);
    }

    #[test]
    fn networks_that_cannot_be_are_refused() {
        let with = |shape| Topology { shape, ..Topology::sigcomm18(1) }.validate().unwrap_err();
        assert_eq!(with(Shape::SingleSwitch { hosts: 1 }), TopologyError::Hosts { hosts: 1 });
        assert_eq!(
            with(Shape::LeafSpine { racks: 4096, hosts_per_rack: 4097, spines: 1 }),
            TopologyError::Hosts { hosts: 4096 * 4097 }
        );
        assert_eq!(
            with(Shape::LeafSpine { racks: 2, hosts_per_rack: 2, spines: 0 }),
            TopologyError::Spine { racks: 2 }
        );
        for k in [0, 5] {
            let shape = Shape::FatTree { k, hosts_per_edge: 2 };
            assert_eq!(with(shape), TopologyError::FatTree { k });
        }
        let alpha = Topology {
            buffer: Buffer::Shared { bytes: 1_000, alpha: 0.0 },
            ..Topology::sigcomm18(1)
        };
        assert_eq!(alpha.validate(), Err(TopologyError::Alpha));
        let loss = Loss { hosts: 1.0, ..Loss::default() };
        let loss = Topology { loss, ..Topology::sigcomm18(1) };
        assert_eq!(loss.validate(), Err(TopologyError::Loss));
        let failures = vec![Failure {
            ends: ["leaf0".to_owned(), "spine4".to_owned()],
            at: Span::ZERO,
            lasts: Span::ZERO,
        }];
        let failing = Topology { failures, ..leaf_spine() };
        let ends = failing.failures[0].ends.clone();
        assert_eq!(failing.validate(), Err(TopologyError::Failure { switches: ends }));
    }
}
