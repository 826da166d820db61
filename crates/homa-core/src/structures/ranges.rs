//! A bounded set of byte ranges.

use alloc::vec::Vec;

/// Sorted, disjoint, non-adjacent half-open ranges `(start, end)`.
///
/// The number of ranges is bounded; where it would grow too large the set covers *more* than
/// asked, never less: right for "bytes to be sent again", where too much is only waste.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RangeSet {
    ranges: Vec<(u32, u32)>,
}

impl RangeSet {
    /// The empty set; allocates nothing.
    pub(crate) const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Adds `start..end`, joining what overlaps or touches. If there are then more than `limit`
    /// ranges, the two with the smallest gap between them become one (an earlier, larger limit
    /// is enforced too). Without memory for one more range, the nearest one is extended.
    ///
    /// `false` only if the range could not be kept: the set is empty and `limit` is 0 or there
    /// is no memory. An empty range is kept without effect.
    pub(crate) fn insert(&mut self, start: u32, end: u32, limit: usize) -> bool {
        if start >= end {
            return true;
        }
        let first = self.ranges.partition_point(|range| range.1 < start);
        let after = self.ranges.partition_point(|range| range.0 <= end);
        if first < after {
            self.join(first, after, start, end);
        } else if (limit > 0 || !self.ranges.is_empty()) && self.ranges.try_reserve(1).is_ok() {
            self.ranges.insert(first, (start, end));
        } else {
            return self.extend_nearest(first, start, end);
        }
        while self.ranges.len() > limit.max(1) {
            self.close_smallest_gap();
        }
        true
    }

    /// The lowest range.
    pub(crate) fn first(&self) -> Option<(u32, u32)> {
        self.ranges.first().copied()
    }

    /// Takes out at most `max_len` bytes from the front of the lowest range.
    pub(crate) fn pop_front(&mut self, max_len: u32) -> Option<(u32, u32)> {
        let (start, end) = self.first()?;
        let cut = end.min(start.saturating_add(max_len));
        if cut <= start {
            return None;
        }
        self.remove_below(cut);
        Some((start, cut))
    }

    /// Takes out everything below `upto`.
    #[inline]
    pub(crate) fn remove_below(&mut self, upto: u32) {
        if !self.ranges.is_empty() {
            self.drain_below(upto);
        }
    }

    fn drain_below(&mut self, upto: u32) {
        let gone = self.ranges.partition_point(|range| range.1 <= upto);
        self.ranges.drain(..gone);
        if let Some(range) = self.ranges.first_mut() {
            range.0 = range.0.max(upto);
        }
    }

    /// Whether nothing is in the set.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Takes everything out; memory is kept for reuse.
    pub(crate) fn clear(&mut self) {
        self.ranges.clear();
    }

    /// The first part of `start..end` that is not in the set.
    pub(crate) fn first_hole(&self, start: u32, end: u32) -> Option<(u32, u32)> {
        let next = self.ranges.partition_point(|range| range.1 <= start);
        let (hole, after) = match self.ranges.get(next) {
            Some(range) if range.0 <= start => {
                (range.1, self.ranges.get(next.saturating_add(1)).map_or(end, |range| range.0))
            }
            Some(range) => (start, range.0),
            None => (start, end),
        };
        (hole < end).then_some((hole, after.min(end)))
    }

    /// Bytes in the set.
    pub(crate) fn total(&self) -> u32 {
        self.ranges
            .iter()
            .fold(0, |sum: u32, range| sum.saturating_add(range.1.saturating_sub(range.0)))
    }

    /// Replaces the ranges `first..after`, all of which meet `start..end`, by their union.
    fn join(&mut self, first: usize, after: usize, start: u32, end: u32) {
        let top = self.ranges.get(after.saturating_sub(1)).map_or(end, |range| range.1.max(end));
        if let Some(range) = self.ranges.get_mut(first) {
            *range = (range.0.min(start), top);
        }
        self.ranges.drain(first + 1..after);
    }

    /// Lets the neighbour of position `at` that needs less cover `start..end` too.
    fn extend_nearest(&mut self, at: usize, start: u32, end: u32) -> bool {
        let below = at.checked_sub(1).and_then(|index| self.ranges.get(index)).copied();
        let above = self.ranges.get(at).copied();
        match (below, above) {
            (None, None) => return false,
            (Some(low), Some(high)) if start - low.1 <= high.0 - end => {
                self.join(at - 1, at, start, end);
            }
            (Some(_), None) => self.join(at - 1, at, start, end),
            (_, Some(_)) => self.join(at, at + 1, start, end),
        }
        true
    }

