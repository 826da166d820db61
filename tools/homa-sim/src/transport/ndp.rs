//! NDP (Handley et al., SIGCOMM 2017), as a documented model.
//!
//! A sender begins with a whole window at once. Switches have short queues; where one is full,
//! packets are trimmed to their headers, which go before data ([`Discipline::Trimming`]), so the
//! receiver knows at once what was sent. It acknowledges whole packets, names trimmed ones, and
//! pulls a packet for each that has come: in turn among messages, and no faster than its link
//! receives. A pull makes the sender send a packet, a trimmed one first. Packets are sprayed.
//!
//! The NIC sends control packets first, then of its messages in turn. Left out: headers returned to
//! their sender (when their queue is full they are dropped), priorities among messages at a
//! receiver, senders that avoid bad paths. A message that hears nothing for [`TIMEOUT`] sends again
//! what was not answered.

use std::collections::{BTreeMap, VecDeque};

use super::{
    Protocol, Transport,
    parts::{Header, Inbox, PacketSet, SIZE, Taken, Timers},
};
use crate::{
    event::{HostId, MessageId},
    fabric::{Discipline, Queues, Topology},
    packet::{Delivered, Outgoing, PacketSize},
    time::{Span, Time},
};

/// Packets that a sender begins with.
pub const WINDOW: u32 = 12;
/// Packets of data that wait at a port.
pub const DATA_PACKETS: u32 = 8;
/// Headers that wait at a port: as many bytes as of data.
pub const HEADER_PACKETS: u32 = DATA_PACKETS * 1500 / 64;
/// Time after which a sender that hears nothing sends again.
pub const TIMEOUT: Span = Span::from_ns(1_000_000);

/// NDP on every host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ndp;

impl Protocol for Ndp {
    type Host = NdpHost;

    fn hosts(&self, network: &Topology) -> Vec<NdpHost> {
        let packet = network.host_rate.time(SIZE.wire_bytes(SIZE.payload_max()), &mut 0);
        (0..network.hosts()).map(|_| NdpHost::new(packet)).collect()
    }

    fn queues(&self) -> Queues {
        let discipline = Discipline::Trimming {
            data_packets: DATA_PACKETS,
            header_packets: HEADER_PACKETS,
            trimmed_ip_bytes: SIZE.header_bytes,
        };
        Queues { discipline, ..Queues::default() }
    }

    fn packet_size(&self) -> PacketSize {
        SIZE
    }

    /// An acknowledgement of each packet, and a pull for each after the first window. Packets that
    /// are trimmed and sent again are not counted.
    fn control_bytes(&self, bytes: u32) -> f64 {
        let packets = SIZE.packets(bytes);
        f64::from(packets + packets.saturating_sub(WINDOW)) * f64::from(SIZE.wire_bytes(0))
    }
}

/// What a packet is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Data: the packet of this index.
    Data(u32),
    /// That the packet of this index has arrived.
    Acknowledgement(u32),
    /// That the packet of this index was trimmed.
    Trimmed(u32),
    /// That so many packets were pulled by now.
    Pull(u32),
}

/// A message that goes out.
#[derive(Debug)]
struct Sending {
    to: HostId,
    bytes: u32,
    packets: u32,
    acknowledged: PacketSet,
    /// Packets that were trimmed, to be sent again first.
    again: VecDeque<u32>,
    /// The first that was never sent.
    next: u32,
    /// Highest count of pulls.
    pulled: u32,
    /// Packets that it may send.
    credits: u32,
    deadline: Time,
}

impl Sending {
    /// The packet that goes next.
    fn next(&mut self) -> Option<u32> {
        while let Some(index) = self.again.pop_front() {
            if !self.acknowledged.has(index) {
                return Some(index);
            }
        }
        let index = self.next;
        self.next = (index + 1).min(self.packets);
        Some(index).filter(|index| *index < self.packets)
    }

    /// Nothing was heard: what was sent and not answered is to be sent again.
    fn lose(&mut self) {
        let lost = (0..self.next).filter(|index| !self.acknowledged.has(*index));
        self.again = lost.collect();
    }
}

