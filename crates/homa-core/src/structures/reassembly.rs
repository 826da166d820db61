//! Which bytes of an incoming message have arrived.

use alloc::vec::Vec;

/// Result of [`Reassembly::insert`] for a packet's byte range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Insert {
    /// Bytes `start..end` are to be stored: the packet's range without what is held already at
    /// its front and back. `bytes` of them are new; others lie between new ones and are simply
    /// written again.
    New {
        /// First byte to store; never below [`Reassembly::contiguous`] as it was before.
        start: u32,
        /// End of the bytes to store.
        end: u32,
        /// Bytes that were not held before, at least 1.
        bytes: u32,
    },
    /// All of it is held.
    Duplicate,
    /// It would make more gaps than allowed, or there is no memory to note one. Nothing
    /// changed: drop the packet, its bytes will be sent again.
    TooManyGaps,
    /// Empty, or beyond the end of the message.
    OutOfRange,
}

/// Book-keeping for the bytes of one incoming message: a highest byte and the gaps below it.
/// In-order arrival touches no list and never allocates.
#[derive(Clone, Debug)]
pub(crate) struct Reassembly {
    length: u32,
    received: u32,
    /// End of the highest byte held; everything above is missing.
    highest: u32,
    /// Missing ranges below `highest`, sorted, disjoint, non-adjacent.
    gaps: Vec<(u32, u32)>,
}

impl Reassembly {
    /// A message of `length` bytes of which nothing has arrived.
    pub(crate) const fn new(length: u32) -> Self {
        Self { length, received: 0, highest: 0, gaps: Vec::new() }
    }

    /// The message has become longer.
    pub(crate) fn grow(&mut self, length: u32) {
        self.length = self.length.max(length);
    }

    /// Notes that all bytes of a message of which nothing had arrived did.
    #[inline]
    pub(crate) fn take_whole(&mut self) {
        (self.received, self.highest) = (self.length, self.length);
    }

    /// Notes that bytes `start..end` arrived, with at most `gaps_max` gaps afterwards if this
    /// adds one.
    pub(crate) fn insert(&mut self, start: u32, end: u32, gaps_max: usize) -> Insert {
        if start >= end || end > self.length {
            return Insert::OutOfRange;
        }
        if start >= self.highest {
            return self.append(start, end, gaps_max);
        }
        let below = if self.gaps.is_empty() {
            None
        } else {
            match self.fill(start, end, gaps_max) {
                Ok(filled) => filled,
                Err(TooManyGaps) => return Insert::TooManyGaps,
            }
        };
        let above = end.saturating_sub(self.highest);
        let new = match (below, above) {
            (None, 0) => return Insert::Duplicate,
            (None, bytes) => Insert::New { start: self.highest, end, bytes },
            (Some(filled), 0) => {
                Insert::New { start: filled.start, end: filled.end, bytes: filled.bytes }
            }
            (Some(filled), above) => {
                Insert::New { start: filled.start, end, bytes: filled.bytes.saturating_add(above) }
            }
        };
        self.highest = self.highest.max(end);
        self.count(new)
    }

    /// The first byte that is missing; everything below is held.
    pub(crate) fn contiguous(&self) -> u32 {
        self.gaps.first().map_or(self.highest, |gap| gap.0)
    }

    /// Bytes held.
    pub(crate) const fn received(&self) -> u32 {
        self.received
    }

    /// End of the highest byte held.
    pub(crate) const fn highest(&self) -> u32 {
        self.highest
    }

    /// Length of the message in bytes.
    pub(crate) const fn length(&self) -> u32 {
        self.length
    }

    /// The missing ranges below [`Self::highest`], in order.
    pub(crate) fn gaps(&self) -> &[(u32, u32)] {
        &self.gaps
    }

    /// Whether all bytes are held.
    pub(crate) const fn is_complete(&self) -> bool {
        self.received >= self.length
    }

    /// A range at or above the highest byte; whatever it leaves out becomes a gap.
    fn append(&mut self, start: u32, end: u32, gaps_max: usize) -> Insert {
        if start > self.highest {
            if self.gaps.len() >= gaps_max || self.gaps.try_reserve(1).is_err() {
                return Insert::TooManyGaps;
            }
            self.gaps.push((self.highest, start));
        }
        self.highest = end;
        self.count(Insert::New { start, end, bytes: end.saturating_sub(start) })
    }

    fn count(&mut self, new: Insert) -> Insert {
        if let Insert::New { bytes, .. } = new {
            self.received = self.received.saturating_add(bytes);
        }
        new
    }

