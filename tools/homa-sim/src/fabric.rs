//! Hosts, switches and the ports between them: who is next on the way of a packet, and when.

mod memory;
mod port;
mod queue;
mod topology;

pub use memory::Buffer;
pub(crate) use port::Port;
pub use port::{PortKind, PortSummary, PortView};
pub use queue::{Discipline, Queues};
pub use topology::{Shape, Topology, TopologyError};

use crate::{
    calendar::Calendar,
    event::{Event, HostId, PacketId, PortId},
    fabric::{memory::Memory, queue::Queue},
    packet::{Delivered, Outgoing, Packets, Route, wire_bytes},
    time::{Span, Time},
};

/// Time of a packet beside the network.
pub const OUTSIDE: Span = Span::from_ns(1_000);

/// What a port leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Host(HostId),
    /// A switch of the rack.
    Rack(u32),
    /// A switch between racks.
    Spine(u32),
}

/// All ports, and the packets under way.
#[derive(Debug)]
pub(crate) struct Fabric<H> {
    topology: Topology,
    ports: Vec<Port>,
    /// By switch.
    memories: Vec<Memory>,
    packets: Packets<H>,
    spray: fastrand::Rng,
}

impl<H: Copy> Fabric<H> {
    /// The ports of a network, with the queues that its hosts need.
    pub(crate) fn new(topology: Topology, queues: Queues, seed: u64) -> Self {
        let mut ports = topology.ports();
        let spray = fastrand::Rng::with_seed(seed);
        let mut seeds = fastrand::Rng::with_seed(!seed);
        let ecn_bytes = topology.ecn_bytes.or(queues.ecn_bytes);
        // The ports of hosts come first.
        for (index, port) in ports.iter_mut().enumerate().skip(topology.hosts() as usize) {
            let queue = Queue::new(queues.discipline, seeds.u64(..));
            port.belongs_to(topology.switch_of(PortId(index as u32)), queue, ecn_bytes);
        }
        let memories = (0..topology.switches()).map(|_| Memory::new(topology.buffer)).collect();
        Self { topology, ports, memories, packets: Packets::new(), spray }
    }

    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Whether the NIC of a host is sending.
    pub(crate) fn is_busy(&self, host: HostId, now: Time) -> bool {
        self.ports[host.0 as usize].is_busy(now)
    }

    /// Takes a packet from its host, to the queue of the NIC or beside the network.
    pub(crate) fn send(
        &mut self,
        now: Time,
        from: HostId,
        packet: Outgoing<H>,
        calendar: &mut Calendar<Event>,
    ) {
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
            ecn: packet.ecn,
            marked: false,
            trimmed: false,
        };
        let id = self.packets.add(route, packet.message, packet.header);
        if packet.outside {
            calendar.add(now + OUTSIDE, Event::ArrivedOutside(id));
        } else {
            self.enqueue(now, port, id, calendar);
        }
    }

    /// A packet has come to the end of its link. Returns the host, if it is there.
    pub(crate) fn arrive(
        &mut self,
        now: Time,
        id: PacketId,
        calendar: &mut Calendar<Event>,
    ) -> Option<HostId> {
        let Route { port, to, .. } = *self.packets.route(id);
        let port = match self.ports[port.0 as usize].leads_to {
            Node::Host(host) => return Some(host),
            node => self.topology.next(node, to, &mut self.spray),
        };
        self.enqueue(now, port, id, calendar);
        None
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

    /// A port has sent a packet: the next one of its queue follows.
    pub(crate) fn freed(&mut self, now: Time, port: PortId, calendar: &mut Calendar<Event>) {
        let entry = &mut self.ports[port.0 as usize];
        let memory = self.memories.get_mut(entry.switch.0 as usize);
        if let Some(id) = entry.take(now, &self.packets, memory) {
            self.transmit(now, port, id, calendar);
        }
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
        let sent = entry.transmit(now, route);
        if entry.pulls || !entry.is_empty() {
            calendar.add(sent, Event::Freed(port));
        }
        calendar.add(sent + entry.delay, Event::Arrived(id));
    }

    /// Begins to measure anew.
    pub(crate) fn measure(&mut self) {
        self.ports.iter_mut().for_each(Port::measure);
    }

    /// What ports did in the time `span`, by kind.
    pub(crate) fn summary(&self, span: Span) -> Vec<PortSummary> {
        let mut kinds: Vec<PortSummary> = Vec::new();
        for (kind, port) in self.ports_by_kind() {
            match kinds.iter_mut().find(|summary| summary.kind == kind) {
                Some(summary) => summary.add(port),
                None => {
                    let mut summary = PortSummary::new(kind);
                    summary.add(port);
                    kinds.push(summary);
                }
            }
        }
        kinds.iter_mut().for_each(|summary| summary.over(span));
        kinds
    }

    /// What ports of a kind do now.
    pub(crate) fn views(&self, kind: PortKind) -> Vec<PortView> {
        let ports = self.ports_by_kind().filter(|(other, _)| *other == kind);
        let view = |(index, (kind, port)): (u32, (PortKind, &Port))| {
            let (queued_bytes, sent_bytes) = port.view();
            PortView { kind, index, queued_bytes, sent_bytes }
        };
        (0..).zip(ports).map(view).collect()
    }

    fn ports_by_kind(&self) -> impl Iterator<Item = (PortKind, &Port)> {
        let hosts = self.topology.hosts() as usize;
        self.ports.iter().enumerate().map(move |(index, port)| {
            let kind = match port.leads_to {
                _ if index < hosts => PortKind::HostUp,
                Node::Host(_) => PortKind::RackDown,
                Node::Spine(_) => PortKind::RackUp,
                Node::Rack(_) => PortKind::SpineDown,
            };
            (kind, port)
        })
    }
}
