//! The sending side of one message: what was granted, sent, must be sent again, is released.

use core::time::Duration;

use homa_wire::Data;

use crate::engine::peer::Credit;
use crate::priority::Priority;
use crate::structures::ranges::RangeSet;
use crate::time::Instant;

/// Ranges to retransmit that are remembered per message; more are merged.
const RETRANSMIT_RANGES_MAX: usize = 64;

/// Sender's state of one message (docs/spec/protocol.md §4).
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Order of creation within the engine: smaller is older.
    birth: u64,
    /// Bytes of the whole message; 0 = there is no message. If it may grow they are one more than
    /// have been provided.
    length: u32,
    /// Bytes the application has provided.
    supplied: u32,
    /// Bytes sent at least once (`tx_end`).
    sent: u32,
    /// Bytes that may be sent.
    granted: u32,
    /// Bytes that may be sent without a grant.
    unscheduled: u32,
    /// A segment is sent whole as soon as its first byte may be, as Linux does
    /// (docs/spec/protocol.md §4), so that all boundaries lie on a grid that retransmissions can
    /// keep to. Otherwise it ends where the grant does.
    whole_segments: bool,
    /// Flags of all its DATA packets in the native profile.
    flags: u8,
    /// Priority of the first packet.
    first_priority: Priority,
    /// Priority of scheduled data, from the last GRANT.
    scheduled_priority: Priority,
    /// Payload of a full segment when the message was first sent.
    segment_bytes: u32,
    retransmissions: Retransmissions,
    /// Bytes below this will never be read again.
    released: u32,
    /// When the first packet left.
    first_sent: Option<Instant>,
    /// Its unscheduled data on its way to the peer.
    pub(crate) credit: Credit,
    /// Whether it waits for in-flight credit or for address validation.
    pub(crate) blocked: bool,
    /// The peer has all bytes below this, as far as full segments are concerned.
    proven_upto: u32,
}

/// Retransmissions of a message.
#[derive(Debug)]
struct Retransmissions {
    /// Ranges to send, at `priority`.
    pending: RangeSet,
    priority: Priority,
    /// Ranges requested since `resent_since`; once is enough for a while.
    recently_resent: RangeSet,
    resent_since: Instant,
    /// Some of the message was requested by RESEND.
    any_resent: bool,
    /// A RESEND for everything has come once.
    resend_all_received: bool,
}

impl Retransmissions {
    const NONE: Self = Self {
        pending: RangeSet::new(),
        priority: Priority::LOWEST,
        recently_resent: RangeSet::new(),
        resent_since: Instant::ZERO,
        any_resent: false,
        resend_all_received: false,
    };
}

impl Outgoing {
    #[inline(always)]
    pub(crate) fn none(birth: u64) -> Self {
        Self {
            birth,
            length: 0,
            supplied: 0,
            sent: 0,
            granted: 0,
            unscheduled: 0,
            whole_segments: false,
            flags: 0,
            first_priority: Priority::LOWEST,
            scheduled_priority: Priority::LOWEST,
            segment_bytes: 1,
            retransmissions: Retransmissions::NONE,
            released: 0,
            first_sent: None,
            credit: Credit::NONE,
            blocked: false,
            proven_upto: 0,
        }
    }

    #[cfg(test)]
    fn new(length: u32, supplied: u32, unscheduled: u32, segment_bytes: u32) -> Self {
        let mut tx = Self { segment_bytes: segment_bytes.max(1), ..Self::none(0) };
        tx.begin(length, supplied, unscheduled);
        tx
    }

    /// Begins a message; there was none before. Its segment size is set when the first segment
    /// leaves, since the path's MTU may not be known yet.
    #[inline]
    pub(crate) fn begin(&mut self, length: u32, supplied: u32, unscheduled: u32) {
        self.length = length;
        self.supplied = supplied.min(length);
        self.unscheduled = unscheduled.min(length);
        self.granted = self.unscheduled;
    }