    /// Takes `start..end` out of the gaps; `None` if it meets none.
    fn fill(
        &mut self,
        start: u32,
        end: u32,
        gaps_max: usize,
    ) -> Result<Option<Filled>, TooManyGaps> {
        let first = self.gaps.partition_point(|gap| gap.1 <= start);
        let after = self.gaps.partition_point(|gap| gap.0 < end);
        let met = self.gaps.get(first..after).unwrap_or(&[]);
        let (Some(&lowest), Some(&uppermost)) = (met.first(), met.last()) else {
            return Ok(None);
        };
        let filled = Filled {
            start: start.max(lowest.0),
            end: end.min(uppermost.1),
            bytes: met.iter().fold(0, |sum: u32, gap| {
                sum.saturating_add(end.min(gap.1).saturating_sub(start.max(gap.0)))
            }),
        };
        let low = Some((lowest.0, start)).filter(|gap| gap.0 < gap.1);
        let high = Some((end, uppermost.1)).filter(|gap| gap.0 < gap.1);
        let splits = met.len() == 1 && low.is_some() && high.is_some();
        if splits && (self.gaps.len() >= gaps_max || self.gaps.try_reserve(1).is_err()) {
            return Err(TooManyGaps);
        }
        self.gaps.splice(first..after, low.into_iter().chain(high));
        Ok(Some(filled))
    }
}

/// Result of filling gaps: see [`Insert::New`].
struct Filled {
    start: u32,
    end: u32,
    bytes: u32,
}

