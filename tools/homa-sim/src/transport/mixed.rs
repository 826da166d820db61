//! Two transports on every host, which share its NIC and the network.
//!
//! Each message is given to one of them, by chance. The NIC takes packets from both in turn: from
//! the one that has sent fewer bytes since both had some.

use std::collections::HashSet;

use super::{Protocol, Transport};
use crate::{
    event::{HostId, MessageId},
    fabric::{Discipline, Queues, Topology},
    packet::{Delivered, Outgoing, PacketSize, wire_bytes},
    time::Time,
};

/// Which messages are those of the first transport: a part of them, by chance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    part: f64,
    seed: u64,
}

impl Share {
    /// This part of the messages.
    pub fn new(part: f64, seed: u64) -> Self {
        Self { part, seed }
    }

    /// Whether a message of the load is one of them.
    pub fn has(self, message: MessageId) -> bool {
        // Seeds that are near each other give streams that are alike at first.
        let mut chance = fastrand::Rng::with_seed(self.seed);
        let seed = chance.u64(..).wrapping_add(u64::from(message.0)).wrapping_mul(ODD);
        fastrand::Rng::with_seed(seed).f64() < self.part
    }
}

/// 2^64 by the golden ratio.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Two transports on every host.
#[derive(Clone, Debug)]
pub struct Mixed<A, B> {
    /// The transport of messages of the share.
    pub first: A,
    /// That of the others.
    pub second: B,
    /// Which messages the first one has.
    pub share: Share,
}

impl<A: Protocol, B: Protocol> Protocol for Mixed<A, B> {
    type Host = MixedHost<A::Host, B::Host>;

    fn hosts(&self, network: &Topology) -> Vec<Self::Host> {
        let hosts = self.first.hosts(network).into_iter().zip(self.second.hosts(network));
        let host = |(first, second)| MixedHost {
            first,
            second,
            share: self.share,
            met: HashSet::new(),
            sent_bytes: [0; 2],
        };
        hosts.map(host).collect()
    }

    fn queues(&self) -> Queues {
        let (first, second) = (self.first.queues(), self.second.queues());
        let discipline = match first.discipline {
            Discipline::Priorities => second.discipline,
            other => other,
        };
        Queues { discipline, ecn_bytes: first.ecn_bytes.or(second.ecn_bytes) }
    }

    /// Of the first one.
    fn packet_size(&self) -> PacketSize {
        self.first.packet_size()
    }

    fn control_bytes(&self, bytes: u32) -> f64 {
        let (first, second) = (self.first.packet_size(), self.second.packet_size());
        let size = |size: PacketSize| size.message_wire_bytes(bytes) as f64;
        let second = size(second) + self.second.control_bytes(bytes) - size(first);
        self.share.part * self.first.control_bytes(bytes) + (1.0 - self.share.part) * second
    }
}

/// The header of a packet of either.
#[derive(Clone, Copy, Debug)]
pub enum Header<A, B> {
    /// The first one's.
    First(A),
    /// The second one's.
    Second(B),
}

/// The transports of a host.
#[derive(Debug)]
pub struct MixedHost<A, B> {
    first: A,
    second: B,
    share: Share,
    /// Hosts that were sent a message: the first one is the first transport's, as long as messages
    /// only make hosts known to each other.
    met: HashSet<HostId>,
    /// Bytes of link time of each, of which only the difference counts.
    sent_bytes: [u64; 2],
}

impl<A: Transport, B: Transport> MixedHost<A, B> {
    /// The next packet of the first transport (0) or the second (1).
    fn next_of(
        &mut self,
        whose: usize,
        now: Time,
    ) -> Option<Outgoing<Header<A::Header, B::Header>>> {
        match whose {
            0 => Some(self.first.transmit(now)?.map(Header::First)),
            _ => Some(self.second.transmit(now)?.map(Header::Second)),
        }
    }
}

impl<A: Transport, B: Transport> Transport for MixedHost<A, B> {
    type Header = Header<A::Header, B::Header>;

    fn send(&mut self, now: Time, message: MessageId, to: HostId, bytes: u32) -> bool {
        match self.met.insert(to) || self.share.has(message) {
            true => self.first.send(now, message, to, bytes),
            false => self.second.send(now, message, to, bytes),
        }
    }

    fn receive(&mut self, now: Time, packet: &Delivered<'_, Self::Header>) {
        match packet.header {
            Header::First(header) => self.first.receive(now, &packet.with(header)),
            Header::Second(header) => self.second.receive(now, &packet.with(header)),
        }
    }

    fn settle(&mut self, now: Time) {
        self.first.settle(now);
        self.second.settle(now);
    }

