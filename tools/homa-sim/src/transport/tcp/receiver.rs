//! The half of a connection that receives: reassembly, acknowledgements, the window.

use std::collections::{BTreeMap, VecDeque};

use super::segment::{MSS, SACK_BLOCKS, Segment};
use crate::event::MessageId;

/// When a segment is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// There is nothing to acknowledge.
    None,
    /// With the next segment, or when the timer has run out.
    Later,
    Now,
}

/// What was received of a stream.
#[derive(Clone, Debug)]
pub(super) struct Receiver {
    /// The first byte that has not come.
    next: u64,
    /// What has come beyond, the latest first.
    ranges: Vec<(u64, u64)>,
    /// Messages that end beyond `taken`.
    ends: BTreeMap<u64, MessageId>,
    arrived: VecDeque<MessageId>,
    /// The number of the FIN, which ends the stream.
    fin: Option<u64>,
    buffer_bytes: u32,
    /// Bytes that the application has not read.
    unread: u64,
    /// The end of the window that the sender knows.
    edge: u64,
    /// Bytes that came since the last acknowledgement.
    unacknowledged: u64,
    /// Whether the last packet bore a mark of congestion.
    marked: bool,
}

impl Receiver {
    pub(super) fn new(next: u64, buffer_bytes: u32) -> Self {
        Self {
            next,
            ranges: Vec::new(),
            ends: BTreeMap::new(),
            arrived: VecDeque::new(),
            fin: None,
            buffer_bytes,
            unread: 0,
            edge: next + u64::from(buffer_bytes),
            unacknowledged: 0,
            marked: false,
        }
    }

    /// Whether the stream has ended.
    pub(super) fn is_finished(&self) -> bool {
        self.fin.is_some_and(|fin| self.next > fin)
    }

    /// The next message that has come whole.
    pub(super) fn arrived(&mut self) -> Option<MessageId> {
        self.arrived.pop_front()
    }

    /// Bytes that the application can read.
    pub(super) fn unread(&self) -> u64 {
        self.unread
    }

    /// The application reads. Returns whether the sender should hear of the room (RFC 9293
    /// §3.8.6.2.2).
    pub(super) fn read(&mut self, bytes: u64) -> bool {
        self.unread -= bytes.min(self.unread);
        let gain = (self.next + self.room()).saturating_sub(self.edge);
        let known = self.edge.saturating_sub(self.next);
        known < u64::from(MSS) && gain >= u64::from(MSS.min(self.buffer_bytes / 2))
    }

    fn room(&self) -> u64 {
        u64::from(self.buffer_bytes).saturating_sub(self.unread)
    }

    /// Whether a packet with this mark has to wait until what came before it is acknowledged: the
    /// sender counts marked bytes (RFC 8257 §3.2).
    pub(super) fn changes_mark(&self, marked: bool) -> bool {
        self.marked != marked && self.unacknowledged > 0
    }

    /// A packet has come with a mark of congestion, or without.
    pub(super) fn mark(&mut self, marked: bool) {
        self.marked = marked;
    }

    /// Takes a segment.
    pub(super) fn receive(&mut self, segment: &Segment, message: Option<MessageId>) -> Urgency {
        let end = segment.end();
        if segment.seq == end {
            // A probe of the window, or of life, comes from before.
            return if segment.seq < self.next { Urgency::Now } else { Urgency::None };
        }
        if end <= self.next || end > self.edge + u64::from(segment.fin) {
            return Urgency::Now;
        }
        if segment.fin {
            self.fin = Some(end - 1);
        }
        let message_end = end - u64::from(segment.fin);
        if let (true, Some(message)) = (segment.push, message) {
            self.ends.insert(message_end, message);
        }
        let in_order = segment.seq <= self.next && self.ranges.is_empty();
        match in_order {
            true => self.advance(end),
            false => self.insert(segment.seq, end),
        }
        // As Linux: the end of a message is a short segment, and with the next one, which may be
        // all that the window has room for, there are less than two full ones.
        let whole = !in_order || segment.fin || self.unacknowledged > u64::from(MSS);
        if whole { Urgency::Now } else { Urgency::Later }
    }

    /// All before `end` has come.
    fn advance(&mut self, end: u64) {
        let came = end.saturating_sub(self.next);
        self.next = end;
        self.unacknowledged += came;
        self.unread += came - u64::from(came > 0 && self.is_finished());
        while let Some(entry) = self.ends.first_entry().filter(|entry| *entry.key() <= end) {
            self.arrived.push_back(entry.remove());
        }
    }

