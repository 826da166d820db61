//! TCP and DCTCP: a model of segments and states, without payload.
//!
//! Connections are those of RFC 9293, with the seven timers of RFC 1122, SYN cookies (RFC 4987),
//! selective acknowledgements (RFC 2018, 6675, and RACK for what is lost twice), and NewReno, CUBIC
//! (RFC 9438) or DCTCP (RFC 8257). Settings are those of Linux.
//!
//! It is not smoltcp's (0.14), which is maintained and needs no sockets either: that has no SACK to
//! send by (after a loss it goes back and sends all again), no ECN and so no DCTCP, no SYN cookies,
//! no end of FIN_WAIT_2, a timeout of at least one second that counts whole milliseconds, and
//! copies payload, of which there is none here.
//!
//! What is left out: Nagle's algorithm (applications of messages switch it off), the tail loss
//! probe (RFC 8985 §7), HyStart, undo of false retransmissions, urgent data, path MTU discovery,
//! receive windows that grow, opening from both ends at once. A segment ends where a message does.

mod congestion;
mod connection;
mod interrupts;
mod listener;
mod receiver;
mod sack;
mod segment;
mod sender;
mod settings;
#[cfg(test)]
mod tests;
mod timers;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
};

pub use segment::Segment;
pub use sender::Counts;
pub use settings::{Algorithm, Connections, KeepAlive, Offload, Settings};

use self::{
    connection::{Connection, State},
    interrupts::{Arrived, Interrupts},
    listener::Listener,
    segment::{Flow, Kind, PACKET, Sending},
};
use super::{Protocol, Transport};
use crate::{
    event::{HostId, MessageId},
    fabric::{Queues, Topology},
    packet::{Delivered, Outgoing, PacketSize, wire_bytes},
    time::Time,
};

/// TCP with these settings on every host.
#[derive(Clone, Debug)]
pub struct Tcp {
    settings: Settings,
    seed: u64,
}

impl Tcp {
    /// TCP with settings.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self { settings, seed }
    }
}

impl Protocol for Tcp {
    type Host = TcpHost;

    fn hosts(&self, network: &Topology) -> Vec<TcpHost> {
        let host = |host| TcpHost::new(self.settings.clone(), self.seed ^ u64::from(host));
        (0..network.hosts()).map(host).collect()
    }

    /// Only DCTCP's packets can be marked.
    fn queues(&self) -> Queues {
        Queues { ecn_bytes: Some(self.settings.marking_bytes), ..Queues::default() }
    }

    fn packet_size(&self) -> PacketSize {
        PACKET
    }

    /// An acknowledgement for every other segment, and what opens and closes a connection.
    fn control_bytes(&self, bytes: u32) -> f64 {
        let ack = f64::from(wire_bytes(PACKET.header_bytes));
        let acks = f64::from(bytes.div_ceil(PACKET.payload_max())) / 2.0;
        let connection = match self.settings.connections {
            Connections::PerPair(_) => 0.0,
            // SYN, FIN and an acknowledgement of each, from both ends.
            Connections::PerMessage => 3.0,
        };
        (acks.ceil() + connection) * ack
    }
}

/// A connection in its place.
#[derive(Debug)]
struct Slot {
    connection: Connection,
    /// The earliest time at which its timers are looked at.
    scheduled: Time,
    /// It is asked for segments in its turn.
    ready: bool,
    /// It is asked before all others.
    urgent: bool,
}

/// Connections to a host, of which each message takes the next.
#[derive(Debug, Default)]
struct Peer {
    connections: Vec<u32>,
    turn: usize,
}

/// TCP on a host.
#[derive(Debug)]
pub struct TcpHost {
    settings: Settings,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    /// Connections as segments of their other ends name them.
    by_flow: HashMap<(HostId, Flow), u32>,
    peers: HashMap<HostId, Peer>,
    listener: Listener,
    ready: VecDeque<u32>,
    urgent: VecDeque<u32>,
    /// Segments of no connection.
    replies: VecDeque<(HostId, Segment)>,
    timers: BinaryHeap<Reverse<(Time, u32)>>,
    interrupts: Interrupts,
    arrived: VecDeque<MessageId>,
    rng: fastrand::Rng,
    ports: u32,
    failed: u64,
    counts: Counts,
}

impl TcpHost {
    fn new(settings: Settings, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        Self {
            interrupts: Interrupts::new(settings.offload),
            settings,
            slots: Vec::new(),
            free: Vec::new(),
            by_flow: HashMap::new(),
            peers: HashMap::new(),
            listener: Listener::new(rng.u64(..)),
            ready: VecDeque::new(),
            urgent: VecDeque::new(),
            replies: VecDeque::new(),
            timers: BinaryHeap::new(),
            arrived: VecDeque::new(),
            rng,
            ports: 0,
            failed: 0,
            counts: Counts::default(),
        }
    }

