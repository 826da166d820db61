//! Packets that wait for the NIC's interrupt, and how they are joined then (GRO).

use std::collections::HashMap;

use super::{
    segment::{Flow, Kind, Segment},
    settings::Offload,
};
use crate::{
    event::{HostId, MessageId},
    time::Time,
};

/// A packet, or several that are one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    pub(super) from: HostId,
    pub(super) segment: Segment,
    pub(super) message: Option<MessageId>,
    /// Whether they bear a mark of congestion.
    pub(super) marked: bool,
}

/// Packets that have arrived since the last interrupt.
#[derive(Debug)]
pub(super) struct Interrupts {
    offload: Option<Offload>,
    due: Option<Time>,
    latest: Option<Time>,
    packets: usize,
    waiting: Vec<Arrived>,
    /// The last of each connection.
    last: HashMap<(HostId, Flow), usize>,
}

impl Interrupts {
    pub(super) fn new(offload: Option<Offload>) -> Self {
        Self {
            offload,
            due: None,
            latest: None,
            packets: 0,
            waiting: Vec::new(),
            last: HashMap::new(),
        }
    }

    /// A packet has come. Returned if it does not wait.
    pub(super) fn add(&mut self, now: Time, arrived: Arrived) -> Option<Arrived> {
        let Some(offload) = self.offload else { return Some(arrived) };
        self.packets += 1;
        let next = self.latest.map_or(now, |latest| latest + offload.interrupt_gap);
        let is_full = self.packets >= offload.interrupt_packets;
        self.due = Some(if is_full { now } else { next.max(now) });
        let flow = (arrived.from, arrived.segment.flow);
        let last = self.last.get(&flow).map(|index| &mut self.waiting[*index]);
        if !last.is_some_and(|last| last.join(&arrived, offload.receive_bytes)) {
            self.last.insert(flow, self.waiting.len());
            self.waiting.push(arrived);
        }
        None
    }

    /// When the NIC interrupts.
    pub(super) fn due(&self) -> Option<Time> {
        self.due
    }

    /// What is received now, in the order in which it has come.
    pub(super) fn take_due(&mut self, now: Time) -> Vec<Arrived> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        (self.due, self.latest, self.packets) = (None, Some(now), 0);
        self.last.clear();
        std::mem::take(&mut self.waiting)
    }
}

impl Arrived {
    /// Joins the next packet of the connection if it differs in nothing but its place: a mark, or
    /// the end of a message, ends a segment.
    fn join(&mut self, next: &Self, bytes_max: u32) -> bool {
        let Segment { seq, bytes, push, fin, .. } = self.segment;
        let alike = Segment { seq, bytes, push, fin, ..next.segment } == self.segment;
        let joins = alike
            && self.marked == next.marked
            && next.segment.kind == Kind::Ack
            && (bytes > 0 && next.segment.bytes > 0 && !push && !fin)
            && self.segment.end() == next.segment.seq
            && bytes + next.segment.bytes <= bytes_max;
        if joins {
            self.segment.bytes += next.segment.bytes;
            (self.segment.push, self.segment.fin) = (next.segment.push, next.segment.fin);
            self.message = next.message;
        }
        joins
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{segment::MSS, settings::ms},
        *,
    };

    /// The packet `index` of a stream.
    fn packet(index: u64) -> Arrived {
        let flow = Flow { port: 1, to_listener: true };
        let segment = Segment::new(flow, Kind::Ack, index * u64::from(MSS), 0);
        let segment = Segment { bytes: MSS, ..segment };
        Arrived { from: HostId(1), segment, message: Some(MessageId(1)), marked: false }
    }

    /// Packets of each segment that is received of packets that wait together.
    fn joined(packets: &[Arrived]) -> Vec<u32> {
        let mut interrupts = Interrupts::new(Some(Offload::LINUX));
        for packet in packets {
            assert_eq!(interrupts.add(Time::ZERO, *packet), None);
        }
        let taken = interrupts.take_due(Time::ZERO);
        taken.iter().map(|arrived| arrived.segment.bytes.div_ceil(MSS)).collect()
    }

    #[test]
    fn packets_that_follow_each_other_are_one_segment_of_up_to_64_kb() {
        let stream: Vec<_> = (0..100).map(packet).collect();
        assert_eq!(joined(&stream), [45, 45, 10]);
        assert_eq!(joined(&[packet(0), packet(2), packet(3)]), [1, 2], "after a hole");
        let other = |arrived: Arrived| Arrived { from: HostId(2), ..arrived };
        assert_eq!(joined(&[packet(0), other(packet(0)), packet(1), other(packet(1))]), [2, 2]);
    }

    #[test]
    fn a_change_of_marks_and_the_end_of_a_message_end_a_segment_and_acks_are_not_joined() {
        let marked = |arrived: Arrived| Arrived { marked: true, ..arrived };
        let stream = [packet(0), marked(packet(1)), marked(packet(2)), packet(3)];
        assert_eq!(joined(&stream), [1, 2, 1]);
        let mut stream = [packet(0), packet(1), packet(2)];
        stream[1].segment.push = true;
        assert_eq!(joined(&stream), [2, 1]);
        let ack = |arrived: Arrived| {
            let segment = Segment { bytes: 0, seq: 0, ..arrived.segment };
            Arrived { segment, ..arrived }
        };
        assert_eq!(joined(&[ack(packet(0)), ack(packet(0))]), [0, 0]);
    }

    #[test]
    fn a_packet_after_silence_is_received_at_once_and_the_next_ones_wait_for_the_gap_or_enough() {
        let offload = Offload { interrupt_gap: ms(1), ..Offload::LINUX };
        let mut interrupts = Interrupts::new(Some(offload));
        let begin = Time::ZERO + ms(5);
        interrupts.add(begin, packet(0));
        assert_eq!(interrupts.due(), Some(begin));
        assert_eq!(interrupts.take_due(begin).len(), 1);
        interrupts.add(begin, packet(1));
        assert_eq!((interrupts.due(), interrupts.take_due(begin)), (Some(begin + ms(1)), vec![]));
        for index in 2..33 {
            interrupts.add(begin, packet(index));
        }
        assert_eq!(interrupts.due(), Some(begin));
    }

    #[test]
    fn without_offload_nothing_waits() {
        let mut interrupts = Interrupts::new(None);
        assert_eq!(interrupts.add(Time::ZERO, packet(0)), Some(packet(0)));
        assert_eq!(interrupts.due(), None);
    }
}