    fn close_smallest_gap(&mut self) {
        let gaps = self.ranges.windows(2).map(|pair| match pair {
            [low, high] => high.0 - low.1,
            _ => u32::MAX,
        });
        if let Some((index, _)) = gaps.enumerate().min_by_key(|(_, gap)| *gap) {
            let (start, end) = self.ranges.get(index).copied().unwrap_or_default();
            self.join(index, index + 2, start, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    use super::*;

    const SIZE: usize = 64;

    #[derive(Clone, Debug)]
    enum Operation {
        Insert(u32, u32),
        RemoveBelow(u32),
        PopFront(u32),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let range =
            || (0..SIZE as u32, 0..20u32).prop_map(|(start, len)| (start, (start + len).min(64)));
        prop_oneof![
            4 => range().prop_map(|(start, end)| Operation::Insert(start, end)),
            1 => (0..SIZE as u32).prop_map(Operation::RemoveBelow),
            1 => (0..9u32).prop_map(Operation::PopFront),
        ]
    }

    fn bits(set: &RangeSet) -> [bool; SIZE] {
        let mut bits = [false; SIZE];
        for &(start, end) in &set.ranges {
            bits[start as usize..end as usize].fill(true);
        }
        bits
    }

    fn check_shape(set: &RangeSet, limit: usize) {
        assert!(set.ranges.len() <= limit, "{set:?}");
        assert!(set.ranges.iter().all(|range| range.0 < range.1), "{set:?}");
        assert!(set.ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{set:?}");
        assert_eq!(set.total() as usize, bits(set).iter().filter(|bit| **bit).count());
    }

    /// Applies one operation to the set and to what it must cover at least.
    fn apply(set: &mut RangeSet, model: &mut [bool; SIZE], operation: &Operation, limit: usize) {
        match *operation {
            Operation::Insert(start, end) => {
                assert!(set.insert(start, end, limit));
                model[start as usize..end.max(start) as usize].fill(true);
            }
            Operation::RemoveBelow(upto) => {
                set.remove_below(upto);
                model[..upto as usize].fill(false);
            }
            Operation::PopFront(max_len) => {
                let first = set.first();
                let popped = set.pop_front(max_len);
                if let Some((start, end)) = popped {
                    assert_eq!(first.map(|range| range.0), Some(start));
                    assert!(start < end && end - start <= max_len);
                    model[start as usize..end as usize].fill(false);
                } else {
                    assert!(first.is_none() || max_len == 0);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn with_room_it_is_exact(operations in prop::collection::vec(operation(), 0..100)) {
            let (mut set, mut model) = (RangeSet::new(), [false; SIZE]);
            prop_assert!(set.insert(0, 0, SIZE));
            for operation in &operations {
                apply(&mut set, &mut model, operation, SIZE);
                check_shape(&set, SIZE);
                prop_assert_eq!(bits(&set), model);
                prop_assert_eq!(set.is_empty(), !model.contains(&true));
            }
        }

        #[test]
        fn without_room_it_covers_at_least_what_it_must(
            operations in prop::collection::vec(operation(), 0..100),
            limit in 1..5usize,
        ) {
            let (mut set, mut model) = (RangeSet::new(), [false; SIZE]);
            for operation in &operations {
                apply(&mut set, &mut model, operation, limit);
                check_shape(&set, limit);
                let held = bits(&set);
                prop_assert!(model.iter().zip(held).all(|(must, has)| !must || has));
            }
        }
    }

    /// Positions in the exhaustive tests. Every set of them is tried with every operation, and what
    /// comes out is one of these sets again: so every history is covered, however long.
    const FEW: u32 = 9;

    /// Where position 0 is and how far apart positions are, in bytes: also at the ends of the
    /// number range.
    const SCALES: [(u32, u32); 3] = [(0, 1), (u32::MAX - FEW, 1), (u32::MAX % FEW, u32::MAX / FEW)];

    /// The one form of a set: bit `n` stands for the bytes from position `n` to the next.
    fn set_of(bits: u32, (base, unit): (u32, u32)) -> RangeSet {
        let mut ranges: Vec<(u32, u32)> = vec![];
        for at in (0..FEW).filter(|at| bits >> at & 1 == 1) {
            let (start, end) = (base + at * unit, base + (at + 1) * unit);
            match ranges.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => ranges.push((start, end)),
            }
        }
        RangeSet { ranges }
    }

    /// The bits from `start` to `end`.
    fn span(start: u32, end: u32) -> u32 {
        (start..end).map(|at| 1 << at).sum()
    }

    #[test]
    fn every_operation_on_every_small_set_is_exact() {
        for scale in SCALES {
            let at = |position: u32| scale.0 + position * scale.1;
            for bits in 0..1 << FEW {
                let set = set_of(bits, scale);
                for (start, end) in
                    (0..=FEW).flat_map(|start| (0..=FEW).map(move |end| (start, end)))
                {
                    let mut more = set.clone();
                    assert!(more.insert(at(start), at(end), SIZE));
                    assert_eq!(
                        more,
                        set_of(bits | span(start, end), scale),
                        "{set:?} {start} {end}"
                    );
                }
                for upto in 0..=FEW {
                    let mut less = set.clone();
                    less.remove_below(at(upto));
                    assert_eq!(less, set_of(bits & !span(0, upto), scale), "{set:?} {upto}");
                    let mut popped = set.clone();
                    let first = bits.trailing_zeros().min(FEW);
                    let run = (bits >> first).trailing_ones().min(upto);
                    let expected = (run > 0).then(|| (at(first), at(first + run)));
                    assert_eq!(popped.pop_front(upto * scale.1), expected, "{set:?} {upto}");
                    assert_eq!(popped, set_of(bits & !span(first, first + run), scale));
                }
            }
        }
    }

    #[test]
    fn every_insertion_without_room_covers_the_least_more_that_it_can() {
        for (scale, limit) in
            SCALES.into_iter().flat_map(|scale| [1, 2, 3].map(|limit| (scale, limit)))
        {
            let at = |position: u32| scale.0 + position * scale.1;
            let all = (0..1 << FEW).map(|bits| (bits, set_of(bits, scale)));
            for (bits, set) in all.filter(|(_, set)| set.ranges.len() <= limit) {
                for (start, end) in
                    (0..FEW).flat_map(|start| (start + 1..=FEW).map(move |end| (start, end)))
                {
                    let exact = set_of(bits | span(start, end), scale);
                    let smallest_gap =
                        exact.ranges.windows(2).map(|pair| pair[1].0 - pair[0].1).min();
                    let surplus = smallest_gap.filter(|_| exact.ranges.len() > limit).unwrap_or(0);
                    let mut held = set.clone();
                    assert!(held.insert(at(start), at(end), limit));
                    assert!(held.ranges.len() <= limit, "{held:?}");
                    assert_eq!(held.total(), exact.total() + surplus, "{set:?} {start} {end}");
                    let covers = |range: &(u32, u32)| {
                        held.ranges.iter().any(|it| it.0 <= range.0 && range.1 <= it.1)
                    };
                    assert!(exact.ranges.iter().all(covers), "{set:?} {start} {end}: {held:?}");
                    assert!(held.ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
                }
            }
        }
    }

    #[test]
    fn the_smallest_gap_is_closed_first() {
        let mut set = RangeSet::new();
        for (start, end) in [(0, 10), (100, 110), (115, 120)] {
            assert!(set.insert(start, end, 2));
        }
        assert_eq!(set.ranges, [(0, 10), (100, 120)]);
    }

    #[test]
    fn a_smaller_limit_is_enforced_at_the_next_insertion() {
        let mut set = RangeSet::new();
        for start in [0, 10, 20, 30] {
            set.insert(start, start + 5, 4);
        }
        assert!(set.insert(100, 105, 1));
        assert_eq!(set.ranges, [(0, 105)]);
    }

    #[test]
    fn nothing_fits_into_an_empty_set_with_limit_0() {
        let mut set = RangeSet::new();
        assert!(!set.insert(1, 2, 0));
        assert!(set.is_empty());
        assert!(set.insert(3, 3, 0));
    }

    #[test]
    fn without_memory_the_nearest_range_is_extended() {
        let sets = [(12, 14, vec![(0, 14), (20, 30)]), (17, 19, vec![(0, 10), (17, 30)])];
        for (start, end, expected) in sets {
            let mut set = RangeSet { ranges: vec![(0, 10), (20, 30)] };
            assert!(set.extend_nearest(1, start, end));
            assert_eq!(set.ranges, expected);
        }
        let mut set = RangeSet { ranges: vec![(20, 30)] };
        assert!(set.extend_nearest(0, 1, 2));
        assert!(set.extend_nearest(1, 40, 41));
        assert_eq!(set.ranges, [(1, 41)]);
    }

    #[test]
    fn the_ends_of_the_number_range_are_safe() {
        let mut set = RangeSet::new();
        set.insert(u32::MAX - 1, u32::MAX, 3);
        set.insert(0, 1, 3);
        set.insert(5, 2, 3);
        assert_eq!(set.pop_front(u32::MAX), Some((0, 1)));
        assert_eq!(set.pop_front(u32::MAX), Some((u32::MAX - 1, u32::MAX)));
        assert_eq!(set.pop_front(u32::MAX), None);
        let ranges: Vec<(u32, u32)> = set.ranges;
        assert!(ranges.is_empty());
    }
}
