//! The half of a connection that sends: the stream, loss recovery, the window.

use std::collections::VecDeque;

use super::{
    congestion::Congestion,
    sack::{Scoreboard, Sent},
    segment::{MSS, Segment},
    settings::Settings,
    timers::Rto,
};
use crate::{
    event::MessageId,
    time::{Span, Time},
};

/// Why losses are repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Duplicates,
    Timeout,
}

/// What is to be sent and what was.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    /// The first number that is not acknowledged.
    acknowledged: u64,
    /// The first that was not sent.
    next: u64,
    /// Messages of the stream that were not acknowledged whole, by their ends.
    messages: VecDeque<(u64, MessageId)>,
    /// How many of them were sent whole.
    sent_messages: usize,
    /// The end of the stream as the application wrote it.
    end: u64,
    closes: bool,
    closed: bool,
    /// The end of the receiver's window.
    edge: u64,
    scoreboard: Scoreboard,
    congestion: Congestion,
    pub(super) rto: Rto,
    /// Repair of losses, until everything up to here is acknowledged.
    recovery: Option<(u64, Cause)>,
    /// A segment may be sent whatever is in flight.
    allowance: bool,
    last_sent: Time,
    /// Most bytes in flight of the round before and of this one, which ends here.
    flights: (u64, u64),
    round_end: u64,
    /// Segments that were sent again, and timeouts.
    pub(super) counts: Counts,
}

/// What repair of losses did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Segments that were sent again.
    pub retransmissions: u64,
    /// Times that the retransmission timer has run out.
    pub timeouts: u64,
}

impl Sender {
    /// A stream whose first byte has the number `first`.
    pub(super) fn new(first: u64, settings: &Settings) -> Self {
        Self {
            acknowledged: first,
            next: first,
            messages: VecDeque::new(),
            sent_messages: 0,
            end: first,
            closes: false,
            closed: false,
            edge: first,
            scoreboard: Scoreboard::default(),
            congestion: Congestion::new(settings),
            rto: Rto::new(),
            recovery: None,
            allowance: false,
            last_sent: Time::ZERO,
            flights: (0, 0),
            round_end: first,
            counts: Counts::default(),
        }
    }

    /// The application writes a message.
    pub(super) fn write(&mut self, message: MessageId, bytes: u32) {
        self.end += u64::from(bytes);
        self.messages.push_back((self.end, message));
    }

    /// The application has written everything: a FIN follows.
    pub(super) fn close(&mut self) {
        self.closes = true;
    }

