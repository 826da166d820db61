//! Hosts, switches and the ports between them: who is next on the way of a packet, and when.

mod faults;
mod graph;
mod jitter;
mod memory;
mod port;
mod queue;
mod topology;

use std::sync::Arc;

pub use faults::{Failure, Loss};
pub use graph::{Graph, Link, Switch};
pub use memory::{Buffer, SwitchSummary};
pub(crate) use port::Port;
pub use port::{PortKind, PortSummary, PortView};
pub use queue::{Discipline, Queues};
pub use topology::{Routing, Shape, Topology, TopologyError};

use crate::{
    calendar::Calendar,
    event::{Event, HostId, PacketId, PortId, SwitchId},
    fabric::{faults::Losses, graph::Routes, memory::Memory, queue::Queue, topology::HEAD_BYTES},
    packet::{Delivered, Ecn, Outgoing, Packets, Route, wire_bytes},
    time::{Span, Time},
};

/// Time of a packet beside the network.
pub const OUTSIDE: Span = Span::from_ns(1_000);

/// What a port leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Host(HostId),
    Switch(SwitchId),
}

/// All ports, and the packets under way.
#[derive(Debug)]
pub(crate) struct Fabric<H> {
    topology: Topology,
    graph: Graph,
    /// Those that switches know of.
    routes: Arc<Routes>,
    /// Of hosts, to hosts, then both ends of each link.
    ports: Vec<Port>,
    /// By switch.
    memories: Vec<Memory>,
    packets: Packets<H>,
    spray: fastrand::Rng,
    changes: Vec<Change>,
    /// Links that switches know to be dead; once for each failure that lasts.
    dead: Vec<usize>,
}

/// A link fails or is mended, or switches learn of it.
#[derive(Clone, Debug)]
struct Change {
    /// From the begin of the load.
    after: Span,
    links: Vec<usize>,
    fails: bool,
    learnt: bool,
}

impl<H: Copy> Fabric<H> {
    /// The ports of a network, with the queues that its hosts need.
    pub(crate) fn new(
        topology: Topology,
        queues: Queues,
        seed: u64,
    ) -> Result<Self, TopologyError> {
        let graph = topology.graph()?;
        let memories = (0..graph.switches()).map(|_| Memory::new(topology.buffer)).collect();
        Ok(Self {
            ports: ports(&topology, &graph, queues, seed),
            memories,
            packets: Packets::new(),
            spray: fastrand::Rng::with_seed(seed),
            changes: changes(&topology, &graph),
            dead: Vec::new(),
            routes: graph.routes(),
            graph,
            topology,
        })
    }