/// A message that comes in.
#[derive(Clone, Copy, Debug)]
struct Receiving {
    from: HostId,
    bytes: u32,
    /// Packets that the sender has to send: trimmed ones more than once.
    needed: u32,
    /// Packets that it sends by itself or that are pulled.
    asked: u32,
    /// Pulls that wait, and those that have left.
    waiting: u32,
    pulled: u32,
}

/// NDP on a host.
#[derive(Debug)]
pub struct NdpHost {
    /// Time of a full packet.
    packet: Span,
    sending: BTreeMap<MessageId, Sending>,
    timers: Timers,
    control: VecDeque<Outgoing<Header<Kind>>>,
    /// Messages with credits, in turn.
    ready: VecDeque<MessageId>,
    inbox: Inbox,
    receiving: BTreeMap<MessageId, Receiving>,
    /// Messages with pulls that wait, in turn.
    turns: VecDeque<MessageId>,
    /// When the next pull may leave.
    pull_at: Time,
}

impl NdpHost {
    fn new(packet: Span) -> Self {
        Self {
            packet,
            sending: BTreeMap::new(),
            timers: Timers::default(),
            control: VecDeque::new(),
            ready: VecDeque::new(),
            inbox: Inbox::default(),
            receiving: BTreeMap::new(),
            turns: VecDeque::new(),
            pull_at: Time::ZERO,
        }
    }

    /// A message may send more packets.
    fn credit(&mut self, message: MessageId, packets: u32) {
        let Some(sending) = self.sending.get_mut(&message) else { return };
        if sending.credits == 0 && packets > 0 {
            self.ready.push_back(message);
        }
        sending.credits += packets;
    }

    /// The next packet of the message whose turn it is.
    fn next_data(&mut self) -> Option<Outgoing<Header<Kind>>> {
        while let Some(message) = self.ready.pop_front() {
            let Some(sending) = self.sending.get_mut(&message) else { continue };
            let Some(index) = sending.next() else {
                sending.credits = 0;
                continue;
            };
            sending.credits -= 1;
            if sending.credits > 0 {
                self.ready.push_back(message);
            }
            let Sending { to, bytes, .. } = *sending;
            let header = Header { message, bytes, kind: Kind::Data(index) };
            return Some(header.data(to, index));
        }
        None
    }

    /// A packet of a message has come, whole or trimmed.
    fn take(&mut self, from: HostId, header: &Header<Kind>, index: u32, trimmed: bool) {
        let Header { message, bytes, .. } = *header;
        let packets = SIZE.packets(bytes);
        let is_whole = self.inbox.is_whole(message)
            || !trimmed && self.inbox.take(message, index, packets) == Taken::Whole;
        let kind = match trimmed && !is_whole {
            true => Kind::Trimmed(index),
            false => Kind::Acknowledgement(index),
        };
        self.control.push_back(Header { kind, ..*header }.control(from));
        if is_whole {
            self.receiving.remove(&message);
            return;
        }
        let receiving = self.receiving.entry(message).or_insert_with(|| {
            let asked = packets.min(WINDOW);
            Receiving { from, bytes, needed: packets, asked, waiting: 0, pulled: 0 }
        });
        receiving.needed += u32::from(trimmed);
        if receiving.asked < receiving.needed {
            receiving.asked += 1;
            receiving.waiting += 1;
            if receiving.waiting == 1 {
                self.turns.push_back(message);
            }
        }
    }

    /// Pulls packets, one in the time of a packet.
    fn pull(&mut self, now: Time) {
        while now >= self.pull_at {
            let Some(message) = self.turns.pop_front() else { return };
            let Some(receiving) = self.receiving.get_mut(&message) else { continue };
            receiving.waiting -= 1;
            receiving.pulled += 1;
            let Receiving { from, bytes, waiting, pulled, .. } = *receiving;
            let pull = Header { message, bytes, kind: Kind::Pull(pulled) };
            self.control.push_back(pull.control(from));
            if waiting > 0 {
                self.turns.push_back(message);
            }
            self.pull_at = now + self.packet;
        }
    }
}

impl Transport for NdpHost {
    type Header = Header<Kind>;