    /// Whether the FIN was acknowledged.
    pub(super) fn is_finished(&self) -> bool {
        self.closed && self.scoreboard.is_empty()
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The number that a segment without data has.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub(super) fn is_idle(&self) -> bool {
        self.scoreboard.is_empty()
    }

    fn has_unsent(&self) -> bool {
        self.next < self.end || (self.closes && !self.closed)
    }

    /// Whether only the receiver's window holds the sender back: nothing that would tell of its
    /// opening is on its way.
    pub(super) fn is_blocked(&self) -> bool {
        self.has_unsent()
            && self.scoreboard.is_empty()
            && self.next + self.next_length() > self.edge
    }

    #[cfg(test)]
    pub(super) fn window_bytes(&self) -> u64 {
        self.congestion.window_bytes()
    }

    /// Gives memory back that only an open connection needs.
    pub(super) fn release(&mut self) {
        (self.messages, self.scoreboard) = (VecDeque::new(), Scoreboard::default());
    }

    /// Messages of which something was not acknowledged.
    pub(super) fn open_messages(&self) -> u64 {
        self.messages.len() as u64
    }

    /// An acknowledgement has come. Returns whether it acknowledges what was not before.
    pub(super) fn acknowledge(&mut self, now: Time, segment: &Segment) -> bool {
        if segment.ack > self.next || segment.ack < self.acknowledged {
            return false;
        }
        self.edge = self.edge.max(segment.ack + u64::from(segment.window));
        let fresh = segment.ack > self.acknowledged;
        let round_trip = self.rto.round_trip();
        self.flights.1 = self.flights.1.max(self.scoreboard.in_flight());
        let shown = self.scoreboard.acknowledge(now, segment.ack, &segment.sack, round_trip);
        self.acknowledged = segment.ack;
        while self.messages.front().is_some_and(|(end, _)| *end <= segment.ack) {
            self.messages.pop_front();
            self.sent_messages -= 1;
        }
        if let Some(rtt) = shown.round_trip {
            self.rto.sample(rtt);
        }
        if fresh {
            self.rto.timeouts = 0;
        }
        if self.recovery.is_some_and(|(until, _)| segment.ack >= until) {
            self.recovery = None;
        }
        if shown.losses && self.recovery.is_none() {
            self.recovery = Some((self.next, Cause::Duplicates));
            self.congestion.lost();
            self.allowance = true;
        }
        let held = self.congestion.observed(shown.bytes, segment.echo, segment.ack, self.next);
        let repairs = matches!(self.recovery, Some((_, Cause::Duplicates)));
        if fresh && !repairs && !held && self.window_limits() {
            self.congestion.acknowledged(now, shown.bytes, self.rto.round_trip());
        }
        if segment.ack >= self.round_end {
            self.round_end = self.next;
            self.flights = (self.flights.1, self.scoreboard.in_flight());
        }
        fresh
    }

    /// Whether the congestion window was what held the sender back of late (RFC 7661).
    fn window_limits(&self) -> bool {
        let flight = self.flights.0.max(self.flights.1);
        let window = self.congestion.window_bytes();
        let timeout = matches!(self.recovery, Some((_, Cause::Timeout)));
        match self.congestion.is_slow_start() {
            true => timeout || 2 * flight > window,
            false => flight + u64::from(MSS) > window,
        }
    }

    /// The retransmission timer has run out.
    pub(super) fn timed_out(&mut self) {
        self.counts.timeouts += 1;
        self.rto.timeouts += 1;
        // Only the first of several timeouts says something about the window (RFC 5681 §3.1).
        if !matches!(self.recovery, Some((_, Cause::Timeout))) {
            self.congestion.timed_out();
        }
        self.recovery = Some((self.next, Cause::Timeout));
        self.scoreboard.all_lost();
    }

    /// Sequence numbers that the next new segment takes.
    fn next_length(&self) -> u64 {
        match self.messages.get(self.sent_messages) {
            Some((end, _)) => (end - self.next).min(u64::from(MSS)),
            None => u64::from(self.closes && !self.closed),
        }
    }

    /// The next segment to send: of what is lost first.
    pub(super) fn transmit(&mut self, now: Time, timeout: Span) -> Option<Sent> {
        let in_flight = self.scoreboard.in_flight();
        let room = self.congestion.window_bytes().saturating_sub(in_flight);
        let full = u64::from(MSS);
        if self.scoreboard.has_lost() && (self.allowance || in_flight == 0 || room >= full) {
            if let Some(sent) = self.scoreboard.send_again(now) {
                self.allowance = false;
                self.counts.retransmissions += 1;
                self.last_sent = now;
                return Some(sent);
            }
        }
        let length = self.next_length();
        if !self.has_unsent() || self.next + length > self.edge {
            return None;
        }
        if self.scoreboard.is_empty() {
            self.congestion.resumed(now.since(self.last_sent), timeout);
        } else if room < length {
            return None;
        }
        let mut sent = Sent::new(self.next, length as u32, None);
        match self.messages.get(self.sent_messages).copied() {
            Some((end, message)) => {
                sent.message = Some(message);
                sent.push = self.next + length == end;
                self.sent_messages += usize::from(sent.push);
            }
            None => {
                (sent.bytes, sent.fin) = (0, true);
                self.closed = true;
            }
        }
        self.next += length;
        self.last_sent = now;
        self.scoreboard.add(now, sent);
        Some(sent)
    }
}
