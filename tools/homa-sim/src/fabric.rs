//! Hosts, switches and the ports between them: who is next on the way of a packet, and when.

mod port;
mod topology;

pub(crate) use port::Port;
pub use port::{PortKind, PortSummary};
pub use topology::{Shape, Topology, TopologyError};

use crate::{
    calendar::Calendar,
    event::{Event, HostId, PacketId, PortId},
    packet::{Packets, Route},
    time::{Span, Time},
};

/// What a port leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Host(HostId),
    /// A switch of the rack.
    Rack(u32),
    /// A switch between racks.
    Spine(u32),
}

/// All ports, and the packets in their queues.
#[derive(Debug)]
pub(crate) struct Fabric {
    topology: Topology,
    ports: Vec<Port>,
    spray: fastrand::Rng,
}

impl Fabric {
    pub(crate) fn new(topology: Topology, seed: u64) -> Self {
        let ports = topology.ports();
        Self { topology, ports, spray: fastrand::Rng::with_seed(seed) }
    }

    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Whether the card of a host is sending.
    pub(crate) fn is_busy(&self, host: HostId, now: Time) -> bool {
        self.ports[host.0 as usize].is_busy(now)
    }

    /// Puts a packet in the queue of its host's card.
    pub(crate) fn send<H: Copy>(
        &mut self,
        now: Time,
        id: PacketId,
        packets: &mut Packets<H>,
        calendar: &mut Calendar<Event>,
    ) {
        let port = PortId(packets.route(id).from.0);
        self.enqueue(now, port, id, packets, calendar);
    }

    /// A packet has come to the end of its link. Returns the host, if it is there.
    pub(crate) fn arrive<H: Copy>(
        &mut self,
        now: Time,
        id: PacketId,
        packets: &mut Packets<H>,
        calendar: &mut Calendar<Event>,
    ) -> Option<HostId> {
        let Route { port, to, .. } = *packets.route(id);
        let node = self.ports[port.0 as usize].leads_to;
        let port = match node {
            Node::Host(host) => return Some(host),
            node => self.topology.next(node, to, &mut self.spray),
        };
        self.enqueue(now, port, id, packets, calendar);
        None
    }

    /// A port has sent a packet: the next one of its queue follows.
    pub(crate) fn freed<H: Copy>(
        &mut self,
        now: Time,
        port: PortId,
        packets: &mut Packets<H>,
        calendar: &mut Calendar<Event>,
    ) {
        if let Some(id) = self.ports[port.0 as usize].take(now, packets) {
            self.transmit(now, port, id, packets, calendar);
        }
    }

    fn enqueue<H: Copy>(
        &mut self,
        now: Time,
        port: PortId,
        id: PacketId,
        packets: &mut Packets<H>,
        calendar: &mut Calendar<Event>,
    ) {
        let entry = &mut self.ports[port.0 as usize];
        if !entry.is_busy(now) && entry.is_empty() {
            return self.transmit(now, port, id, packets, calendar);
        }
        if entry.is_empty() && !entry.pulls {
            calendar.add(entry.busy_until, Event::Freed(port));
        }
        entry.put(now, id, packets);
    }

    fn transmit<H: Copy>(
        &mut self,
        now: Time,
        port: PortId,
        id: PacketId,
        packets: &mut Packets<H>,
        calendar: &mut Calendar<Event>,
    ) {
        let route = packets.route_mut(id);
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
        for (index, port) in self.ports.iter().enumerate() {
            let kind = match port.leads_to {
                _ if index < self.topology.hosts() as usize => PortKind::HostUp,
                Node::Host(_) => PortKind::RackDown,
                Node::Spine(_) => PortKind::RackUp,
                Node::Rack(_) => PortKind::SpineDown,
            };
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
}