    /// What repair of losses did, on all connections that there were.
    pub fn counts(&self) -> Counts {
        let open = self.slots.iter().flatten().map(|slot| slot.connection.counts());
        open.fold(self.counts, |sum, counts| Counts {
            retransmissions: sum.retransmissions + counts.retransmissions,
            timeouts: sum.timeouts + counts.timeouts,
        })
    }

    /// Keeps a connection, and has it asked.
    fn insert(&mut self, connection: Connection) -> u32 {
        let key = (connection.peer, connection.flow.reversed());
        let slot = Slot { connection, scheduled: Time::NEVER, ready: false, urgent: false };
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(None);
                self.slots.len() as u32 - 1
            }
        };
        self.slots[index as usize] = Some(slot);
        self.by_flow.insert(key, index);
        index
    }

    fn open(&mut self, to: HostId) -> u32 {
        self.ports += 1;
        let first = u64::from(self.rng.u32(..));
        let connection = Connection::open(to, self.ports, first, &self.settings);
        let index = self.insert(connection);
        self.touch(index);
        index
    }

    /// The connection that the next message to a host takes.
    fn connection_to(&mut self, to: HostId) -> u32 {
        let Connections::PerPair(count) = self.settings.connections else { return self.open(to) };
        if self.peers.get(&to).is_none_or(|peer| peer.connections.is_empty()) {
            let connections = (0..count.max(1)).map(|_| self.open(to)).collect();
            self.peers.insert(to, Peer { connections, turn: 0 });
        }
        let peer = self.peers.entry(to).or_default();
        peer.turn = (peer.turn + 1) % peer.connections.len();
        peer.connections[peer.turn]
    }

    /// Changes a connection, then looks what that means to the host.
    fn with(&mut self, now: Time, index: u32, change: impl FnOnce(&mut Connection, &Settings)) {
        let Some(slot) = &mut self.slots[index as usize] else { return };
        let connection = &mut slot.connection;
        let before = connection.state();
        change(connection, &self.settings);
        while let Some(message) = connection.arrived() {
            self.arrived.push_back(message);
        }
        connection.read();
        if connection.state() == State::CloseWait {
            connection.close();
        }
        connection.hand_over(now, &self.settings);
        let after = connection.state();
        if before == State::SynReceived && after != before {
            self.listener.half_open -= 1;
        }
        if after == State::Closed {
            return self.remove(index);
        }
        self.touch(index);
    }

    /// Puts a connection into the queues where it belongs.
    fn touch(&mut self, index: u32) {
        let Some(slot) = &mut self.slots[index as usize] else { return };
        if slot.connection.is_urgent() && !slot.urgent && self.settings.offload.is_none() {
            slot.urgent = true;
            self.urgent.push_back(index);
        }
        if !slot.ready {
            slot.ready = true;
            self.ready.push_back(index);
        }
        self.schedule(index);
    }

    fn schedule(&mut self, index: u32) {
        let Some(slot) = &mut self.slots[index as usize] else { return };
        let next = slot.connection.timers.next();
        if next < slot.scheduled {
            slot.scheduled = next;
            self.timers.push(Reverse((next, index)));
        }
    }

    fn remove(&mut self, index: u32) {
        let Some(Slot { connection, .. }) = self.slots[index as usize].take() else { return };
        self.by_flow.remove(&(connection.peer, connection.flow.reversed()));
        if let Some(peer) = self.peers.get_mut(&connection.peer) {
            peer.connections.retain(|other| *other != index);
        }
        self.failed += connection.open_messages();
        let counts = connection.counts();
        self.counts.retransmissions += counts.retransmissions;
        self.counts.timeouts += counts.timeouts;
        self.free.push(index);
    }

    /// A segment of no connection.
    fn called(&mut self, now: Time, from: HostId, segment: &Segment) -> Option<u32> {
        let settings = &self.settings;
        match segment.kind {
            Kind::Syn if self.listener.half_open < settings.backlog => {
                let first = u64::from(self.rng.u32(..));
                self.listener.half_open += 1;
                let connection = Connection::accept(from, segment, first, settings);
                let index = self.insert(connection);
                self.touch(index);
            }
            Kind::Syn if settings.syn_cookies => {
                let window = settings.receive_buffer_bytes;
                self.replies.push_back((from, self.listener.answer(now, from, segment, window)));
            }
            Kind::Syn | Kind::Reset => {}
            Kind::Ack
                if segment.flow.to_listener
                    && settings.syn_cookies
                    && self.listener.knows(now, from, segment) =>
            {
                let connection = Connection::of_cookie(now, from, segment, settings);
                return Some(self.insert(connection));
            }
            Kind::Ack | Kind::SynAck => {
                let flow = segment.flow.reversed();
                let reset = Segment::new(flow, Kind::Reset, segment.ack, segment.end());
                self.replies.push_back((from, reset));
            }
        }
        None
    }

    /// The next segment of a connection in a queue.
    fn asked(&mut self, now: Time, index: u32) -> Option<(HostId, Sending)> {
        let slot = self.slots[index as usize].as_mut()?;
        let sending = slot.connection.transmit(now, &self.settings)?;
        slot.connection.hand_over(now, &self.settings);
        Some((slot.connection.peer, sending))
    }

    /// A connection sends what it handed to the NIC before others have their turn.
    fn keep_turn(&mut self, index: u32) {
        let Some(slot) = &mut self.slots[index as usize] else { return };
        if slot.connection.is_bursting() {
            slot.ready = true;
            self.ready.push_front(index);
        }
    }

    fn take(&mut self, now: Time, arrived: &Arrived) {
        let Arrived { from, segment, message, marked } = arrived;
        let known = self.by_flow.get(&(*from, segment.flow)).copied();
        let Some(index) = known.or_else(|| self.called(now, *from, segment)) else { return };
        self.with(now, index, |connection, settings| {
            connection.receive(now, segment, *message, *marked, settings);
        });
    }

    fn next_segment(&mut self, now: Time) -> Option<(HostId, Sending)> {
        if let Some((to, segment)) = self.replies.pop_front() {
            return Some((to, segment.into()));
        }
        while let Some(index) = self.urgent.pop_front() {
            if let Some(slot) = &mut self.slots[index as usize] {
                slot.urgent = false;
                if slot.connection.is_urgent() {
                    let sending = self.asked(now, index);
                    self.touch(index);
                    if sending.is_some() {
                        return sending;
                    }
                }
            }
        }
        while let Some(index) = self.ready.pop_front() {
            if let Some(slot) = &mut self.slots[index as usize] {
                slot.ready = false;
                let sending = self.asked(now, index);
                if sending.is_some() {
                    self.keep_turn(index);
                    self.touch(index);
                    return sending;
                }
                self.schedule(index);
            }
        }
        None
    }
}