    fn send(&mut self, now: Time, message: MessageId, to: HostId, bytes: u32) -> bool {
        let packets = SIZE.packets(bytes);
        let sending = Sending {
            to,
            bytes,
            packets,
            acknowledged: PacketSet::default(),
            again: VecDeque::new(),
            next: 0,
            pulled: 0,
            credits: 0,
            deadline: now + TIMEOUT,
        };
        self.sending.insert(message, sending);
        self.timers.set(now + TIMEOUT, message);
        self.credit(message, packets.min(WINDOW));
        true
    }

    fn receive(&mut self, now: Time, packet: &Delivered<'_, Header<Kind>>) {
        let header = *packet.header;
        if let Kind::Data(index) = header.kind {
            return self.take(packet.from, &header, index, packet.trimmed);
        }
        let Some(sending) = self.sending.get_mut(&header.message) else { return };
        sending.deadline = now + TIMEOUT;
        match header.kind {
            Kind::Acknowledgement(index) => {
                sending.acknowledged.add(index);
                if sending.acknowledged.count() == sending.packets {
                    self.sending.remove(&header.message);
                }
            }
            Kind::Trimmed(index) => sending.again.push_back(index),
            Kind::Pull(count) => {
                let before = sending.pulled;
                sending.pulled = count.max(before);
                self.credit(header.message, count.saturating_sub(before));
            }
            Kind::Data(_) => {}
        }
    }

    fn settle(&mut self, now: Time) {
        while let Some(message) = self.timers.due(now) {
            let Some(sending) = self.sending.get_mut(&message) else { continue };
            let is_silent = sending.deadline <= now;
            if is_silent {
                sending.deadline = now + TIMEOUT;
                sending.lose();
            }
            self.timers.set(sending.deadline, message);
            if is_silent {
                self.credit(message, 1);
            }
        }
        self.pull(now);
    }

    fn arrived(&mut self, _now: Time) -> Option<MessageId> {
        self.inbox.arrived()
    }

    fn transmit(&mut self, _now: Time) -> Option<Outgoing<Header<Kind>>> {
        self.control.pop_front().or_else(|| self.next_data())
    }

    fn timeout(&mut self, _now: Time) -> Option<Time> {
        let pull = if self.turns.is_empty() { None } else { Some(self.pull_at) };
        pull.into_iter().chain(self.timers.next()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::testing::{drain, exchange};

    fn host() -> NdpHost {
        NdpHost::new(Span::from_ns(1_000))
    }

    #[test]
    fn a_trimmed_packet_is_sent_again_by_the_next_pull() {
        let (mut sender, mut receiver) = (host(), host());
        sender.send(Time::ZERO, MessageId(0), HostId(1), 30 * SIZE.payload_max());
        let sent = drain(&mut sender, Time::ZERO);
        assert_eq!(sent.len(), WINDOW as usize);
        let delivered = Delivered { trimmed: true, ..sent[4].delivered(HostId(0)) };
        receiver.receive(Time::ZERO, &delivered);
        receiver.settle(Time::ZERO);
        exchange(&mut receiver, &mut sender, HostId(1), Time::ZERO);
        let again = drain(&mut sender, Time::ZERO);
        assert!(matches!(again[..], [Outgoing { header: Header { kind: Kind::Data(4), .. }, .. }]));
    }

    #[test]
    fn messages_are_pulled_in_turn_one_in_the_time_of_a_packet() {
        let mut receiver = host();
        for message in 0..2 {
            let mut sender = host();
            sender.send(Time::ZERO, MessageId(message), HostId(9), 30 * SIZE.payload_max());
            exchange(&mut sender, &mut receiver, HostId(message), Time::ZERO);
        }
        let mut pulled = Vec::new();
        for turn in 0..8 {
            let now = Time::from_ns(turn * 500);
            receiver.settle(now);
            let sent = drain(&mut receiver, now);
            let pulls = sent.iter().filter(|packet| matches!(packet.header.kind, Kind::Pull(_)));
            pulled.extend(pulls.map(|packet| (turn, packet.header.message.0)));
        }
        assert_eq!(pulled, [(0, 0), (2, 1), (4, 0), (6, 1)]);
    }
}
