//! pHost (Gao et al., CoNEXT 2015), as a documented model.
//!
//! A sender announces each message (RTS); the receiver gives it one token per packet, to the
//! message with the least left and no faster than its link receives; the sender sends the packet of
//! the token with the least left. Messages of up to [`FREE_TOKENS`] packets begin with tokens for
//! all of them. Tokens expire unless they are used at once; a message that leaves
//! [`WINDOW`] tokens without answer gets no more for a while. Packets are sprayed; announcements
//! and tokens have the highest priority, short messages the next, all else one below.
//!
//! As in the simulator of the authors (`capabilityflow.cpp`, `capabilityhost.cpp`), from which the
//! constants come. Left out: deadlines, tenants, the fourth level that sends without tokens. Other
//! than there tokens have the time of their packet, not of a full one, and free tokens do not
//! expire: of messages much shorter than a packet a sender often has more than it can send in the
//! time. An announcement is repeated when nothing is heard, so that none can be lost for good.

use std::collections::{BTreeMap, VecDeque};

use super::{
    Protocol, Transport,
    parts::{Header, Inbox, SIZE, TOP, Taken},
};
use crate::{
    event::{HostId, MessageId},
    fabric::Topology,
    packet::{Delivered, Outgoing, PacketSize},
    time::{Rate, Span, Time},
};

/// Packets of the longest message that needs no tokens of its receiver (`capability_initial`).
pub const FREE_TOKENS: u32 = 8;
/// Tokens without answer that a message has at most (`capability_window`).
pub const WINDOW: u32 = 8;
/// Time that a token is good for, in half packets (`capability_timeout`, 1.5 packets).
const TOKEN_LIFE_HALVES: u64 = 3;
/// Time without tokens for a message that answers none, in packets (`capability_window_timeout`).
const WINDOW_TIMEOUT: u64 = 25;
/// Time from the last token of a message until it gets new ones, in packets
/// (`capability_resend_timeout`).
const RESEND_TIMEOUT: u64 = 9;
/// Time from an announcement to the next, while nothing is heard.
const ANNOUNCEMENT_TIMEOUT: Span = Span::from_ns(1_000_000);

/// Priority of short messages.
const SHORT: u8 = TOP - 1;
/// Priority of long ones.
const LONG: u8 = SHORT - 1;

/// pHost on every host.
#[derive(Clone, Copy, Debug, Default)]
pub struct PHost;

impl Protocol for PHost {
    type Host = PHostHost;

    fn hosts(&self, network: &Topology) -> Vec<PHostHost> {
        (0..network.hosts()).map(|_| PHostHost::new(network.host_rate)).collect()
    }

    fn packet_size(&self) -> PacketSize {
        SIZE
    }

    /// An announcement and an acknowledgement, and a token for each packet of a long message. They
    /// go both ways: a host sends as many as it receives.
    fn control_bytes(&self, bytes: u32) -> f64 {
        let packets = SIZE.packets(bytes);
        let tokens = if packets > FREE_TOKENS { packets } else { 0 };
        f64::from(SIZE.wire_bytes(0)) * f64::from(2 + tokens)
    }
}

/// What a packet is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// That there is the message (RTS).
    Announcement,
    /// Permission for a packet.
    Token {
        /// The packet.
        index: u32,
        /// Tokens of the message before.
        number: u32,
        /// Packets that the receiver lacks.
        missing: u32,
    },
    /// Data.
    Data {
        /// The packet.
        index: u32,
        /// That of the token.
        number: u32,
    },
    /// That the whole message has arrived.
    Acknowledgement,
}

/// A message that goes out.
#[derive(Debug)]
struct Sending {
    to: HostId,
    bytes: u32,
    /// Packets that the receiver lacked last.
    missing: u32,
    tokens: VecDeque<Token>,
    /// The receiver was heard of it.
    is_known: bool,
}

#[derive(Clone, Copy, Debug)]
struct Token {
    until: Time,
    index: u32,
    number: u32,
}

/// A message that comes in.
#[derive(Debug)]
struct Receiving {
    from: HostId,
    bytes: u32,
    packets: u32,
    /// Packets that have not arrived.
    missing: u32,
    /// Packet of the next token.
    index: u32,
    /// Tokens given, and how many before there are enough.
    given: u32,
    enough: u32,
    /// Tokens that are answered for: all up to the last one seen in a packet.
    answered: u32,
    given_at: Time,
    /// No tokens before.
    not_before: Time,
}

/// pHost on a host.
#[derive(Debug)]
pub struct PHostHost {
    /// Rate of the link, and the time of a full packet on it.
    rate: Rate,
    packet: Span,
    sending: BTreeMap<MessageId, Sending>,
    /// Announcements, and when to repeat them.
    announced: VecDeque<(Time, MessageId)>,
    control: VecDeque<Outgoing<Header<Kind>>>,
    inbox: Inbox,
    receiving: BTreeMap<MessageId, Receiving>,
    /// When the next token may leave.
    token_at: Time,
    /// When the next token can leave, as far as is known.
    wake: Time,
}