    fn arrived(&mut self, now: Time) -> Option<MessageId> {
        self.first.arrived(now).or_else(|| self.second.arrived(now))
    }

    fn transmit(&mut self, now: Time) -> Option<Outgoing<Self::Header>> {
        let [first, second] = self.sent_bytes;
        let mut whose = usize::from(first > second);
        let mut found = self.next_of(whose, now);
        if found.is_none() {
            // Who has nothing to send saves no turns.
            self.sent_bytes[whose] = self.sent_bytes[1 - whose];
            whose = 1 - whose;
            found = self.next_of(whose, now);
        }
        let packet = found.as_ref().filter(|packet| !packet.outside);
        self.sent_bytes[whose] += packet.map_or(0, |packet| u64::from(wire_bytes(packet.ip_bytes)));
        found
    }

    fn may_send(&self, message: MessageId) -> bool {
        match self.share.has(message) {
            true => self.first.may_send(message),
            false => self.second.may_send(message),
        }
    }

    fn asks_backlog(&self, now: Time) -> bool {
        self.first.asks_backlog(now) || self.second.asks_backlog(now)
    }

    fn set_backlog(&mut self, now: Time, bytes: u64) {
        if self.first.asks_backlog(now) {
            self.first.set_backlog(now, bytes);
        }
        if self.second.asks_backlog(now) {
            self.second.set_backlog(now, bytes);
        }
    }

    fn failed(&self) -> u64 {
        self.first.failed() + self.second.failed()
    }

    fn timeout(&mut self, now: Time) -> Option<Time> {
        let (first, second) = (self.first.timeout(now), self.second.timeout(now));
        first.into_iter().chain(second).min()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A transport that sends packets of one length, as many as it is told.
    #[derive(Debug)]
    struct Sends(VecDeque<u32>);

    impl Transport for Sends {
        type Header = ();

        fn send(&mut self, _: Time, _: MessageId, _: HostId, bytes: u32) -> bool {
            self.0.push_back(bytes);
            true
        }

        fn receive(&mut self, _: Time, _: &Delivered<'_, ()>) {}

        fn arrived(&mut self, _: Time) -> Option<MessageId> {
            None
        }

        fn transmit(&mut self, _: Time) -> Option<Outgoing<()>> {
            Some(Outgoing::new(HostId(0), self.0.pop_front()?, ()))
        }

        fn timeout(&mut self, _: Time) -> Option<Time> {
            None
        }
    }

    fn host(first: &[u32], second: &[u32]) -> MixedHost<Sends, Sends> {
        let sends = |packets: &[u32]| Sends(packets.iter().copied().collect());
        MixedHost {
            first: sends(first),
            second: sends(second),
            share: Share::new(0.5, 1),
            met: HashSet::new(),
            sent_bytes: [0; 2],
        }
    }

    /// Of which transport the packets are that leave now.
    fn leaving(host: &mut MixedHost<Sends, Sends>, count: usize) -> Vec<u8> {
        let packets = std::iter::from_fn(|| host.transmit(Time::ZERO)).take(count);
        packets
            .map(|packet| if matches!(packet.header, Header::First(())) { 1 } else { 2 })
            .collect()
    }

    #[test]
    fn the_nic_gives_both_as_many_bytes_whatever_the_length_of_their_packets() {
        let mut host = host(&[1500; 10], &[331; 40]);
        let left = leaving(&mut host, 25);
        let bytes = |which: u8| left.iter().filter(|of| **of == which).count() as u32;
        let (first, second) = (bytes(1) * wire_bytes(1500), bytes(2) * wire_bytes(331));
        assert!(first.abs_diff(second) <= wire_bytes(1500), "{left:?}");
    }

    #[test]
    fn who_sent_nothing_for_a_while_does_not_make_up_for_it() {
        let mut host = host(&[1500; 40], &[]);
        assert_eq!(leaving(&mut host, 20), [1; 20]);
        host.second.0.extend([1500; 20]);
        assert_eq!(leaving(&mut host, 6).iter().filter(|which| **which == 2).count(), 3);
    }

    #[test]
    fn a_share_is_that_part_of_the_messages_and_another_seed_gives_others() {
        let has = |seed| move |message: &u32| Share::new(0.3, seed).has(MessageId(*message));
        let messages = || 0..20_000_u32;
        let count = messages().filter(has(1)).count();
        assert!((5_800..6_200).contains(&count), "{count}");
        let both = messages().filter(has(1)).filter(has(2)).count();
        assert!((1_600..2_000).contains(&both), "{both}");
    }
}