    /// When links fail or are mended, or switches learn of it, from the begin of the load.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Span> + '_ {
        self.changes.iter().map(|change| change.after)
    }

    /// Changes the network.
    pub(crate) fn change(&mut self, change: u32) {
        let Change { links, fails, learnt, .. } = &self.changes[change as usize];
        for link in links {
            match (fails, learnt) {
                (true, true) => self.dead.push(*link),
                (false, true) => {
                    let place = self.dead.iter().position(|dead| dead == link);
                    place.map(|place| self.dead.swap_remove(place));
                }
                _ => {
                    for end in 0..2 {
                        let port = &mut self.ports[self.graph.port(*link, end).0 as usize];
                        port.failures = if *fails { port.failures + 1 } else { port.failures - 1 };
                    }
                }
            }
        }
        if *learnt {
            self.routes = Arc::new(self.graph.routes_without(&self.dead));
        }
    }

    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Whether the NIC of a host is sending.
    pub(crate) fn is_busy(&self, host: HostId, now: Time) -> bool {
        self.ports[host.0 as usize].is_busy(now)
    }

    /// Bytes that have not left the NIC of a host.
    pub(crate) fn backlog_bytes(&self, host: HostId, now: Time) -> u64 {
        self.ports[host.0 as usize].backlog_bytes(now)
    }

    /// Takes a packet from its host, to the queue of the NIC or beside the network.
    pub(crate) fn send(
        &mut self,
        now: Time,
        from: HostId,
        packet: Outgoing<H>,
        calendar: &mut Calendar<Event>,
    ) -> PacketId {
        let port = PortId(from.0);
        let route = Route {
            queued_at: now,
            next: PacketId(0),
            from,
            to: packet.to,
            port,
            wire_bytes: wire_bytes(packet.ip_bytes),
            flow: packet.flow,
            rank: packet.rank,
            priority: packet.priority,
            ecn: if packet.ecn { Ecn::Capable } else { Ecn::Incapable },
            trimmed: false,
            stored: false,
        };
        let id = self.packets.add(route, packet.message, packet.header);
        if packet.outside {
            calendar.add(now + OUTSIDE, Event::ArrivedOutside(id));
        } else {
            self.enqueue(now, port, id, calendar);
        }
        id
    }

    /// A packet has come to the end of its link. Returns the host, if it is there.
    pub(crate) fn arrive(
        &mut self,
        now: Time,
        id: PacketId,
        calendar: &mut Calendar<Event>,
    ) -> Option<HostId> {
        let route = self.packets.route_mut(id);
        if route.stored {
            route.stored = false;
            let port = route.port;
            self.enqueue(now, port, id, calendar);
            return None;
        }
        let entry = &mut self.ports[route.port.0 as usize];
        if entry.loses() {
            entry.lost(route);
            self.packets.remove(id);
            return None;
        }
        let switch = match entry.leads_to {
            Node::Host(host) => return Some(host),
            Node::Switch(switch) => switch,
        };
        let comes_at = entry.rate;
        let Some(port) = self.next(switch, id) else {
            let route = self.packets.route(id);
            self.ports[route.port.0 as usize].lost(route);
            self.packets.remove(id);
            return None;
        };
        let leaves_at = self.ports[port.0 as usize].rate;
        if self.topology.cuts_through && leaves_at.mbps() > comes_at.mbps() {
            let route = self.packets.route_mut(id);
            (route.stored, route.port) = (true, port);
            let rest = comes_at.time(route.wire_bytes - HEAD_BYTES, &mut 0);
            calendar.add(now + rest, Event::Arrived(id));
            return None;
        }
        self.enqueue(now, port, id, calendar);
        None
    }

    /// The port by which a packet leaves a switch; none if there is no way.
    fn next(&mut self, at: SwitchId, id: PacketId) -> Option<PortId> {
        let Route { from, to, flow, .. } = *self.packets.route(id);
        if self.graph.switch_of(to) == at {
            return Some(PortId(self.graph.hosts() + to.0));
        }
        let ports = self.routes.ports(at, to);
        Some(match (ports, self.topology.routing) {
            ([], _) => return None,
            ([port], _) => *port,
            (ports, Routing::Spray) => ports[self.spray.u32(..ports.len() as u32) as usize],
            (ports, Routing::Ecmp) => ports[hash(from, to, flow, at) as usize % ports.len()],
        })
    }

    /// The receiver of a packet.
    pub(crate) fn receiver(&self, id: PacketId) -> HostId {
        self.packets.route(id).to
    }

    /// What a host gets that a packet has come to.
    pub(crate) fn delivered(&self, id: PacketId) -> Delivered<'_, H> {
        self.packets.delivered(id)
    }

    /// Forgets a packet that was delivered.
    pub(crate) fn forget(&mut self, id: PacketId) {
        self.packets.remove(id);
    }

    /// A port has sent a packet: the next one of its queue follows, which is returned.
    pub(crate) fn freed(
        &mut self,
        now: Time,
        port: PortId,
        calendar: &mut Calendar<Event>,
    ) -> Option<PacketId> {
        let entry = &mut self.ports[port.0 as usize];
        let memory = self.memories.get_mut(entry.switch.0 as usize);
        let id = entry.take(now, &self.packets, memory)?;
        self.transmit(now, port, id, calendar);
        Some(id)
    }

    /// Since when a packet was in the queue that it was in last, and at which kind of port.
    pub(crate) fn queued(&self, id: PacketId) -> (Time, PortKind) {
        let route = self.packets.route(id);
        (route.queued_at, self.ports[route.port.0 as usize].kind)
    }

    fn enqueue(&mut self, now: Time, port: PortId, id: PacketId, calendar: &mut Calendar<Event>) {
        let entry = &mut self.ports[port.0 as usize];
        let was_empty = entry.is_empty();
        if was_empty && !entry.is_busy(now) {
            return self.transmit(now, port, id, calendar);
        }
        let memory = self.memories.get_mut(entry.switch.0 as usize);
        entry.put(now, id, &mut self.packets, memory);
        if was_empty && !entry.is_empty() && !entry.pulls {
            calendar.add(entry.busy_until, Event::Freed(port));
        }
    }

    fn transmit(&mut self, now: Time, port: PortId, id: PacketId, calendar: &mut Calendar<Event>) {
        let route = self.packets.route_mut(id);
        route.port = port;
        let entry = &mut self.ports[port.0 as usize];
        let (sent, arrives) = entry.transmit(now, route);
        if entry.pulls || !entry.is_empty() {
            calendar.add(sent, Event::Freed(port));
        }
        calendar.add(arrives, Event::Arrived(id));
    }

    /// Begins to measure anew.
    pub(crate) fn measure(&mut self, now: Time) {
        self.ports.iter_mut().for_each(Port::measure);
        self.memories.iter_mut().for_each(|memory| memory.measure(now));
    }

    /// What waited in switches in the time `span` up to now, by tier.
    pub(crate) fn switch_summary(&self, now: Time, span: Span) -> Vec<SwitchSummary> {
        let tier = |switch: usize| self.graph.tier(SwitchId(switch as u32));
        let tiers = (0..self.memories.len()).map(tier).max().unwrap_or(0);
        let of_tier = |wanted| {
            let memories = self.memories.iter().enumerate();
            let memories = memories.filter(move |(switch, _)| tier(*switch) == wanted);
            SwitchSummary::of(wanted, now, span, memories.map(|(_, memory)| memory))
        };
        (0..=tiers).map(of_tier).collect()
    }

    /// What ports did in the time `span`, by kind.
    pub(crate) fn summary(&self, span: Span) -> Vec<PortSummary> {
        let mut kinds: Vec<PortSummary> = Vec::new();
        for port in &self.ports {
            match kinds.iter_mut().find(|summary| summary.kind == port.kind) {
                Some(summary) => summary.add(port),
                None => {
                    let mut summary = PortSummary::new(port.kind);
                    summary.add(port);
                    kinds.push(summary);
                }
            }
        }
        kinds.iter_mut().for_each(|summary| summary.over(span));
        kinds
    }

    /// Bytes of link time that the port to a host has sent since ports are measured.
    pub(crate) fn carried(&self, to: HostId) -> u64 {
        self.ports[(self.topology.hosts() + to.0) as usize].view().1
    }

    /// What ports of a kind do now.
    pub(crate) fn views(&self, kind: PortKind) -> Vec<PortView> {
        let ports = self.ports.iter().filter(|port| port.kind == kind);
        let view = |(index, port): (u32, &Port)| {
            let (queued_bytes, sent_bytes) = port.view();
            PortView { kind, index, rate: port.rate, queued_bytes, sent_bytes }
        };
        (0..).zip(ports).map(view).collect()
    }
}