impl PHostHost {
    fn new(rate: Rate) -> Self {
        Self {
            rate,
            packet: rate.time(SIZE.wire_bytes(SIZE.payload_max()), &mut 0),
            sending: BTreeMap::new(),
            announced: VecDeque::new(),
            control: VecDeque::new(),
            inbox: Inbox::default(),
            receiving: BTreeMap::new(),
            token_at: Time::ZERO,
            wake: Time::NEVER,
        }
    }

    fn packets(&self, count: u64) -> Span {
        Span::from_ps(self.packet.as_ps() * count)
    }

    /// Announces a message.
    fn announce(&mut self, now: Time, message: MessageId) {
        let Some(&Sending { to, bytes, .. }) = self.sending.get(&message) else { return };
        self.announced.push_back((now + ANNOUNCEMENT_TIMEOUT, message));
        let announcement = Header { message, bytes, kind: Kind::Announcement };
        self.control.push_back(announcement.control(to));
    }

    /// The message is known from now on.
    fn begin(&mut self, now: Time, from: HostId, header: &Header<Kind>) {
        let Header { message, bytes, .. } = *header;
        if self.inbox.is_whole(message) || self.receiving.contains_key(&message) {
            return;
        }
        let packets = SIZE.packets(bytes);
        let free = if packets > FREE_TOKENS { 0 } else { packets };
        if free > 0 {
            self.reserve(now, SIZE.message_time(bytes, self.rate));
        }
        // All tokens of a short one are given.
        let not_before = match free {
            0 => Time::ZERO,
            free => now + self.packets(u64::from(free) + WINDOW_TIMEOUT),
        };
        let receiving = Receiving {
            from,
            bytes,
            packets,
            missing: packets,
            index: free % packets,
            given: free,
            enough: packets,
            answered: 0,
            given_at: now,
            not_before,
        };
        self.receiving.insert(message, receiving);
    }

    fn take(&mut self, header: &Header<Kind>, index: u32, number: u32) {
        let Header { message, .. } = *header;
        let Some(receiving) = self.receiving.get_mut(&message) else { return };
        receiving.answered = receiving.answered.max(number + 1);
        match self.inbox.take(message, index, receiving.packets) {
            Taken::Again => {}
            Taken::More => receiving.missing -= 1,
            Taken::Whole => {
                let from = receiving.from;
                self.receiving.remove(&message);
                let answer = Header { kind: Kind::Acknowledgement, ..*header };
                self.control.push_back(answer.control(from));
            }
        }
    }

    /// The link receives something for so long: no tokens for more meanwhile.
    fn reserve(&mut self, now: Time, time: Span) {
        self.token_at = self.token_at.max(now) + time;
    }

    /// Gives tokens, one in the time of its packet.
    fn give(&mut self, now: Time) {
        self.wake = Time::NEVER;
        while !self.receiving.is_empty() {
            if now < self.token_at {
                self.wake = self.token_at;
                return;
            }
            let Some(message) = self.most_urgent(now) else { return };
            self.give_to(now, message);
        }
    }

    /// The message with the least left that may have a token.
    fn most_urgent(&mut self, now: Time) -> Option<MessageId> {
        let window_timeout = self.packets(WINDOW_TIMEOUT);
        let mut best = None;
        for (message, receiving) in &mut self.receiving {
            let mut from = receiving.not_before;
            if receiving.given - receiving.answered > WINDOW {
                from = from.max(receiving.given_at + window_timeout);
            }
            if from > now {
                self.wake = self.wake.min(from);
                continue;
            }
            let key = (receiving.missing, *message);
            if best.is_none_or(|best| key < best) {
                best = Some(key);
            }
        }
        best.map(|(_, message)| message)
    }

    fn give_to(&mut self, now: Time, message: MessageId) {
        let resend_timeout = self.packets(RESEND_TIMEOUT);
        let Some(receiving) = self.receiving.get_mut(&message) else { return };
        if receiving.given - receiving.answered > WINDOW {
            // It has waited: what it did not answer is forgotten.
            receiving.answered = receiving.given - WINDOW;
        }
        if receiving.given >= receiving.enough {
            receiving.enough = receiving.given + receiving.missing;
        }
        let (mut index, packets) = (receiving.index, receiving.packets);
        let is_there = |index| self.inbox.packets(message).is_some_and(|set| set.has(index));
        while is_there(index) {
            index = (index + 1) % packets;
        }
        receiving.index = (index + 1) % packets;
        let number = receiving.given;
        receiving.given += 1;
        receiving.given_at = now;
        receiving.not_before = match receiving.given >= receiving.enough {
            true => now + resend_timeout,
            false => Time::ZERO,
        };
        let (to, bytes, missing) = (receiving.from, receiving.bytes, receiving.missing);
        let token = Header { message, bytes, kind: Kind::Token { index, number, missing } };
        self.control.push_back(token.control(to));
        let wire_bytes = SIZE.wire_bytes(SIZE.payload(bytes, index));
        self.reserve(now, self.rate.time(wire_bytes, &mut 0));
    }