struct TooManyGaps;

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    use super::*;

    fn new(start: u32, end: u32, bytes: u32) -> Insert {
        Insert::New { start, end, bytes }
    }

    /// Bitmap model: what the insertion must answer if gaps are unlimited.
    fn expected(held: &[bool], start: usize, end: usize) -> Insert {
        if start >= end || end > held.len() {
            return Insert::OutOfRange;
        }
        let missing: Vec<usize> = (start..end).filter(|byte| !held[*byte]).collect();
        match (missing.first(), missing.last()) {
            (Some(first), Some(last)) => new(*first as u32, *last as u32 + 1, missing.len() as u32),
            _ => Insert::Duplicate,
        }
    }

    fn gaps_of(held: &[bool]) -> Vec<(u32, u32)> {
        let highest = held.iter().rposition(|bit| *bit).map_or(0, |last| last + 1);
        let mut gaps: Vec<(u32, u32)> = vec![];
        for byte in (0..highest).filter(|byte| !held[*byte]).map(|byte| byte as u32) {
            match gaps.last_mut() {
                Some(gap) if gap.1 == byte => gap.1 += 1,
                _ => gaps.push((byte, byte + 1)),
            }
        }
        gaps
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_bitmap(
            length in 1..60usize,
            packets in prop::collection::vec((0..64usize, 0..12usize), 0..60),
            gaps_max in prop_oneof![Just(1000usize), 0..4usize],
        ) {
            let mut reassembly = Reassembly::new(length as u32);
            let mut held = vec![false; length];
            for (start, bytes) in packets {
                let end = start + bytes;
                let before = reassembly.contiguous();
                let answer = reassembly.insert(start as u32, end as u32, gaps_max);
                if answer == Insert::TooManyGaps {
                    let mut after = held.clone();
                    after[start..end].fill(true);
                    let gaps = gaps_of(&after).len();
                    prop_assert!(gaps > gaps_max && gaps > reassembly.gaps().len());
                } else {
                    prop_assert_eq!(answer, expected(&held, start, end));
                }
                if let Insert::New { start: from, end: to, .. } = answer {
                    prop_assert!(from >= before);
                    held[from as usize..to as usize].fill(true);
                }
                let gaps = gaps_of(&held);
                prop_assert!(gaps.len() <= gaps_max);
                prop_assert_eq!(reassembly.gaps(), &gaps[..]);
                let received = held.iter().filter(|bit| **bit).count();
                prop_assert_eq!(reassembly.received() as usize, received);
                let missing = held.iter().position(|bit| !bit).unwrap_or(length);
                prop_assert_eq!(reassembly.contiguous() as usize, missing);
                let highest = held.iter().rposition(|bit| *bit).map_or(0, |last| last + 1);
                prop_assert_eq!(reassembly.highest() as usize, highest);
                prop_assert_eq!(reassembly.is_complete(), received == length);
            }
        }
    }

    /// Positions in the exhaustive test.
    const FEW: usize = 9;

    /// The one form of a message of [`FEW`] parts of which these are held.
    fn state_of(held: &[bool; FEW], unit: u32) -> Reassembly {
        Reassembly {
            length: FEW as u32 * unit,
            received: held.iter().filter(|bit| **bit).count() as u32 * unit,
            highest: held.iter().rposition(|bit| *bit).map_or(0, |last| last as u32 + 1) * unit,
            gaps: gaps_of(held).iter().map(|gap| (gap.0 * unit, gap.1 * unit)).collect(),
        }
    }

    /// What comes out is one of the states again: so every order of arrival is covered, however
    /// many packets.
    #[test]
    fn every_packet_in_every_state_of_a_small_message_does_what_a_bitmap_says() {
        for (unit, bits) in [1, u32::MAX / 10]
            .into_iter()
            .flat_map(|unit| (0..1 << FEW).map(move |bits| (unit, bits)))
        {
            let held: [bool; FEW] = core::array::from_fn(|at| bits >> at & 1 == 1);
            for (start, end) in
                (0..=FEW + 1).flat_map(|start| (0..=FEW + 1).map(move |end| (start, end)))
            {
                let mut after = held;
                after.iter_mut().take(end).skip(start).for_each(|bit| *bit = true);
                let (before, gaps) = (gaps_of(&held).len(), gaps_of(&after).len());
                for gaps_max in before.saturating_sub(1)..FEW {
                    let mut message = state_of(&held, unit);
                    let answer = message.insert(start as u32 * unit, end as u32 * unit, gaps_max);
                    let within = match expected(&held, start, end) {
                        Insert::New { start, end, bytes } => {
                            new(start * unit, end * unit, bytes * unit)
                        }
                        nothing_new => nothing_new,
                    };
                    let room = gaps <= before || gaps <= gaps_max;
                    let inside = start < end && end <= FEW;
                    let due = if inside && !room { Insert::TooManyGaps } else { within };
                    assert_eq!(answer, due, "{held:?} {start} {end} {gaps_max}");
                    let state = state_of(
                        if matches!(due, Insert::New { .. }) { &after } else { &held },
                        unit,
                    );
                    let parts =
                        |it: &Reassembly| (it.length, it.received, it.highest, it.gaps.clone());
                    assert_eq!(parts(&message), parts(&state), "{held:?} {start} {end} {gaps_max}");
                }
            }
        }
    }

    #[test]
    fn in_order_arrival_never_allocates() {
        let mut reassembly = Reassembly::new(10_000);
        for start in (0..10_000).step_by(1000) {
            assert_eq!(reassembly.insert(start, start + 1000, 0), new(start, start + 1000, 1000));
        }
        assert!(reassembly.is_complete());
        assert_eq!(reassembly.gaps.capacity(), 0);
        assert_eq!(reassembly.insert(0, 1000, 0), Insert::Duplicate);
    }

    #[test]
    fn overlaps_are_trimmed_at_both_ends_and_kept_in_the_middle() {
        let mut reassembly = Reassembly::new(100);
        reassembly.insert(0, 10, 8);
        reassembly.insert(20, 30, 8);
        reassembly.insert(40, 50, 8);
        assert_eq!(reassembly.insert(5, 45, 8), new(10, 40, 20));
        assert_eq!(reassembly.contiguous(), 50);
    }

    #[test]
    fn a_packet_over_the_highest_byte_is_trimmed_at_the_front() {
        let mut reassembly = Reassembly::new(100);
        reassembly.insert(0, 50, 8);
        assert_eq!(reassembly.insert(30, 70, 8), new(50, 70, 20));
        reassembly.insert(80, 90, 8);
        assert_eq!(reassembly.insert(75, 100, 8), new(75, 100, 15));
        assert_eq!(reassembly.gaps(), [(70, 75)]);
    }

    #[test]
    fn too_many_gaps_change_nothing() {
        let mut reassembly = Reassembly::new(100);
        reassembly.insert(50, 60, 1);
        assert_eq!(reassembly.insert(70, 80, 1), Insert::TooManyGaps);
        assert_eq!(reassembly.insert(20, 30, 1), Insert::TooManyGaps);
        assert_eq!((reassembly.received(), reassembly.highest()), (10, 60));
        assert_eq!(reassembly.insert(0, 10, 1), new(0, 10, 10));
        assert_eq!(reassembly.insert(60, 100, 1), new(60, 100, 40));
    }

    #[test]
    fn ranges_outside_the_message_are_refused() {
        let mut reassembly = Reassembly::new(10);
        for (start, end) in [(0, 11), (10, 11), (5, 5), (6, 5), (u32::MAX, 0), (0, u32::MAX)] {
            assert_eq!(reassembly.insert(start, end, 8), Insert::OutOfRange);
        }
        assert_eq!(reassembly.received(), 0);
    }
}