/// Which of several ways a flow takes at a switch: the same each time (ECMP).
fn hash(from: HostId, to: HostId, flow: u32, at: SwitchId) -> u32 {
    let ends = u64::from(from.0) << 32 | u64::from(to.0);
    let rest = u64::from(flow) << 32 | u64::from(at.0);
    // The finalizer of SplitMix64, for each half.
    let mix = |value: u64| {
        let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    };
    (mix(mix(ends) ^ rest.wrapping_add(0x9e37_79b9_7f4a_7c15)) >> 32) as u32
}

/// The ports of a network: those of the hosts, those to the hosts, both ends of each link.
fn ports(topology: &Topology, graph: &Graph, queues: Queues, seed: u64) -> Vec<Port> {
    let Topology { host_rate, propagation, switch_delay, loss, .. } = *topology;
    let mut seeds = fastrand::Rng::with_seed(!seed);
    let ecn_bytes = topology.ecn_bytes.or(queues.ecn_bytes);
    let to_switch = propagation + switch_delay;
    let mut ports = Vec::new();
    for host in (0..graph.hosts()).map(HostId) {
        let switch = Node::Switch(graph.switch_of(host));
        let mut port = Port::new(PortKind::HostUp, switch, host_rate, to_switch);
        (port.pulls, port.fifo) = (topology.nic_pulls, !topology.nic_priorities);
        port.cuts_through = topology.cuts_through;
        port.losses = Losses::new(loss.hosts, loss.burst, seeds.u64(..));
        port.vary(topology.send_delay, topology.delay_sigma, seeds.u64(..));
        ports.push(port);
    }
    for host in (0..graph.hosts()).map(HostId) {
        let mut port = Port::new(PortKind::RackDown, Node::Host(host), host_rate, propagation);
        let queue = Queue::new(queues.discipline, seeds.u64(..));
        port.belongs_to(graph.switch_of(host), queue, ecn_bytes);
        port.losses = Losses::new(loss.hosts, loss.burst, seeds.u64(..));
        port.vary(topology.receive_delay, topology.delay_sigma, seeds.u64(..));
        ports.push(port);
    }
    for link in graph.links() {
        let ends = link.ends.map(SwitchId);
        for [from, to] in [ends, [ends[1], ends[0]]] {
            let kind = PortKind::between(graph.tier(from), graph.tier(to));
            let delay = link.propagation + switch_delay;
            let mut port = Port::new(kind, Node::Switch(to), link.rate, delay);
            let queue = Queue::new(queues.discipline, seeds.u64(..));
            port.belongs_to(from, queue, ecn_bytes);
            port.cuts_through = topology.cuts_through;
            port.losses = Losses::new(loss.switches, loss.burst, seeds.u64(..));
            ports.push(port);
        }
    }
    ports
}