    /// The message with the least left that has a token.
    fn next_sending(&mut self, now: Time) -> Option<MessageId> {
        for sending in self.sending.values_mut() {
            while sending.tokens.front().is_some_and(|token| token.until < now) {
                sending.tokens.pop_front();
            }
        }
        let ready = self.sending.iter().filter(|(_, sending)| !sending.tokens.is_empty());
        ready.map(|(message, sending)| (sending.missing, *message)).min().map(|(_, first)| first)
    }
}

impl Transport for PHostHost {
    type Header = Header<Kind>;

    fn send(&mut self, now: Time, message: MessageId, to: HostId, bytes: u32) -> bool {
        let packets = SIZE.packets(bytes);
        let free = if packets > FREE_TOKENS { 0 } else { packets };
        let until = Time::NEVER;
        let tokens = (0..free).map(|index| Token { until, index, number: index }).collect();
        let sending = Sending { to, bytes, missing: packets, tokens, is_known: false };
        self.sending.insert(message, sending);
        self.announce(now, message);
        true
    }

    fn receive(&mut self, now: Time, packet: &Delivered<'_, Header<Kind>>) {
        let header = packet.header;
        match header.kind {
            Kind::Announcement => self.begin(now, packet.from, header),
            Kind::Data { index, number } => {
                self.begin(now, packet.from, header);
                self.take(header, index, number);
            }
            Kind::Token { index, number, missing } => {
                let life = Span::from_ps(self.packet.as_ps() * TOKEN_LIFE_HALVES / 2);
                let Some(sending) = self.sending.get_mut(&header.message) else { return };
                sending.missing = missing;
                sending.is_known = true;
                if sending.tokens.iter().all(|token| token.index != index) {
                    sending.tokens.push_back(Token { until: now + life, index, number });
                }
            }
            Kind::Acknowledgement => {
                self.sending.remove(&header.message);
            }
        }
    }

    fn settle(&mut self, now: Time) {
        while let Some(&(at, message)) = self.announced.front() {
            let waits = self.sending.get(&message).is_some_and(|sending| !sending.is_known);
            if waits && at > now {
                break;
            }
            self.announced.pop_front();
            if waits {
                self.announce(now, message);
            }
        }
        self.give(now);
    }

    fn arrived(&mut self, _now: Time) -> Option<MessageId> {
        self.inbox.arrived()
    }

    fn transmit(&mut self, now: Time) -> Option<Outgoing<Header<Kind>>> {
        if let Some(control) = self.control.pop_front() {
            return Some(control);
        }
        let message = self.next_sending(now)?;
        let sending = self.sending.get_mut(&message)?;
        let Token { index, number, .. } = sending.tokens.pop_front()?;
        let Sending { to, bytes, .. } = *sending;
        let priority = if SIZE.packets(bytes) > FREE_TOKENS { LONG } else { SHORT };
        let header = Header { message, bytes, kind: Kind::Data { index, number } };
        Some(Outgoing { priority, ..header.data(to, index) })
    }

    fn timeout(&mut self, _now: Time) -> Option<Time> {
        let announcement = self.announced.front().map_or(Time::NEVER, |(at, _)| *at);
        Some(self.wake.min(announcement)).filter(|at| *at != Time::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::testing::{drain, exchange};

    fn host() -> PHostHost {
        PHostHost::new(Topology::sigcomm18(1).host_rate)
    }

    #[test]
    fn a_short_message_is_sent_at_once_and_a_long_one_only_announced() {
        let mut host = host();
        host.send(Time::ZERO, MessageId(0), HostId(1), 100_000);
        assert!(matches!(drain(&mut host, Time::ZERO)[..], [Outgoing { message: None, .. }]));
        host.send(Time::ZERO, MessageId(1), HostId(1), 3 * SIZE.payload_max());
        let sent = drain(&mut host, Time::ZERO);
        assert_eq!(sent.iter().filter(|packet| packet.message == Some(MessageId(1))).count(), 3);
    }

    #[test]
    fn tokens_leave_in_the_time_of_their_packets_and_the_shortest_message_gets_them() {
        let mut receiver = host();
        for (message, bytes) in [(0, 900_000), (1, 20_000)] {
            let mut sender = host();
            sender.send(Time::ZERO, MessageId(message), HostId(0), bytes);
            exchange(&mut sender, &mut receiver, HostId(message), Time::ZERO);
        }
        let (mut now, mut given) = (Time::ZERO, Vec::new());
        for _ in 0..4 {
            receiver.settle(now);
            let sent = drain(&mut receiver, now);
            given.extend(sent.iter().map(|packet| (now, packet.header.message.0)));
            now = now + Span::from_ps(receiver.packet.as_ps() / 2);
        }
        let times = [Time::ZERO, Time::ZERO + receiver.packet];
        assert_eq!(given, times.map(|at| (at, 1)));
    }
}
