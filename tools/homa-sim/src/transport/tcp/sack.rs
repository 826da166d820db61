//! The scoreboard: segments that were sent, and what is known of them.
//!
//! A segment is lost when three that were sent after it have come (RFC 6675). One that was sent
//! again is lost again when one that was sent a quarter of a round trip later has come (RACK, RFC
//! 8985 §6.2), which RFC 6675 leaves to the timer.

use std::collections::VecDeque;

use crate::{
    event::MessageId,
    time::{Span, Time},
};

/// Segments that have come after a lost one.
const DUPLICATES: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// On its way, as far as is known.
    InFlight,
    /// With the receiver, which lacks something before.
    Held,
    /// To be sent again.
    Lost,
}

/// A segment that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) seq: u64,
    pub(super) bytes: u32,
    pub(super) push: bool,
    pub(super) fin: bool,
    pub(super) message: Option<MessageId>,
    sent_at: Time,
    again: bool,
    place: Place,
}

impl Sent {
    pub(super) fn new(seq: u64, bytes: u32, message: Option<MessageId>) -> Self {
        Self {
            seq,
            bytes,
            push: false,
            fin: false,
            message,
            sent_at: Time::ZERO,
            again: false,
            place: Place::InFlight,
        }
    }

    /// Sequence numbers that it takes.
    fn length(&self) -> u64 {
        u64::from(self.bytes) + u64::from(self.fin)
    }

    fn end(&self) -> u64 {
        self.seq + self.length()
    }
}

/// What an ACK shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// Bytes of which nothing was known before.
    pub(super) bytes: u64,
    /// The round trip of a segment that was sent once.
    pub(super) round_trip: Option<Span>,
    /// Segments were found lost.
    pub(super) losses: bool,
}

/// Segments that are not acknowledged, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Scoreboard {
    sent: VecDeque<Sent>,
    in_flight: u64,
    held: usize,
    held_to: u64,
    /// What was found lost, in the order in which it is sent again.
    lost: VecDeque<u64>,
    /// What was sent again, in this order.
    again: VecDeque<(u64, Time)>,
    /// Up to here three later segments have come.
    judged: u64,
    /// When the latest of the segments that have come was sent.
    latest: Time,
}

impl Scoreboard {
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Bytes in flight.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// When the first of the segments was sent.
    pub(super) fn oldest(&self) -> Option<Time> {
        self.sent.front().map(|sent| sent.sent_at)
    }

    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// A new segment is sent.
    pub(super) fn add(&mut self, now: Time, sent: Sent) {
        self.in_flight += sent.length();
        self.sent.push_back(Sent { sent_at: now, ..sent });
    }

    /// The next one to send again.
    pub(super) fn send_again(&mut self, now: Time) -> Option<Sent> {
        loop {
            let seq = self.lost.pop_front()?;
            let Some(index) = self.find(seq) else { continue };
            let sent = &mut self.sent[index];
            if sent.place != Place::Lost {
                continue;
            }
            (sent.place, sent.again, sent.sent_at) = (Place::InFlight, true, now);
            self.in_flight += sent.length();
            self.again.push_back((seq, now));
            return Some(*sent);
        }
    }

    /// An ACK came, with blocks of SACK.
    pub(super) fn acknowledge(
        &mut self,
        now: Time,
        ack: u64,
        blocks: &[(u64, u64)],
        round_trip: Option<Span>,
    ) -> Shown {
        let mut shown = Shown::default();
        while let Some(first) = self.sent.front().copied().filter(|sent| sent.end() <= ack) {
            self.sent.pop_front();
            match first.place {
                Place::Held => self.held -= 1,
                place => {
                    if place == Place::InFlight {
                        self.in_flight -= first.length();
                    }
                    shown.bytes += first.length();
                    self.latest = self.latest.max(first.sent_at);
                    if !first.again {
                        shown.round_trip = Some(now.since(first.sent_at));
                    }
                }
            }
        }
        for (first, end) in blocks.iter().filter(|(first, end)| ack <= *first && first < end) {
            shown.bytes += self.hold(*first, *end);
        }
        self.lost.retain(|seq| *seq >= ack);
        shown.losses = self.judge() | self.judge_again(round_trip);
        shown
    }

    /// All of the block has come. Returns the bytes of which that was not known.
    fn hold(&mut self, first: u64, end: u64) -> u64 {
        let begin = self.sent.partition_point(|sent| sent.seq < first);
        let mut bytes = 0;
        for sent in self.sent.range_mut(begin..) {
            if sent.end() > end {
                break;
            }
            if sent.place == Place::Held {
                continue;
            }
            if sent.place == Place::InFlight {
                self.in_flight -= sent.length();
            }
            sent.place = Place::Held;
            self.held += 1;
            self.held_to = self.held_to.max(sent.end());
            self.latest = self.latest.max(sent.sent_at);
            bytes += sent.length();
        }
        bytes
    }

