//! Where the time of a message went: at its sender up to the packet that came last, and in each
//! queue on the way of this packet.

use std::collections::HashMap;

use crate::{
    event::{HostId, MessageId, PacketId},
    fabric::PortKind,
    time::{Span, Time},
};

/// Where the time of a message went. The parts add up to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journey {
    /// The sender sent other messages, although it had bytes of this one that it might send.
    pub others: Span,
    /// The sender waited for GRANTs: it had no bytes of it that it might send.
    pub grants: Span,
    /// The NIC sent it.
    pub sending: Span,
    /// Queues that the packet that came last waited in, in the order of its way.
    pub queues: Vec<(PortKind, Span)>,
    /// The rest: links, switches and software that this packet went through.
    pub way: Span,
}

/// What a sender does about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Others,
    Waiting,
    Sending,
}

/// A message that is followed.
#[derive(Debug)]
struct Followed {
    from: HostId,
    since: Time,
    doing: Doing,
    /// What it did so far.
    so_far: Journey,
    /// Up to the packet that came last.
    journey: Journey,
}

/// Messages that are followed, and their packets under way.
#[derive(Debug, Default)]
pub(crate) struct Journeys {
    messages: HashMap<MessageId, Option<Followed>>,
    ended: HashMap<MessageId, Journey>,
    /// What is known of the messages up to these packets.
    packets: HashMap<PacketId, Journey>,
    /// What each NIC was given last.
    given: HashMap<HostId, Option<MessageId>>,
}

impl Journeys {
    /// Follows messages that have not begun.
    pub(crate) fn of(messages: impl IntoIterator<Item = MessageId>) -> Self {
        let messages = messages.into_iter().map(|message| (message, None)).collect();
        Self { messages, ..Self::default() }
    }

    /// What was found of the messages that have ended.
    pub(crate) fn into_found(self) -> HashMap<MessageId, Journey> {
        self.ended
    }

    /// A message has begun.
    pub(crate) fn begin(&mut self, now: Time, message: MessageId, from: HostId) {
        if let Some(entry) = self.messages.get_mut(&message) {
            *entry = Some(Followed {
                from,
                since: now,
                doing: Doing::Others,
                so_far: Journey::default(),
                journey: Journey::default(),
            });
        }
    }

    /// Messages of a sender that are under way.
    pub(crate) fn of_sender(&self, from: HostId) -> Vec<MessageId> {
        let is_its =
            |followed: &Option<Followed>| followed.as_ref().is_some_and(|f| f.from == from);
        let its = self.messages.iter().filter(|(_, followed)| is_its(followed));
        its.map(|(message, _)| *message).collect()
    }

    /// Whether a NIC was given a packet of a message last.
    pub(crate) fn is_given(&self, host: HostId, message: MessageId) -> bool {
        self.given.get(&host) == Some(&Some(message))
    }

    /// A sender gives a packet to its NIC.
    pub(crate) fn give(
        &mut self,
        now: Time,
        host: HostId,
        packet: PacketId,
        message: Option<MessageId>,
    ) {
        self.given.insert(host, message);
        // Another packet had the name before, and was lost.
        self.packets.remove(&packet);
        let Some(message) = message else { return };
        let Some(Some(followed)) = self.messages.get_mut(&message) else { return };
        followed.spend(now);
        followed.doing = Doing::Sending;
        self.packets.insert(packet, followed.so_far.clone());
    }

    /// A sender, whose NIC does not send a message, could send bytes of it, or not.
    pub(crate) fn not_sent(&mut self, now: Time, message: MessageId, may_send: bool) {
        let Some(Some(followed)) = self.messages.get_mut(&message) else { return };
        followed.spend(now);
        followed.doing = if may_send { Doing::Others } else { Doing::Waiting };
    }

    /// A packet has left a queue.
    pub(crate) fn waited(&mut self, packet: PacketId, kind: PortKind, time: Span) {
        if let Some(journey) = self.packets.get_mut(&packet) {
            journey.queues.push((kind, time));
        }
    }

    /// A packet of a message has come to its receiver.
    pub(crate) fn arrived(&mut self, message: MessageId, packet: PacketId) {
        let journey = self.packets.remove(&packet);
        if let (Some(Some(followed)), Some(journey)) = (self.messages.get_mut(&message), journey) {
            followed.journey = journey;
        }
    }

    /// A message that began at `begun` has arrived whole.
    pub(crate) fn end(&mut self, now: Time, message: MessageId, begun: Time) {
        let Some(Some(mut followed)) = self.messages.remove(&message) else { return };
        let journey = &mut followed.journey;
        let waited: u64 = journey.queues.iter().map(|(_, time)| time.as_ps()).sum();
        let at_sender = [journey.others, journey.grants, journey.sending];
        let known = waited + at_sender.iter().map(|time| time.as_ps()).sum::<u64>();
        journey.way = Span::from_ps(now.since(begun).as_ps().saturating_sub(known));
        self.ended.insert(message, followed.journey);
    }
}

impl Followed {
    /// Accounts for the time up to now.
    fn spend(&mut self, now: Time) {
        if now <= self.since {
            return;
        }
        let time = now.since(self.since);
        self.since = now;
        let part = match self.doing {
            Doing::Others => &mut self.so_far.others,
            Doing::Waiting => &mut self.so_far.grants,
            Doing::Sending => &mut self.so_far.sending,
        };
        *part = *part + time;
    }
}
