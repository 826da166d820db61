//! The SRPT oracle: a scheduler that knows every message of every host from its begin on.
//!
//! Whenever a message begins or has been sent, it goes through all messages, the one with the least
//! left first, and lets each send whose sender and receiver are both free. Messages are preempted
//! at any bit, nothing is queued between hosts, and there are no control packets; a message ends
//! one idle path after its last bit was sent. This is the oracle of the SIGCOMM 2018 evaluation
//! (`GreedySRPTOracleScheduler` of its simulator).
//!
//! Short messages cannot be faster. Long ones can: a sender may wait for a receiver that a shorter
//! message holds, though it has other messages to send.

use std::{cell::RefCell, cmp::Reverse, collections::BinaryHeap, rc::Rc};

use super::{Protocol, Transport};
use crate::{
    event::{HostId, MessageId},
    fabric::Topology,
    packet::{Delivered, Outgoing, PacketSize},
    time::{Span, Time},
};

/// Messages are divided as Homa's.
const SIZE: PacketSize =
    PacketSize { ip_bytes_max: 1500, header_bytes: 20 + homa_wire::DATA_HEADER_BYTES as u32 };

/// The oracle.
#[derive(Clone, Copy, Debug, Default)]
pub struct Oracle;

impl Protocol for Oracle {
    type Host = OracleHost;

    fn hosts(&self, network: &Topology) -> Vec<OracleHost> {
        let schedule = Rc::new(RefCell::new(Schedule::new(network.clone())));
        let host = |host| OracleHost { host, schedule: Rc::clone(&schedule) };
        (0..network.hosts()).map(HostId).map(host).collect()
    }

    fn packet_size(&self) -> PacketSize {
        SIZE
    }

    fn control_bytes(&self, _bytes: u32) -> f64 {
        0.0
    }
}

/// A host: it sends no packet, its messages arrive by the schedule of all.
#[derive(Debug)]
pub struct OracleHost {
    host: HostId,
    schedule: Rc<RefCell<Schedule>>,
}

impl Transport for OracleHost {
    type Header = ();

    fn send(&mut self, now: Time, message: MessageId, to: HostId, bytes: u32) -> bool {
        self.schedule.borrow_mut().begin(now, message, self.host, to, bytes);
        true
    }

    fn receive(&mut self, _now: Time, _packet: &Delivered<'_, ()>) {}

    fn settle(&mut self, now: Time) {
        self.schedule.borrow_mut().advance(now);
    }

    /// Any message that has arrived, wherever: a turn of one host is a turn of the schedule.
    fn arrived(&mut self, now: Time) -> Option<MessageId> {
        self.schedule.borrow_mut().arrived(now)
    }

    fn transmit(&mut self, _now: Time) -> Option<Outgoing<()>> {
        None
    }

    fn timeout(&mut self, _now: Time) -> Option<Time> {
        self.schedule.borrow().next()
    }
}

/// A message that is being sent or waits.
#[derive(Debug)]
struct Active {
    /// Time that the rest of it takes at its sender.
    left: Span,
    message: MessageId,
    from: usize,
    to: usize,
    /// From its last bit sent to its end.
    path: Span,
    sends: bool,
}

/// Which messages are sent, and when they end.
#[derive(Debug)]
struct Schedule {
    network: Topology,
    now: Time,
    /// Those with the least left first.
    active: Vec<Active>,
    /// When the next of them has been sent.
    next_sent: Time,
    under_way: BinaryHeap<Reverse<(Time, MessageId)>>,
    /// Which hosts send and which receive.
    busy: Vec<[bool; 2]>,
}

impl Schedule {
    fn new(network: Topology) -> Self {
        Self {
            busy: vec![[false; 2]; network.hosts() as usize],
            network,
            now: Time::ZERO,
            active: Vec::new(),
            next_sent: Time::NEVER,
            under_way: BinaryHeap::new(),
        }
    }

    fn begin(&mut self, now: Time, message: MessageId, from: HostId, to: HostId, bytes: u32) {
        self.advance(now);
        let left = SIZE.message_time(bytes, self.network.host_rate);
        let idle = self.network.idle_time(from, to, bytes, &SIZE);
        let path = Span::from_ps(idle.as_ps().saturating_sub(left.as_ps()));
        let (from, to) = (from.0 as usize, to.0 as usize);
        self.active.push(Active { left, message, from, to, path, sends: false });
        self.plan();
    }

    /// Lets everything happen up to `now`.
    fn advance(&mut self, now: Time) {
        while self.next_sent <= now {
            self.pass(self.next_sent);
            self.plan();
        }
        self.pass(now);
    }

    /// Lets time pass in which no message is sent to its end before `now`.
    fn pass(&mut self, now: Time) {
        let passed = now.since(self.now).as_ps();
        self.now = now;
        for active in self.active.iter_mut().filter(|active| active.sends) {
            active.left = Span::from_ps(active.left.as_ps() - passed);
        }
        let under_way = &mut self.under_way;
        self.active.retain(|active| {
            let is_sent = active.left == Span::ZERO;
            if is_sent {
                under_way.push(Reverse((now + active.path, active.message)));
            }
            !is_sent
        });
    }

    /// Chooses the messages to send from now on.
    fn plan(&mut self) {
        self.busy.fill([false; 2]);
        self.active.sort_by_key(|active| (active.left, active.message));
        self.next_sent = Time::NEVER;
        for active in &mut self.active {
            active.sends = !self.busy[active.from][0] && !self.busy[active.to][1];
            if active.sends {
                self.busy[active.from][0] = true;
                self.busy[active.to][1] = true;
                self.next_sent = self.next_sent.min(self.now + active.left);
            }
        }
    }

    fn arrived(&mut self, now: Time) -> Option<MessageId> {
        let &Reverse((at, message)) = self.under_way.peek()?;
        if at > now {
            return None;
        }
        self.under_way.pop();
        Some(message)
    }

    /// When something happens next.
    fn next(&self) -> Option<Time> {
        let ends = self.under_way.peek().map_or(Time::NEVER, |Reverse((at, _))| *at);
        Some(self.next_sent.min(ends)).filter(|at| *at != Time::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_message_takes_the_link_of_a_longer_one_at_once_and_gives_it_back() {
        let network = Topology::sigcomm18(1);
        let mut schedule = Schedule::new(network.clone());
        let time = |bytes| SIZE.message_time(bytes, network.host_rate);
        let idle = |from, bytes| network.idle_time(HostId(from), HostId(0), bytes, &SIZE);
        let begin = Time::from_ns(10_000);
        schedule.begin(Time::ZERO, MessageId(0), HostId(1), HostId(0), 100_000);
        // From another sender, to the same receiver.
        schedule.begin(begin, MessageId(1), HostId(2), HostId(0), 1_000);
        let mut ends = Vec::new();
        while let Some(at) = schedule.next() {
            schedule.advance(at);
            ends.extend(schedule.arrived(at).map(|message| (message.0, at)));
        }
        let delayed = Time::ZERO + idle(1, 100_000) + time(1_000);
        assert_eq!(ends, [(1, begin + idle(2, 1_000)), (0, delayed)]);
    }
}
