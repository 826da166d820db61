//! The receiving side of one message: what has arrived, what was granted, what memory it holds.

use core::time::Duration;

use crate::structures::reassembly::Reassembly;
use crate::time::Instant;

/// Unit in which memory for long messages is accounted, and to be allocated, in bytes. Messages up
/// to this length are accounted as one piece of their own size.
pub const PIECE_BYTES: u32 = 1 << 16;

/// A sender moves if it sends at least one part in so many of what is granted and missing; with
/// less it counts as silent.
const MOVEMENT_PART: u32 = 16;

/// Granularity of the memory account for messages shorter than a piece.
const SMALL_BYTES: u32 = 256;

/// Where grant management keeps a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrantState {
    /// Not managed: wholly unscheduled, complete, or not yet seen.
    Out,
    /// Gets ordinary grants.
    Active,
    /// Waits in its sender's queue.
    Queued,
}

/// Bytes that may be sent and have not come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OnItsWay {
    /// On the sender's word.
    pub(super) announced: u32,
    /// By a grant.
    pub(super) granted: u32,
}

impl OnItsWay {
    pub(crate) const NOTHING: Self = Self { announced: 0, granted: 0 };

    pub(crate) fn bytes(self) -> u64 {
        u64::from(self.announced).saturating_add(u64::from(self.granted))
    }
}

/// Receiver's state of one message.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// What has arrived. Length 0 = no message yet.
    pub(super) data: Reassembly,
    /// The sender may send everything below this.
    pub(super) granted: u32,
    /// What it sends of that without a grant.
    pub(super) announced: u32,
    /// What the sender has been told of `granted`: a GRANT may wait to be sent.
    pub(super) granted_told: u32,
    /// End of what came while there was no memory for it: its sender does not send it again for a
    /// grant alone.
    pub(super) refused_upto: u32,
    /// Where that begins of it which was granted and not asked for, [`u32::MAX`] if there is none.
    refused_from: u32,
    refused_asked_at: Option<Instant>,
    /// Order of creation within the engine: smaller is older.
    pub(super) birth: u64,
    /// Level named in the last GRANT.
    pub(super) priority: u8,
    /// Bytes the application has taken.
    pub(super) consumed: u32,
    /// The application reads it as a stream: unread bytes are bounded, progress is reported.
    pub(super) streaming: bool,
    /// End of the part that memory is reserved for.
    pub(super) reserved_upto: u32,
    /// Index of its host in the account of memory, `u32::MAX` if it is not counted there.
    pub(super) holder: u32,
    /// Bytes of memory that count against the share of strangers.
    pub(super) stranger_bytes: u64,
    /// Grant window in bytes that the peer's settings demand; 0 = as configured.
    pub(super) window: u32,
    /// The unscheduled part found no memory: nothing is accepted until it does.
    pub(super) starved: bool,
    /// Packets sent again that were not there yet, since one was.
    pub(super) copies_used: u32,
    /// Its sender did not react to the last question.
    pub(super) silent: bool,
    /// Its sender has not proved its address.
    pub(super) unproved: bool,
    /// It takes no part in grants until data comes, or its reader takes some.
    pub(super) passed_over: bool,
    /// When it last moved ([`Incoming::moves`]), or was granted some while none was on its way.
    pub(super) moved_at: Instant,
    /// Bytes received by then.
    moved_bytes: u32,
    /// The granter's count of arrived bytes at which all has come that was on its way before that
    /// grant.
    pub(super) behind: u64,
    /// Part in what the granter counts for its sender.
    pub(super) counted: OnItsWay,
    pub(super) grant_state: GrantState,
    /// Index of its sender in the granter while managed, `u32::MAX` otherwise.
    pub(super) sender: u32,
    /// More could be granted, but `max_incoming` or memory had no room.
    pub(super) needy: bool,
    /// Waits in the granter's list of messages to look at.
    pub(super) grant_check: bool,
    /// A GRANT has to be sent (again) although `granted` does not change.
    pub(super) grant_due: bool,
}

impl Incoming {
    #[inline(always)]
    pub(crate) fn none() -> Self {
        Self {
            data: Reassembly::new(0),
            granted: 0,
            announced: 0,
            granted_told: 0,
            refused_upto: 0,
            refused_from: u32::MAX,
            refused_asked_at: None,
            birth: 0,
            priority: 0,
            consumed: 0,
            streaming: false,
            reserved_upto: 0,
            holder: u32::MAX,
            stranger_bytes: 0,
            window: 0,
            starved: false,
            copies_used: 0,
            silent: false,
            unproved: false,
            passed_over: false,
            moved_at: Instant::ZERO,
            moved_bytes: 0,
            behind: 0,
            counted: OnItsWay::NOTHING,
            grant_state: GrantState::Out,
            sender: u32::MAX,
            needy: false,
            grant_check: false,
            grant_due: false,
        }
    }

    pub(crate) fn new(length: u32, unscheduled: u32, birth: u64) -> Self {
        let mut rx = Self::none();
        rx.begin(length, unscheduled, birth);
        rx
    }

    /// Begins a message; there was none before.
    #[inline]
    pub(crate) fn begin(&mut self, length: u32, unscheduled: u32, birth: u64) {
        self.data = Reassembly::new(length);
        self.announced = unscheduled.min(length);
        self.granted = self.announced;
        self.granted_told = self.announced;
        self.birth = birth;
    }

