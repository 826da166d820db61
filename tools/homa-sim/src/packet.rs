//! Packets under way, in a pool: what every hop needs apart from what only the ends read.

use crate::{
    event::{HostId, MessageId, PacketId, PortId},
    time::{Rate, Span, Time},
};

/// Number of priorities, of packets and of queues.
pub const PRIORITIES: usize = 8;

/// Bytes of an Ethernet frame besides its IP packet: header and checksum.
const FRAME_BYTES: u32 = 14 + 4;
/// Bytes of the shortest frame.
const FRAME_BYTES_MIN: u32 = 64;
/// Bytes of time that a frame takes besides: preamble and gap.
const GAP_BYTES: u32 = 8 + 12;

/// Bytes of link time that an IP packet of this length takes.
pub(crate) const fn wire_bytes(ip_bytes: u32) -> u32 {
    let frame = ip_bytes + FRAME_BYTES;
    (if frame < FRAME_BYTES_MIN { FRAME_BYTES_MIN } else { frame }) + GAP_BYTES
}

/// How a transport divides messages into packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketSize {
    /// Longest IP packet.
    pub ip_bytes_max: u32,
    /// Headers of a packet of data, that of IP included.
    pub header_bytes: u32,
}

impl PacketSize {
    /// Most bytes of a message in a packet.
    pub const fn payload_max(&self) -> u32 {
        self.ip_bytes_max - self.header_bytes
    }

    /// Bytes of link time of a packet with so many bytes of a message.
    pub const fn wire_bytes(&self, payload: u32) -> u32 {
        wire_bytes(payload + self.header_bytes)
    }

    /// Number of packets of a message, at least one.
    pub const fn packets(&self, bytes: u32) -> u32 {
        let packets = bytes.div_ceil(self.payload_max());
        if packets == 0 { 1 } else { packets }
    }

    /// Bytes of a message in its packet `index`.
    pub fn payload(&self, bytes: u32, index: u32) -> u32 {
        let before = u64::from(index) * u64::from(self.payload_max());
        u64::from(bytes).saturating_sub(before).min(self.payload_max().into()) as u32
    }

    /// Length of the IP packet `index` of a message.
    pub fn ip_bytes(&self, bytes: u32, index: u32) -> u32 {
        self.header_bytes + self.payload(bytes, index)
    }

    /// Time of a message at a rate.
    pub fn message_time(&self, bytes: u32, rate: Rate) -> Span {
        let time = |payload| rate.time(self.wire_bytes(payload), &mut 0).as_ps();
        let (full, last) = (bytes / self.payload_max(), bytes % self.payload_max());
        let last = if last > 0 { time(last) } else { 0 };
        Span::from_ps(u64::from(full) * time(self.payload_max()) + last)
    }

    /// Bytes of link time of a message.
    pub fn message_wire_bytes(&self, bytes: u32) -> u64 {
        let (full, last) = (bytes / self.payload_max(), bytes % self.payload_max());
        let last = if last > 0 { self.wire_bytes(last) } else { 0 };
        u64::from(full) * u64::from(self.wire_bytes(self.payload_max())) + u64::from(last)
    }
}

/// A packet that a transport hands over.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<H> {
    /// Where to.
    pub to: HostId,
    /// Length of the IP packet.
    pub ip_bytes: u32,
    /// From 0, the lowest, to 7.
    pub priority: u8,
    /// Its place in queues by rank: the lowest leaves first, the highest is dropped first.
    pub rank: u32,
    /// Which packets to the same host go together: those of a flow take the same way where
    /// switches choose it by hash.
    pub flow: u32,
    /// Switches may mark it instead of dropping it (ECN).
    pub ecn: bool,
    /// The message whose bytes it carries.
    pub message: Option<MessageId>,
    /// It goes beside the network, in [`OUTSIDE`](crate::OUTSIDE), and loads no link.
    pub outside: bool,
    /// The transport's own header.
    pub header: H,
}

