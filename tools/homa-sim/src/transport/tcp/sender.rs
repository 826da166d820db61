//! The half of a connection that sends: the stream, loss recovery, the window.

use std::collections::VecDeque;

use super::{
    congestion::Congestion,
    sack::{Scoreboard, Sent},
    segment::{MSS, Segment},
    settings::{Settings, ms},
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

/// What was handed to the NIC at a time.
#[derive(Clone, Copy, Debug)]
struct Burst {
    end: u64,
    at: Time,
}

/// Bytes of a segment.
const FULL: u64 = MSS as u64;
/// Most bytes of a connection that wait at the NIC (`tcp_limit_output_bytes`).
const QUEUED_MAX: u64 = 1 << 20;

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
    /// What waits at the NIC, and whether it has begun the first of it.
    queued: VecDeque<Burst>,
    is_bursting: bool,
    /// Most bytes in flight since the window held something back, or they were looked at.
    used: u64,
    used_since: Time,
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
            queued: VecDeque::new(),
            is_bursting: false,
            used: 0,
            used_since: Time::ZERO,
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

    /// Bytes that wait at the NIC.
    #[cfg(test)]
    pub(super) fn queued_bytes(&self) -> u64 {
        self.handed() - self.next
    }

    /// The most bytes that wait there in one burst.
    #[cfg(test)]
    pub(super) fn longest_burst(&self) -> u64 {
        let ends = || self.queued.iter().map(|burst| burst.end);
        let begins = std::iter::once(self.next).chain(ends());
        ends().zip(begins).map(|(end, begin)| end - begin).max().unwrap_or(0)
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
        self.flights.1 = self.flights.1.max(self.in_flight());
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
            self.recovery = Some((self.handed(), Cause::Duplicates));
            self.congestion.lost();
            self.allowance = true;
        }
        let held = self.congestion.observed(shown.bytes, segment.echo, segment.ack, self.handed());
        let repairs = matches!(self.recovery, Some((_, Cause::Duplicates)));
        if fresh && !repairs && !held && self.window_limits() {
            self.congestion.acknowledged(now, shown.bytes, self.rto.round_trip());
        }
        if segment.ack >= self.round_end {
            self.round_end = self.handed();
            self.flights = (self.flights.1, self.in_flight());
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
            false => flight + FULL > window,
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
        self.recovery = Some((self.handed(), Cause::Timeout));
        self.scoreboard.all_lost();
    }

    /// Sequence numbers that the next new segment takes.
    fn next_length(&self) -> u64 {
        match self.messages.get(self.sent_messages) {
            Some((end, _)) => (end - self.next).min(FULL),
            None => u64::from(self.closes && !self.closed),
        }
    }

    /// The next segment to send: of what is lost first.
    pub(super) fn transmit(
        &mut self,
        now: Time,
        timeout: Span,
        settings: &Settings,
    ) -> Option<Sent> {
        let in_flight = self.in_flight();
        let room = self.congestion.window_bytes().saturating_sub(in_flight);
        if self.scoreboard.has_lost() && (self.allowance || in_flight == 0 || room >= FULL) {
            if let Some(sent) = self.scoreboard.send_again(now) {
                self.allowance = false;
                self.counts.retransmissions += 1;
                self.last_sent = now;
                return Some(sent);
            }
        }
        if self.queued.is_empty() {
            self.hand_over_one(now, timeout, settings);
        }
        let burst = *self.queued.front()?;
        let length = self.next_length().min(burst.end - self.next);
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
        self.scoreboard.add(burst.at, sent);
        self.is_bursting = self.next < burst.end;
        if !self.is_bursting {
            self.queued.pop_front();
        }
        Some(sent)
    }

    /// Whether the NIC has begun a burst that it has not ended.
    pub(super) fn is_bursting(&self) -> bool {
        self.is_bursting
    }

    /// Hands all to the NIC that the window has room for.
    pub(super) fn hand_over(&mut self, now: Time, timeout: Span, settings: &Settings) {
        while self.hand_over_one(now, timeout, settings) {}
    }

    /// Hands a burst to the NIC. Returns whether there was one.
    fn hand_over_one(&mut self, now: Time, timeout: Span, settings: &Settings) -> bool {
        let first = self.handed();
        let unsent = self.end + u64::from(self.closes) - first;
        let segment = if self.queued.is_empty() { self.next_length() } else { unsent.min(FULL) };
        if segment == 0 || first + segment > self.edge {
            return false;
        }
        let is_idle = self.scoreboard.is_empty() && self.queued.is_empty();
        if is_idle {
            self.congestion.resumed(now.since(self.last_sent), timeout);
        }
        let longest = settings.offload.map_or(0, |offload| u64::from(offload.send_bytes));
        let window = self.congestion.window_bytes();
        let room = window.saturating_sub(self.in_flight()).min(self.edge - first);
        let waits = room < segment
            || self.awaits_room(now, room, unsent.min(longest))
            || self.waits_for_nic(longest);
        if waits && !is_idle {
            return false;
        }
        // There are two bursts in a window at least.
        let most = longest.min(window / 2).min(room);
        let bytes = if most < unsent { most - most % FULL } else { unsent };
        self.queued.push_back(Burst { end: first + bytes.max(segment), at: now });
        self.last_sent = now;
        self.validate(now, timeout);
        true
    }

    /// Whether an ACK is about to make room for a longer burst: there is less than a third of the
    /// window, and what is in flight is on its way for half of a round trip.
    fn awaits_room(&self, now: Time, room: u64, wanted: u64) -> bool {
        let third = self.congestion.window_bytes() / 3;
        let half = self.rto.round_trip().unwrap_or(Span::ZERO).as_ps() / 2;
        let queued = self.queued.front().map(|burst| burst.at);
        room < wanted.min(third)
            && self.recovery.is_none()
            && self.scoreboard.oldest().or(queued).is_some_and(|at| now.since(at).as_ps() >= half)
    }

    /// Whether as much waits at the NIC as may (TSQ): two bursts, or what leaves in a millisecond
    /// at the rate at which Linux would pace.
    fn waits_for_nic(&self, longest: u64) -> bool {
        let rounds = self.rto.round_trip().map_or(0.0, |rtt| ms(1).as_secs() / rtt.as_secs());
        let paced = self.congestion.pacing_gain() * self.congestion.window_bytes() as f64 * rounds;
        let most = (paced as u64).min(QUEUED_MAX).max(2 * longest);
        self.handed() - self.next >= most && !self.queued.is_empty()
    }

    /// The end of what was handed to the NIC.
    fn handed(&self) -> u64 {
        self.queued.back().map_or(self.next, |burst| burst.end)
    }

    /// Bytes that have left, or wait at the NIC, and are not acknowledged.
    fn in_flight(&self) -> u64 {
        self.scoreboard.in_flight() + self.handed() - self.next
    }

    /// Notes how much of the window is used.
    fn validate(&mut self, now: Time, timeout: Span) {
        let in_flight = self.in_flight();
        let limited = in_flight + FULL > self.congestion.window_bytes();
        self.used = if limited { 0 } else { self.used.max(in_flight) };
        let is_due = now.since(self.used_since) >= timeout;
        if is_due && !limited {
            self.congestion.unused(self.used);
            self.used = 0;
        }
        if is_due || limited {
            self.used_since = now;
        }
    }
}