    pub(crate) fn length(&self) -> u32 {
        self.data.length()
    }

    /// End of what needs no grant any more: a sender may send more on its own than is meant to come
    /// so here.
    pub(crate) fn allowed_upto(&self) -> u32 {
        self.granted.max(self.data.contiguous())
    }

    /// Whether a message has begun to arrive.
    pub(crate) fn is_some(&self) -> bool {
        self.length() > 0
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.is_some() && self.data.is_complete()
    }

    /// The sender may send everything below this.
    pub(crate) fn granted(&self) -> u32 {
        self.granted
    }

    /// Ranges that are missing below others that have come.
    pub(crate) fn gaps(&self) -> &[(u32, u32)] {
        self.data.gaps()
    }

    /// What is granted since the last GRANT and came before, when there was no memory for it:
    /// offset and length. It is asked for at most once per `interval`; what is put off is asked for
    /// with the next such part, or by the timer.
    #[inline]
    pub(crate) fn take_refused(&mut self, now: Instant, interval: Duration) -> Option<(u32, u32)> {
        if self.refused_upto <= self.granted_told {
            return None;
        }
        let from = self.granted_told.min(self.refused_from);
        let asked_lately = self.refused_asked_at.is_some_and(|at| now.since(at) < interval);
        self.refused_from = if asked_lately { from } else { u32::MAX };
        let start = from.max(self.data.highest());
        let length = self.granted.min(self.refused_upto).saturating_sub(start);
        if asked_lately || length == 0 {
            return None;
        }
        self.refused_asked_at = Some(now);
        Some((start, length))
    }

    /// Bytes that have come.
    pub(crate) fn received(&self) -> u32 {
        self.data.received()
    }

    /// Bytes that have come without a gap.
    #[inline]
    pub(crate) fn contiguous(&self) -> u32 {
        self.data.contiguous()
    }

    /// Whether the application has taken all of a complete message.
    pub(crate) fn is_consumed(&self) -> bool {
        self.is_complete() && self.consumed >= self.length()
    }

    /// Whether the application has not taken all that has come without a gap.
    pub(crate) fn has_unread(&self) -> bool {
        self.contiguous() > self.consumed
    }

    /// Whether the unscheduled part found no memory.
    pub(crate) fn is_starved(&self) -> bool {
        self.starved
    }

    /// The application reads it as a stream from now on, if `streaming`.
    pub(crate) fn read_as_stream(&mut self, streaming: bool) {
        self.streaming |= streaming;
    }

    /// Bytes not yet received: the rank in SRPT order.
    pub(crate) fn remaining(&self) -> u32 {
        self.length().saturating_sub(self.data.received())
    }

    /// What its sender may send and has not.
    pub(crate) fn on_its_way(&self) -> OnItsWay {
        let received = self.data.received();
        OnItsWay {
            announced: self.announced.saturating_sub(received),
            granted: self.granted.saturating_sub(received.max(self.announced)),
        }
    }

    /// Whether enough data has come since the last movement to be one: [`MOVEMENT_PART`] of what is
    /// granted and missing.
    #[inline]
    pub(crate) fn moves(&mut self) -> bool {
        let received = self.data.received();
        let came = received.saturating_sub(self.moved_bytes);
        let moves = came.saturating_mul(MOVEMENT_PART) >= self.granted.saturating_sub(received);
        if moves {
            self.moved_bytes = received;
        }
        moves
    }

    /// Whether something is missing that the sender may send.
    pub(crate) fn awaits_data(&self) -> bool {
        self.awaits_data_below(u32::MAX)
    }

    /// Whether something below `end` is missing that the sender may send.
    pub(crate) fn awaits_data_below(&self, end: u32) -> bool {
        self.data.contiguous() < self.granted.min(end)
    }

    /// Memory accounted for the bytes from `consumed` up to `upto`.
    pub(crate) fn footprint(&self, upto: u32) -> u64 {
        let length = self.length();
        if length <= PIECE_BYTES {
            let held = upto > 0 && self.consumed < length;
            return if held { u64::from(round_up(length, SMALL_BYTES)) } else { 0 };
        }
        let first = self.consumed.saturating_sub(self.consumed % PIECE_BYTES);
        let end =
            if self.consumed >= length { first } else { round_up(upto.min(length), PIECE_BYTES) };
        u64::from(end.saturating_sub(first))
    }

    /// Memory accounted now.
    pub(crate) fn reserved(&self) -> u64 {
        self.footprint(self.reserved_upto)
    }
}

fn round_up(value: u32, to: u32) -> u32 {
    value.div_ceil(to).saturating_mul(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Scenario: B12
    #[test]
    fn memory_follows_the_part_between_consumed_and_reserved() {
        let mut rx = Incoming::new(1 << 30, 40_000, 1);
        assert_eq!(rx.footprint(40_000), 65_536);
        rx.consumed = 70_000;
        assert_eq!(rx.footprint(200_000), 262_144 - 65_536);
        rx.consumed = 1 << 30;
        assert_eq!(rx.footprint(1 << 30), 0);
    }

    #[test]
    fn a_short_message_is_accounted_by_its_own_size() {
        let mut rx = Incoming::new(100, 100, 1);
        assert_eq!(rx.footprint(0), 0);
        assert_eq!(rx.footprint(100), 256);
        rx.consumed = 100;
        assert_eq!(rx.footprint(100), 0);
    }
}