impl Transport for TcpHost {
    type Header = Segment;

    fn send(&mut self, now: Time, message: MessageId, to: HostId, bytes: u32) -> bool {
        let index = self.connection_to(to);
        let each = self.settings.connections == Connections::PerMessage;
        self.with(now, index, |connection, _| {
            connection.write(message, bytes);
            if each {
                connection.close();
            }
        });
        true
    }

    fn receive(&mut self, now: Time, packet: &Delivered<'_, Segment>) {
        let Delivered { from, message, marked, header, .. } = *packet;
        let arrived = Arrived { from, segment: *header, message, marked };
        if let Some(arrived) = self.interrupts.add(now, arrived) {
            self.take(now, &arrived);
        }
    }

    fn settle(&mut self, now: Time) {
        for arrived in self.interrupts.take_due(now) {
            self.take(now, &arrived);
        }
        while let Some(Reverse((at, index))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            let Some(slot) = &mut self.slots[index as usize] else { continue };
            if slot.scheduled != at {
                continue;
            }
            slot.scheduled = Time::NEVER;
            self.with(now, index, |connection, settings| {
                while let Some(timer) = connection.timers.take_due(now) {
                    connection.timed_out(now, timer, settings);
                }
            });
        }
    }

    fn arrived(&mut self, _now: Time) -> Option<MessageId> {
        self.arrived.pop_front()
    }

    fn transmit(&mut self, now: Time) -> Option<Outgoing<Segment>> {
        let (to, Sending { segment, message }) = self.next_segment(now)?;
        Some(Outgoing {
            to,
            ip_bytes: segment.ip_bytes(),
            priority: 0,
            rank: 0,
            flow: segment.flow.port,
            ecn: self.settings.algorithm == Algorithm::Dctcp,
            message,
            outside: false,
            header: segment,
        })
    }

    fn failed(&self) -> u64 {
        self.failed
    }

    fn timeout(&mut self, _now: Time) -> Option<Time> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        timer.into_iter().chain(self.interrupts.due()).min()
    }
}