    /// Notes what came out of order, and joins it with what it touches.
    fn insert(&mut self, first: u64, end: u64) {
        let (mut first, mut end) = (first.max(self.next), end);
        self.ranges.retain(|range| {
            let apart = range.1 < first || end < range.0;
            if !apart {
                (first, end) = (first.min(range.0), end.max(range.1));
            }
            apart
        });
        if first == self.next {
            self.advance(end);
        } else {
            self.ranges.insert(0, (first, end));
        }
    }

    /// Puts what is known into a segment to send, which acknowledges it.
    pub(super) fn acknowledge(&mut self, segment: &mut Segment) {
        self.unacknowledged = 0;
        self.edge = self.edge.max(self.next + self.room());
        segment.ack = self.next;
        segment.window = u32::try_from(self.edge - self.next.min(self.edge)).unwrap_or(u32::MAX);
        segment.echo = self.marked;
        for (block, range) in segment.sack[..SACK_BLOCKS].iter_mut().zip(&self.ranges) {
            *block = *range;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::segment::{Flow, Kind},
        *,
    };

    fn segment(seq: u64, bytes: u32) -> Segment {
        let flow = Flow { port: 1, to_listener: true };
        Segment { bytes, ..Segment::new(flow, Kind::Ack, seq, 0) }
    }

    fn ack(receiver: &mut Receiver) -> Segment {
        let mut ack = segment(0, 0);
        receiver.acknowledge(&mut ack);
        ack
    }

    #[test]
    fn blocks_of_sack_name_the_latest_first_and_go_when_the_hole_is_filled() {
        let mut receiver = Receiver::new(0, 1 << 20);
        for first in [1, 3, 5, 7] {
            assert_eq!(receiver.receive(&segment(100 * first, 100), None), Urgency::Now);
        }
        let shown = ack(&mut receiver);
        assert_eq!((shown.ack, shown.sack), (0, [(700, 800), (500, 600), (300, 400)]));
        receiver.receive(&segment(400, 100), None);
        assert_eq!(ack(&mut receiver).sack[0], (300, 600));
        assert_eq!(receiver.receive(&segment(0, 100), None), Urgency::Now);
        assert_eq!(ack(&mut receiver).ack, 200);
    }

    #[test]
    fn a_full_segment_after_the_short_end_of_a_message_is_acknowledged_at_once() {
        let mut receiver = Receiver::new(0, 1 << 20);
        assert_eq!(receiver.receive(&segment(0, MSS - 200), None), Urgency::Later);
        assert_eq!(receiver.receive(&segment(u64::from(MSS) - 200, MSS), None), Urgency::Now);
    }

    #[test]
    fn every_second_full_segment_is_acknowledged_at_once() {
        let mut receiver = Receiver::new(0, 1 << 20);
        let full = u64::from(MSS);
        assert_eq!(receiver.receive(&segment(0, MSS), None), Urgency::Later);
        assert_eq!(receiver.receive(&segment(full, MSS), None), Urgency::Now);
        assert_eq!(ack(&mut receiver).ack, 2 * full);
        assert_eq!(receiver.receive(&segment(2 * full, MSS), None), Urgency::Later);
    }

    #[test]
    fn a_change_of_marks_is_told_with_what_came_before_it() {
        let mut receiver = Receiver::new(0, 1 << 20);
        assert!(!receiver.changes_mark(true), "nothing waits for an acknowledgement");
        receiver.mark(true);
        receiver.receive(&segment(0, MSS), None);
        assert!(!receiver.changes_mark(true));
        assert!(receiver.changes_mark(false));
        assert!(ack(&mut receiver).echo, "of what came before");
        receiver.mark(false);
        assert!(!ack(&mut receiver).echo);
    }

    #[test]
    fn the_window_closes_with_what_is_not_read_and_opens_by_a_segment_at_least() {
        let mut receiver = Receiver::new(0, 4 * MSS);
        for index in 0..4 {
            receiver.receive(&segment(index * u64::from(MSS), MSS), None);
        }
        assert_eq!(ack(&mut receiver).window, 0);
        assert_eq!(receiver.receive(&segment(4 * u64::from(MSS), 1), None), Urgency::Now);
        assert_eq!(ack(&mut receiver).ack, 4 * u64::from(MSS), "beyond the window");
        assert!(!receiver.read(100));
        assert!(receiver.read(u64::from(MSS)));
    }
}
