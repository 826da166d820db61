//! The receiving side of one message: what has arrived, what was granted, what memory it holds.

use core::time::Duration;

use homa_wire::Data;

use crate::engine::receiver::grant::message::{Granting, OnItsWay};
use crate::engine::receiver::held::Held;
use crate::engine::receiver::refused::Refused;
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

/// Receiver's state of one message.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Bytes that have arrived. Length 0 = no message yet.
    pub(super) data: Reassembly,
    /// The sender may send everything below this.
    pub(super) granted: u32,
    /// The announced part: sent without a grant.
    pub(super) announced: u32,
    /// The grant the sender knows: a GRANT may still wait to be sent.
    pub(super) granted_told: u32,
    pub(super) refused: Refused,
    /// Order of creation within the engine: smaller is older.
    pub(super) birth: u64,
    /// Bytes the application has taken.
    pub(super) consumed: u32,
    /// The flags that all its packets carry.
    pub(super) flags: u8,
    /// The application reads it as a stream: unread bytes are bounded, progress is reported.
    pub(super) streaming: bool,
    pub(super) held: Held,
    /// The unscheduled part found no memory: nothing is accepted until it does.
    pub(super) unallocated: bool,
    /// Packets sent again that were not there yet, since one was.
    pub(super) retransmissions_used: u32,
    /// Its sender did not react to the last RESEND.
    pub(super) unresponsive: bool,
    /// Whether its sender is unvalidated.
    pub(super) unvalidated: bool,
    /// When it last moved ([`Incoming::moves`]), or was granted some while none was on its way.
    pub(super) moved_at: Instant,
    /// Bytes received by then.
    moved_bytes: u32,
    pub(super) granting: Granting,
}

impl Incoming {
    #[inline(always)]
    pub(crate) fn none() -> Self {
        Self {
            data: Reassembly::new(0),
            granted: 0,
            announced: 0,
            granted_told: 0,
            refused: Refused::NOTHING,
            birth: 0,
            consumed: 0,
            flags: 0,
            streaming: false,
            held: Held::NOTHING,
            unallocated: false,
            retransmissions_used: 0,
            unresponsive: false,
            unvalidated: false,
            moved_at: Instant::ZERO,
            moved_bytes: 0,
            granting: Granting::NONE,
        }
    }

    pub(crate) fn new(length: u32, unscheduled: u32, birth: u64) -> Self {
        let mut rx = Self::none();
        rx.begin(length, unscheduled, birth);
        rx
    }

    /// A message that has come as a whole, of which the application has taken so many bytes.
    pub(crate) fn whole(length: u32, flags: u8, consumed: u32) -> Self {
        let mut rx = Self::new(length, length, 0);
        rx.data.take_whole();
        rx.flags = flags;
        rx.held.upto = length;
        rx.consumed = consumed;
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

    /// The message has become longer.
    pub(crate) fn grow(&mut self, length: u32) {
        self.data.grow(length);
    }

    /// The sender sends the bytes below `upto` without a grant, as it says of a longer message than
    /// before.
    pub(super) fn announce(&mut self, upto: u32) {
        self.announced = self.announced.max(upto.min(self.length()));
        self.granted = self.granted.max(self.announced);
        self.granted_told = self.granted_told.max(self.announced);
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

    /// The range granted since the last GRANT that came before, when there was no memory for it:
    /// offset and length. See [`Refused::take`].
    #[inline]
    pub(crate) fn take_refused(&mut self, now: Instant, interval: Duration) -> Option<(u32, u32)> {
        let granted = (self.granted_told, self.granted);
        self.refused.take(granted, self.data.highest(), now, interval)
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

    /// The flags that all its packets carry.
    #[inline]
    pub(crate) fn flags(&self) -> u8 {
        self.flags
    }

    /// Whether it begins with a frame of the application's library.
    #[inline]
    pub(crate) fn is_framed(&self) -> bool {
        self.flags & Data::FRAMED != 0
    }

    /// Whether it may grow, or might before it was complete.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.flags & Data::OPEN != 0
    }

    /// Whether all has come that its sender has: it may grow, and lacks the last byte.
    pub(crate) fn waits_for_growth(&self) -> bool {
        self.is_open() && self.remaining() == 1 && self.contiguous() == self.received()
    }

    /// Whether its sender counts as unvalidated.
    #[inline]
    pub(crate) fn is_unvalidated(&self) -> bool {
        self.unvalidated
    }

    /// Whether grant management has to do with it.
    #[inline]
    pub(crate) fn is_managed(&self) -> bool {
        self.granting.is_managed()
    }

    /// Whether the unscheduled part found no memory.
    pub(crate) fn is_unallocated(&self) -> bool {
        self.unallocated
    }

    /// The application reads it as a stream from now on, if `streaming`.
    pub(crate) fn read_as_stream(&mut self, streaming: bool) {
        self.streaming |= streaming;
    }

    /// Bytes not yet received: the rank in SRPT order.
    pub(crate) fn remaining(&self) -> u32 {
        self.length().saturating_sub(self.data.received())
    }

    /// Bytes that the sender may send and has not.
    pub(super) fn on_its_way(&self) -> OnItsWay {
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
        if self.is_open() {
            // What it holds does not depend on how long it will be.
            let unit = if upto <= PIECE_BYTES { SMALL_BYTES } else { PIECE_BYTES };
            let first = self.consumed.saturating_sub(self.consumed % PIECE_BYTES);
            let end = if self.consumed >= length { first } else { round_up(upto, unit) };
            return u64::from(end.saturating_sub(first));
        }
        if length <= PIECE_BYTES {
            let held = upto > 0 && self.consumed < length;
            return if held { short_footprint(length) } else { 0 };
        }
        let first = self.consumed.saturating_sub(self.consumed % PIECE_BYTES);
        let end =
            if self.consumed >= length { first } else { round_up(upto.min(length), PIECE_BYTES) };
        u64::from(end.saturating_sub(first))
    }

    /// Memory accounted now.
    pub(crate) fn reserved(&self) -> u64 {
        self.footprint(self.held.upto)
    }
}

/// Memory accounted for all of a message that is not longer than a piece, see
/// [`Incoming::footprint`].
#[inline]
pub(super) fn short_footprint(length: u32) -> u64 {
    u64::from(round_up(length, SMALL_BYTES))
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