    /// Whether the message may grow.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.flags & Data::OPEN != 0 && self.supplied < self.length
    }

    /// The message has become longer, and all but the last byte is provided. It may be sent without
    /// a grant as far as one of this length, `unscheduled` bytes, or as it might before. Returns
    /// how many bytes are new.
    pub(crate) fn grow(&mut self, length: u32, unscheduled: u32) -> u32 {
        self.length = self.length.max(length);
        self.unscheduled = self.unscheduled.max(unscheduled.min(self.length));
        self.granted = self.granted.max(self.unscheduled);
        self.supply(self.length.saturating_sub(1))
    }

    /// Order of creation within the engine: smaller is older.
    #[inline]
    pub(crate) fn birth(&self) -> u64 {
        self.birth
    }

    /// Sets the order of creation by which it is ranked.
    pub(crate) fn set_birth(&mut self, birth: u64) {
        self.birth = birth;
    }

    /// When the first packet left.
    pub(crate) fn first_sent(&self) -> Option<Instant> {
        self.first_sent
    }

    /// A packet leaves. Whether it is the first.
    #[inline]
    pub(super) fn note_first(&mut self, now: Instant) -> bool {
        let first = self.first_sent.is_none();
        if first {
            self.first_sent = Some(now);
        }
        first
    }

    /// Bytes of the whole message; 0 = there is no message.
    #[inline]
    pub(crate) fn length(&self) -> u32 {
        self.length
    }

    /// Bytes that the application has provided.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn supplied(&self) -> u32 {
        self.supplied
    }

    /// The application has provided the bytes below `upto`. Returns how many are new.
    pub(crate) fn supply(&mut self, upto: u32) -> u32 {
        let more = upto.saturating_sub(self.supplied);
        self.supplied = self.supplied.max(upto);
        more
    }

    /// Bytes sent at least once.
    #[inline]
    pub(crate) fn sent(&self) -> u32 {
        self.sent
    }

    /// Bytes that may be sent.
    pub(crate) fn granted(&self) -> u32 {
        self.granted
    }

    /// The bytes below `upto` may be sent. Whether more may than before.
    pub(crate) fn grant(&mut self, upto: u32) -> bool {
        let upto = upto.min(self.length);
        let more = upto > self.granted;
        self.granted = self.granted.max(upto);
        more
    }

    /// The priority of scheduled data from now on.
    pub(crate) fn set_scheduled_priority(&mut self, priority: Priority) {
        self.scheduled_priority = priority;
    }

    /// The priority of the first packet.
    pub(crate) fn first_priority(&self) -> Priority {
        self.first_priority
    }

    /// Segments are sent whole, as Linux does.
    pub(crate) fn keep_segments_whole(&mut self, whole: bool) {
        self.whole_segments |= whole;
    }

    /// Flags of all its DATA packets in the native profile.
    #[inline]
    pub(crate) fn flags(&self) -> u8 {
        self.flags
    }

    /// Sets the flags of all its DATA packets in the native profile.
    pub(crate) fn set_flags(&mut self, flags: u8) {
        self.flags = flags;
    }

    /// Payload of a full segment when the message was first sent.
    pub(crate) fn segment_bytes(&self) -> u32 {
        self.segment_bytes
    }

    /// Bytes that may be sent without a grant.
    #[inline]
    pub(super) fn unscheduled(&self) -> u32 {
        self.unscheduled
    }

    /// Unscheduled bytes that were not sent.
    pub(super) fn unscheduled_left(&self) -> u32 {
        self.unscheduled.saturating_sub(self.sent)
    }

    /// The first segment is built: segments are of `payload` bytes, and the first of this priority.
    pub(super) fn begin_segments(&mut self, payload: u32, priority: Priority) {
        self.segment_bytes = payload;
        self.first_priority = priority;
    }

    /// All of the message left in one packet, the first.
    pub(crate) fn leave_whole(&mut self, segment_bytes: u32, priority: Priority, now: Instant) {
        self.begin_segments(segment_bytes, priority);
        self.note_first(now);
        self.note_sent(self.length);
    }

    /// New data up to `end` was given to the driver.
    #[inline]
    pub(super) fn note_sent(&mut self, end: u32) {
        self.sent = end;
    }

    /// The last new segment did not leave: it begins at `start`.
    pub(super) fn take_back(&mut self, start: u32) {
        self.sent = start;
    }

    /// The priority of scheduled data.
    pub(super) fn scheduled_priority(&self) -> Priority {
        self.scheduled_priority
    }

    /// The priority of what is sent again.
    pub(super) fn retransmit_priority(&self) -> Priority {
        self.retransmissions.priority
    }

    /// Start of the interval in which retransmissions are remembered, see
    /// [`Outgoing::forget_resent`].
    pub(super) fn resent_since(&self) -> Instant {
        self.retransmissions.resent_since
    }

    /// The first `bytes` that are to be sent again have left. Whether others are left.
    pub(super) fn retransmitted(&mut self, bytes: u32) -> bool {
        self.retransmissions.pending.pop_front(bytes);
        self.has_retransmissions()
    }

    /// Nothing is sent again.
    pub(super) fn drop_retransmissions(&mut self) {
        self.retransmissions.pending.clear();
    }

    /// Whether some of it was retransmitted, or will be.
    pub(crate) fn was_retransmitted(&self) -> bool {
        self.retransmissions.any_resent
    }

    /// Whether some of it is to be sent again.
    #[inline]
    pub(crate) fn has_retransmissions(&self) -> bool {
        !self.retransmissions.pending.is_empty()
    }

    /// The peer has all that there is: nothing is sent any more.
    pub(crate) fn end(&mut self) {
        self.sent = self.length;
        self.granted = self.length;
    }

    /// Bytes below this will never be read again.
    pub(crate) fn released(&self) -> u32 {
        self.released
    }

    /// Bytes that may still be read.
    pub(crate) fn unacknowledged_bytes(&self) -> u32 {
        self.supplied.saturating_sub(self.released)
    }

    /// The bytes below `upto`, as far as they were sent, are not needed any more. Returns how many
    /// are new.
    #[inline]
    pub(crate) fn release(&mut self, upto: u32) -> u32 {
        let upto = upto.min(self.sent);
        let bytes = upto.saturating_sub(self.released);
        if bytes > 0 {
            self.released = upto;
            self.retransmissions.pending.remove_below(upto);
        }
        bytes
    }

    /// No byte is needed any more. Whether any was.
    pub(crate) fn release_all(&mut self) -> bool {
        self.retransmissions.pending.clear();
        let any = self.released < self.length;
        self.released = self.length;
        any
    }

    /// The peer has all bytes below `upto`. Whether these are a full segment more than was known.
    pub(crate) fn prove(&mut self, upto: u32) -> bool {
        let upto = upto.min(self.length);
        let full = upto >= self.proven_upto.saturating_add(self.segment_bytes);
        if full {
            self.proven_upto = upto;
        }
        full
    }

    #[cfg(any(test, feature = "check"))]
    pub(crate) fn check(&self, over: bool) -> bool {
        let ordered = self.released <= self.sent
            && self.sent <= self.supplied
            && self.supplied <= self.length
            && self.granted <= self.length;
        let first = self.retransmissions.pending.first().map_or(u32::MAX, |(first, _)| first);
        over || (ordered && first >= self.released)
    }

    /// Whether the receiver has granted some, so that it waits for all in front of that.
    pub(crate) fn is_wanted(&self) -> bool {
        self.granted > self.unscheduled
    }

    /// Up to where new data may go out now.
    pub(crate) fn sendable_upto(&self) -> u32 {
        self.granted.min(self.supplied)
    }

    /// Whether new data was granted and provided. (Whether all of a segment was is for
    /// [`Outgoing::next_new`] to say.)
    pub(crate) fn has_unsent(&self) -> bool {
        self.sent < self.sendable_upto()
    }

    /// Whether there is new data that may go out.
    pub(crate) fn has_sendable(&self) -> bool {
        self.has_unsent() && (!self.whole_segments || self.next_new(u32::MAX).is_some())
    }

    /// Whether everything that may be sent was sent, with nothing waiting for retransmission.
    pub(crate) fn is_idle(&self) -> bool {
        self.sent >= self.granted.min(self.length) && self.retransmissions.pending.is_empty()
    }

    /// Bytes of the message not yet sent, or to be sent again: the rank in SRPT order.
    pub(crate) fn remaining(&self) -> u32 {
        let new = self.length.saturating_sub(self.sent);
        if self.retransmissions.pending.is_empty() {
            new
        } else {
            new.saturating_add(self.retransmissions.pending.total())
        }
    }

    /// The next new segment `[start, end)` of at most `payload_max` bytes, if any. A boundary
    /// lies at the unscheduled limit (docs/spec/wire-format.md §6).
    pub(crate) fn next_new(&self, payload_max: u32) -> Option<(u32, u32)> {
        let sendable = self.sendable_upto();
        if self.sent >= sendable {
            return None;
        }
        let limit = self.segment_limit(self.sent);
        let limit = if self.whole_segments { limit } else { limit.min(sendable) };
        let limit =
            if self.whole_segments { limit.min(self.segment_end(self.sent)) } else { limit };
        let size = self.segment_bytes.min(payload_max).max(1);
        let end = self.sent.saturating_add(size).min(limit);
        (end <= self.supplied).then_some((self.sent, end))
    }

    /// Forgets which bytes were retransmitted, unless that began less than `pause` ago.
    pub(crate) fn forget_resent(&mut self, now: Instant, pause: Duration) {
        if now.since(self.retransmissions.resent_since) >= pause {
            self.retransmissions.recently_resent.clear();
            self.retransmissions.resent_since = now;
        }
    }

    /// Retransmits at most `room_bytes` of `[start, end)`, as far as they were sent, not released,
    /// and not retransmitted since [`Outgoing::forget_resent`]. The range is widened to original
    /// segments while these still fit `payload_max`, because Linux receivers discard packets that
    /// overlap what they hold (docs/spec/wire-format.md §11 rule 3). Returns how many bytes that
    /// are.
    pub(crate) fn request_retransmit(
        &mut self,
        start: u32,
        end: u32,
        payload_max: u32,
        room_bytes: u32,
        priority: Priority,
    ) -> u32 {
        let end = end.min(self.sent);
        if start >= end {
            return 0;
        }
        let (start, end) = self.whole_packets(start, end, payload_max);
        let mut room_bytes = room_bytes;
        let mut taken: u32 = 0;
        // Each turn closes a hole of the set, or uses the room up.
        while let Some((start, end)) = self.retransmissions.recently_resent.first_hole(start, end) {
            let whole = end.saturating_sub(start);
            let end = start.saturating_add(whole.min(room_bytes));
            if end <= start
                || !self.retransmissions.recently_resent.insert(start, end, RETRANSMIT_RANGES_MAX)
            {
                break;
            }
            self.retransmissions.pending.insert(start, end, RETRANSMIT_RANGES_MAX);
            let bytes = end.saturating_sub(start);
            room_bytes = room_bytes.saturating_sub(bytes);
            taken = taken.saturating_add(bytes);
        }
        if taken > 0 {
            self.retransmissions.any_resent = true;
            self.retransmissions.priority = priority;
        }
        taken
    }

    /// `[start, end)`, of which something was sent, and all that goes again with it.
    fn whole_packets(&self, start: u32, end: u32, payload_max: u32) -> (u32, u32) {
        let (mut start, mut end) = (start, end);
        if self.segment_bytes <= payload_max {
            start = self.segment_start(start);
            let last = self.segment_start(end.saturating_sub(1));
            end = end.max(self.segment_end(last)).min(self.sent);
        }
        (start.max(self.released), end)
    }

    /// Payload of the first packet that was lost, if the receiver misses `[start, end)`. It may
    /// have been short, unless the same was sent again since [`Outgoing::forget_resent`]: then the
    /// whole segment was lost.
    pub(crate) fn lost_payload(&self, start: u32, end: u32, payload_max: u32) -> u32 {
        let missing = end.saturating_sub(start).min(self.segment_bytes);
        let sent = end.min(self.sent);
        if start >= sent || self.retransmissions.recently_resent.first_hole(start, sent).is_some() {
            return missing;
        }
        let first = self.whole_packets(start, start.saturating_add(1), payload_max);
        missing.max(first.1.saturating_sub(first.0))
    }

    /// `[start, end)` was to be sent again and was not.
    pub(crate) fn put_retransmission_back(&mut self, start: u32, end: u32) {
        self.retransmissions.pending.insert(start.max(self.released), end, RETRANSMIT_RANGES_MAX);
    }

    /// Up to where to send again when the receiver has nothing. While other messages to it are on
    /// their way (`busy`), or when it says so once more, either the path is slow or this end is
    /// full: one packet then, and more when that arrives.
    pub(crate) fn retransmit_all(&mut self, busy: bool) -> u32 {
        let again = core::mem::replace(&mut self.retransmissions.resend_all_received, true);
        if again || busy { self.segment_end(0).min(self.sent) } else { self.sent }
    }

    /// The next segment to send again, if any.
    pub(crate) fn next_retransmit(&self, payload_max: u32) -> Option<(u32, u32)> {
        let (start, end) = self.retransmissions.pending.first()?;
        // Where the path takes less than before, an original segment goes out in pieces, which do
        // not reach into the next.
        let size = self.segment_bytes.min(payload_max);
        let size = size.min(self.segment_end(start).saturating_sub(start)).max(1);
        Some((start, start.saturating_add(size).min(end)))
    }

    /// Whether a segment of full size was sent that begins at `offset`.
    pub(crate) fn is_full_segment(&self, offset: u32) -> bool {
        let end = offset.saturating_add(self.segment_bytes);
        self.segment_start(offset) == offset
            && end <= self.segment_limit(offset)
            && end <= self.sent
    }

    /// Where the original segment that contains `offset` began.
    fn segment_start(&self, offset: u32) -> u32 {
        let base = if offset < self.unscheduled { 0 } else { self.unscheduled };
        let within = offset.saturating_sub(base);
        base.saturating_add(
            within.saturating_sub(within.checked_rem(self.segment_bytes).unwrap_or(0)),
        )
    }

    /// Where the original segment that contains `offset` ended.
    fn segment_end(&self, offset: u32) -> u32 {
        let end = self.segment_start(offset).saturating_add(self.segment_bytes);
        end.min(self.segment_limit(offset))
    }

    /// The end of the part (unscheduled or scheduled) that `offset` lies in.
    fn segment_limit(&self, offset: u32) -> u32 {
        if offset < self.unscheduled { self.unscheduled } else { self.length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests a range by RESEND, whenever the last was.
    fn again(
        tx: &mut Outgoing,
        start: u32,
        end: u32,
        payload_max: u32,
    ) -> alloc::vec::Vec<(u32, u32)> {
        tx.retransmissions.recently_resent.clear();
        tx.request_retransmit(start, end, payload_max, u32::MAX, Priority::LOWEST);
        let mut segments = alloc::vec::Vec::new();
        while let Some((start, end)) = tx.next_retransmit(payload_max) {
            segments.push((start, end));
            tx.retransmissions.pending.pop_front(end.saturating_sub(start));
        }
        segments
    }

    // Scenario: W13
    #[test]
    fn a_boundary_lies_exactly_at_the_unscheduled_limit() {
        let mut tx = Outgoing::new(10_000, 10_000, 4000, 1424);
        tx.granted = 10_000;
        let mut boundaries = alloc::vec::Vec::new();
        while let Some((_, end)) = tx.next_new(1424) {
            boundaries.push(end);
            tx.sent = end;
        }
        assert_eq!(boundaries, [1424, 2848, 4000, 5424, 6848, 8272, 9696, 10_000]);
    }

    #[test]
    fn a_grant_within_a_segment_cuts_it_only_if_segments_need_not_be_whole() {
        for (whole, end) in [(false, 5000), (true, 5424)] {
            let mut tx = Outgoing::new(10_000, 10_000, 4000, 1424);
            tx.whole_segments = whole;
            tx.sent = 4000;
            tx.granted = 5000;
            let (_, sent) = tx.next_new(1424).unwrap();
            assert_eq!(sent, end);
            tx.sent = sent;
            assert!(!tx.has_sendable() && tx.is_idle());
        }
    }

    #[test]
    fn a_whole_segment_waits_until_the_application_has_provided_it() {
        let mut tx = Outgoing::new(10_000, 1423, 10_000, 1424);
        tx.whole_segments = true;
        assert!(!tx.has_sendable());
        tx.supplied = 1424;
        assert_eq!(tx.next_new(1424), Some((0, 1424)));
    }

    #[test]
    fn retransmission_keeps_the_original_segments() {
        let mut tx = Outgoing::new(10_000, 10_000, 4000, 1400);
        tx.granted = 10_000;
        tx.sent = 10_000;
        assert_eq!(again(&mut tx, 100, 300, 1400), [(0, 1400)]);
        assert_eq!(again(&mut tx, 3900, 4001, 1400), [(2800, 4000), (4000, 5400)]);
    }

    #[test]
    fn retransmission_never_exceeds_what_was_sent_or_reaches_below_what_was_released() {
        let mut tx = Outgoing::new(10_000, 10_000, 4000, 1400);
        tx.sent = 2800;
        tx.released = 1400;
        assert_eq!(again(&mut tx, 0, u32::MAX, 1400), [(1400, 2800)]);
        assert_eq!(again(&mut tx, 2800, 5000, 1400), []);
    }

    #[test]
    fn after_the_mtu_shrank_original_segments_are_split_each_for_itself() {
        let mut tx = Outgoing::new(10_000, 10_000, 10_000, 4000);
        tx.whole_segments = true;
        tx.sent = 4000;
        let mut boundaries = alloc::vec::Vec::new();
        while let Some((_, end)) = tx.next_new(1500) {
            boundaries.push(end);
            tx.sent = end;
        }
        assert_eq!(boundaries, [5500, 7000, 8000, 9500, 10_000]);
        let boundaries: alloc::vec::Vec<u32> =
            again(&mut tx, 0, 10_000, 1500).iter().map(|segment| segment.1).collect();
        assert_eq!(boundaries, [1500, 3000, 4000, 5500, 7000, 8000, 9500, 10_000]);
    }

    #[test]
    fn after_the_mtu_shrank_only_the_missing_range_is_sent_in_smaller_pieces() {
        let mut tx = Outgoing::new(10_000, 10_000, 10_000, 4000);
        tx.sent = 10_000;
        assert_eq!(again(&mut tx, 4000, 8000, 1500), [(4000, 5500), (5500, 7000), (7000, 8000)]);
    }

    #[test]
    fn what_was_asked_for_again_is_not_taken_again_until_it_is_forgotten() {
        let pause = Duration::from_millis(1);
        let mut tx = Outgoing::new(10_000, 10_000, 10_000, 1000);
        tx.sent = 10_000;
        let mut now = Instant::from_nanos(5_000_000);
        tx.forget_resent(now, pause);
        assert_eq!(tx.request_retransmit(2000, 4000, 1000, u32::MAX, Priority::LOWEST), 2000);
        assert_eq!(
            tx.request_retransmit(0, 6000, 1000, u32::MAX, Priority::LOWEST),
            4000,
            "what lies around it"
        );
        assert_eq!(tx.request_retransmit(0, 6000, 1000, u32::MAX, Priority::LOWEST), 0);
        tx.retransmissions.pending.clear();
        tx.forget_resent(now, pause);
        assert_eq!(tx.request_retransmit(0, 6000, 1000, u32::MAX, Priority::LOWEST), 0);
        now = now + pause;
        tx.forget_resent(now, pause);
        assert_eq!(
            tx.request_retransmit(0, 6000, 1000, 2500, Priority::LOWEST),
            2500,
            "as much as there is room for"
        );
        assert_eq!(tx.request_retransmit(0, 6000, 1000, u32::MAX, Priority::LOWEST), 3500);
    }
}