/// What happens to links, in the order of time.
fn changes(topology: &Topology, graph: &Graph) -> Vec<Change> {
    let mut changes = Vec::new();
    for Failure { ends, at, lasts } in &topology.failures {
        let links = graph.links_named(ends);
        for (after, fails) in [(*at, true), (*at + *lasts, false)] {
            let change = |after, learnt| Change { after, links: links.clone(), fails, learnt };
            changes.push(change(after, false));
            changes.push(change(after + topology.detection, true));
        }
    }
    changes.sort_by_key(|change| change.after);
    changes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shapes() -> impl Strategy<Value = Shape> {
        prop_oneof![
            (2_u32..9).prop_map(|hosts| Shape::SingleSwitch { hosts }),
            (1_u32..4, 2_u32..5, 1_u32..4).prop_map(|(racks, hosts_per_rack, spines)| {
                Shape::LeafSpine { racks, hosts_per_rack, spines }
            }),
            (1_u32..3, 1_u32..4)
                .prop_map(|(half, hosts)| Shape::FatTree { k: 2 * half, hosts_per_edge: hosts }),
        ]
    }

    fn disciplines() -> impl Strategy<Value = Discipline> {
        let trimming =
            Discipline::Trimming { data_packets: 3, header_packets: 20, trimmed_ip_bytes: 46 };
        prop_oneof![
            Just(Discipline::Priorities),
            Just(Discipline::Ranked { bytes_max: 5_000 }),
            Just(trimming),
        ]
    }

    fn buffers() -> impl Strategy<Value = Buffer> {
        prop_oneof![
            Just(Buffer::Unlimited),
            Just(Buffer::PerPort { bytes: 4_000 }),
            Just(Buffer::Shared { bytes: 9_000, alpha: 0.5 }),
        ]
    }

    /// A packet that a host sends.
    type Sent = (u32, u32, u32, u8);

    fn send(fabric: &mut Fabric<()>, calendar: &mut Calendar<Event>, sent: &[Sent]) -> u64 {
        let hosts = fabric.topology().hosts();
        let mut bytes = 0;
        for (from, apart, ip_bytes, priority) in sent {
            let (from, to) =
                (HostId(from % hosts), HostId((from + 1 + apart % (hosts - 1)) % hosts));
            bytes += u64::from(wire_bytes(*ip_bytes));
            let packet = Outgoing {
                to,
                ip_bytes: *ip_bytes,
                priority: *priority,
                rank: *ip_bytes,
                flow: *apart,
                ecn: true,
                message: None,
                outside: false,
                header: (),
            };
            fabric.send(Time::ZERO, from, packet, calendar);
        }
        bytes
    }

    proptest! {
        #[test]
        fn what_is_sent_is_delivered_dropped_cut_off_or_lost_and_nothing_else(
            shape in shapes(),
            discipline in disciplines(),
            buffer in buffers(),
            cuts_through in any::<bool>(),
            ecmp in any::<bool>(),
            lossy in any::<bool>(),
            sent in proptest::collection::vec(
                (0_u32..64, 0_u32..64, 46_u32..1500, 0_u8..8),
                1..200,
            ),
        ) {
            let part = if lossy { 0.1 } else { 0.0 };
            let topology = Topology {
                shape,
                buffer,
                cuts_through,
                routing: if ecmp { Routing::Ecmp } else { Routing::Spray },
                loss: Loss { hosts: part, switches: part, burst: None },
                nic_pulls: false,
                ..Topology::sigcomm18(1)
            };
            let queues = Queues { discipline, ecn_bytes: Some(1_000) };
            let mut fabric: Fabric<()> = Fabric::new(topology, queues, 1).unwrap();
            let mut calendar = Calendar::new(Span::from_ns(16), Span::ZERO);
            let bytes = send(&mut fabric, &mut calendar, &sent);
            let (mut delivered, mut delivered_bytes) = (0, 0);
            while let Some((now, event)) = calendar.next_until(Time::NEVER) {
                match event {
                    Event::Arrived(id) => {
                        let Some(host) = fabric.arrive(now, id, &mut calendar) else { continue };
                        prop_assert_eq!(host, fabric.receiver(id));
                        delivered += 1;
                        delivered_bytes += u64::from(fabric.packets.route(id).wire_bytes);
                        fabric.forget(id);
                    }
                    Event::Freed(port) => drop(fabric.freed(now, port, &mut calendar)),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            let summaries = fabric.summary(Span::from_ns(1));
            let sum = |of: fn(&PortSummary) -> u64| summaries.iter().map(of).sum::<u64>();
            let dropped = sum(|port| port.dropped_packets);
            let lost = sum(|port| port.lost_packets);
            prop_assert_eq!(delivered + dropped + lost, sent.len() as u64);
            let gone = sum(|port| port.dropped_bytes + port.trimmed_bytes + port.lost_bytes);
            prop_assert_eq!(delivered_bytes + gone, bytes);
            prop_assert!(lossy || lost == 0);
            // Nothing waits any more, and nothing is remembered.
            prop_assert!(fabric.ports.iter().all(Port::is_empty));
            prop_assert!(fabric.memories.iter().all(|memory| memory.used_bytes() == 0));
            prop_assert_eq!(fabric.packets.under_way(), 0);
        }
    }

    #[test]
    fn packets_of_a_flow_take_one_way_by_hash_and_all_ways_when_they_are_sprayed() {
        let ways = |routing, flows: u32| {
            let shape = Shape::LeafSpine { racks: 2, hosts_per_rack: 2, spines: 4 };
            let topology = Topology { shape, routing, ..Topology::sigcomm18(1) };
            let mut fabric: Fabric<()> = Fabric::new(topology, Queues::default(), 1).unwrap();
            let mut calendar = Calendar::new(Span::from_ns(16), Span::ZERO);
            let sent: Vec<Sent> =
                (0..200).map(|index| (0, 1 + 3 * (index % flows), 100, 0)).collect();
            send(&mut fabric, &mut calendar, &sent);
            let mut ways = Vec::new();
            for id in (0..200).map(PacketId) {
                ways.push(fabric.next(SwitchId(0), id).unwrap());
            }
            ways.sort_unstable();
            ways.dedup();
            ways.len()
        };
        assert_eq!(ways(Routing::Ecmp, 1), 1);
        assert_eq!(ways(Routing::Ecmp, 50), 4);
        assert_eq!(ways(Routing::Spray, 1), 4);
    }
}