    /// Finds segments after which three have come. Those sent again are left out.
    fn judge(&mut self) -> bool {
        if self.held < DUPLICATES {
            return false;
        }
        let mut after = self.sent.partition_point(|sent| sent.seq < self.held_to);
        let mut held = 0;
        while held < DUPLICATES {
            let Some(before) = after.checked_sub(1) else { return false };
            after = before;
            held += usize::from(self.sent[after].place == Place::Held);
        }
        let begin = self.sent.partition_point(|sent| sent.seq < self.judged);
        let mut found = false;
        for sent in self.sent.range_mut(begin.min(after)..after) {
            if sent.place == Place::InFlight && !sent.again {
                sent.place = Place::Lost;
                self.in_flight -= sent.length();
                self.lost.push_back(sent.seq);
                found = true;
            }
        }
        self.judged = self.judged.max(self.sent[after].seq);
        found
    }

    /// Finds segments that were sent again and before one that has come.
    fn judge_again(&mut self, round_trip: Option<Span>) -> bool {
        let patience = Span::from_ps(round_trip.unwrap_or(Span::ZERO).as_ps() / 4);
        let mut found = false;
        while let Some((seq, at)) = self.again.front().copied() {
            let index = self.find(seq);
            let waits = index.map(|index| &self.sent[index]);
            let waits = waits.is_some_and(|s| s.place == Place::InFlight && s.sent_at == at);
            if waits && self.latest <= at + patience {
                break;
            }
            self.again.pop_front();
            if let (true, Some(index)) = (waits, index) {
                self.in_flight -= self.sent[index].length();
                self.sent[index].place = Place::Lost;
                self.lost.push_back(seq);
                found = true;
            }
        }
        found
    }

    /// The timer has run out: all that is in flight is lost.
    pub(super) fn all_lost(&mut self) {
        self.lost.clear();
        self.again.clear();
        for sent in self.sent.iter_mut().filter(|sent| sent.place != Place::Held) {
            sent.place = Place::Lost;
            self.lost.push_back(sent.seq);
        }
        self.in_flight = 0;
    }

    fn find(&self, seq: u64) -> Option<usize> {
        self.sent.binary_search_by_key(&seq, |sent| sent.seq).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Option<Span> = None;

    /// Segments of 100 bytes, one sent each nanosecond.
    fn board(segments: u64) -> Scoreboard {
        let mut board = Scoreboard::default();
        for index in 0..segments {
            board.add(Time::from_ns(index), Sent::new(100 * index, 100, None));
        }
        board
    }

    fn lost(board: &mut Scoreboard, now: Time) -> Vec<u64> {
        std::iter::from_fn(|| board.send_again(now)).map(|sent| sent.seq / 100).collect()
    }

    #[test]
    fn a_segment_is_lost_when_three_after_it_have_come_and_not_before() {
        let mut board = board(10);
        let now = Time::from_ns(100);
        let shown = board.acknowledge(now, 200, &[(300, 500)], NONE);
        assert_eq!((shown.bytes, shown.losses, board.in_flight()), (400, false, 600));
        assert_eq!(shown.round_trip, Some(Span::from_ns(99)), "of the second");
        assert!(board.acknowledge(now, 200, &[(300, 600)], NONE).losses);
        assert_eq!(lost(&mut board, now), [2]);
    }

    #[test]
    fn several_losses_of_a_window_are_found_at_once() {
        let mut board = board(20);
        let now = Time::from_ns(100);
        let blocks = [(900, 2000), (600, 800), (300, 500)];
        let shown = board.acknowledge(now, 100, &blocks, NONE);
        assert!(shown.losses);
        assert_eq!(board.in_flight(), 0);
        assert_eq!(lost(&mut board, now), [1, 2, 5, 8]);
        assert_eq!(board.in_flight(), 400);
        let all = board.acknowledge(Time::from_ns(200), 2000, &[], NONE);
        assert_eq!((all.bytes, all.round_trip), (400, None), "Karn: none of what was sent again");
        assert!(board.is_empty() && board.in_flight() == 0);
    }

    #[test]
    fn what_was_sent_again_is_lost_again_when_something_sent_later_has_come() {
        let mut board = board(6);
        board.acknowledge(Time::from_ns(50), 100, &[(200, 600)], NONE);
        assert_eq!(lost(&mut board, Time::from_ns(60)), [1]);
        let tick = Some(Span::from_ns(40));
        board.add(Time::from_ns(65), Sent::new(600, 100, None));
        assert!(
            !board.acknowledge(Time::from_ns(99), 100, &[(200, 700)], tick).losses,
            "reordered"
        );
        board.add(Time::from_ns(80), Sent::new(700, 100, None));
        assert!(board.acknowledge(Time::from_ns(99), 100, &[(200, 800)], tick).losses);
        assert_eq!(lost(&mut board, Time::from_ns(99)), [1]);
    }

    #[test]
    fn after_a_timeout_all_is_sent_again_but_what_the_receiver_holds() {
        let mut board = board(6);
        board.acknowledge(Time::from_ns(50), 0, &[(200, 300)], NONE);
        board.all_lost();
        assert_eq!(lost(&mut board, Time::from_ns(60)), [0, 1, 3, 4, 5]);
    }
}