impl<H> Outgoing<H> {
    /// A packet without bytes of a message, of the lowest priority.
    pub const fn new(to: HostId, ip_bytes: u32, header: H) -> Self {
        Self {
            to,
            ip_bytes,
            priority: 0,
            rank: 0,
            flow: 0,
            ecn: false,
            message: None,
            outside: false,
            header,
        }
    }
}

impl<H> Outgoing<H> {
    /// The same with another header.
    pub(crate) fn map<G>(self, header: impl FnOnce(H) -> G) -> Outgoing<G> {
        Outgoing {
            to: self.to,
            ip_bytes: self.ip_bytes,
            priority: self.priority,
            rank: self.rank,
            flow: self.flow,
            ecn: self.ecn,
            message: self.message,
            outside: self.outside,
            header: header(self.header),
        }
    }
}

/// A packet that has arrived.
#[derive(Clone, Copy, Debug)]
pub struct Delivered<'a, H> {
    /// Where from.
    pub from: HostId,
    /// Its priority.
    pub priority: u8,
    /// A switch marked it: it met a long queue.
    pub marked: bool,
    /// A switch cut it down to its header.
    pub trimmed: bool,
    /// The message whose bytes it carries.
    pub message: Option<MessageId>,
    /// The transport's own header.
    pub header: &'a H,
}

impl<H> Delivered<'_, H> {
    /// The same with another header.
    pub(crate) fn with<'a, G>(&self, header: &'a G) -> Delivered<'a, G> {
        Delivered {
            from: self.from,
            priority: self.priority,
            marked: self.marked,
            trimmed: self.trimmed,
            message: self.message,
            header,
        }
    }
}

/// What hops need of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    /// When it was queued last.
    pub(crate) queued_at: Time,
    /// The next of its level, unless it is the last.
    pub(crate) next: PacketId,
    pub(crate) from: HostId,
    pub(crate) to: HostId,
    /// The port that it left last.
    pub(crate) port: PortId,
    pub(crate) wire_bytes: u32,
    pub(crate) flow: u32,
    pub(crate) rank: u32,
    pub(crate) priority: u8,
    pub(crate) ecn: Ecn,
    pub(crate) trimmed: bool,
    /// A switch that cuts through waits for the whole of it; `port` is the next one then.
    pub(crate) stored: bool,
}

/// Whether a packet can be marked, and was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ecn {
    Incapable,
    Capable,
    Marked,
}

/// Packets under way.
#[derive(Debug)]
pub(crate) struct Packets<H> {
    routes: Vec<Route>,
    contents: Vec<(Option<MessageId>, H)>,
    free: Vec<PacketId>,
}

impl<H: Copy> Packets<H> {
    pub(crate) fn new() -> Self {
        Self { routes: Vec::new(), contents: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn add(&mut self, route: Route, message: Option<MessageId>, header: H) -> PacketId {
        if let Some(id) = self.free.pop() {
            self.routes[id.0 as usize] = route;
            self.contents[id.0 as usize] = (message, header);
            return id;
        }
        let id = PacketId(u32::try_from(self.routes.len()).expect("at most 2^32 packets"));
        self.routes.push(route);
        self.contents.push((message, header));
        id
    }

    pub(crate) fn route(&self, id: PacketId) -> &Route {
        &self.routes[id.0 as usize]
    }

    pub(crate) fn route_mut(&mut self, id: PacketId) -> &mut Route {
        &mut self.routes[id.0 as usize]
    }

    pub(crate) fn delivered(&self, id: PacketId) -> Delivered<'_, H> {
        let route = self.route(id);
        let (message, header) = &self.contents[id.0 as usize];
        let Route { from, priority, ecn, trimmed, .. } = *route;
        let marked = ecn == Ecn::Marked;
        Delivered { from, priority, marked, trimmed, message: *message, header }
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn under_way(&self) -> usize {
        self.routes.len() - self.free.len()
    }

    pub(crate) fn remove(&mut self, id: PacketId) {
        self.free.push(id);
    }
}
