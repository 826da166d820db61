//! Which bytes of a message were seen.

/// Most separate ranges remembered of one message; Linux's longest message has 712 packets over
/// IPv6.
const RANGES_MAX: usize = 1_024;

/// Byte ranges, sorted and separate. With too many gaps it forgets the smallest detail: it stops
/// counting.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranges {
    ranges: Vec<(u32, u32)>,
    bytes: u64,
    overflowed: bool,
}

impl Ranges {
    /// Adds `start..end` and says how many of these bytes are new.
    pub(crate) fn insert(&mut self, start: u32, end: u32) -> u32 {
        if start >= end || self.overflowed {
            return 0;
        }
        let first = self.ranges.partition_point(|range| range.1 < start);
        let last = self.ranges.partition_point(|range| range.0 <= end);
        let old = self.overlap_in(first, last, start, end);
        let merged = self.ranges.get(first..last).unwrap_or_default();
        let from = merged.first().map_or(start, |range| range.0.min(start));
        let to = merged.last().map_or(end, |range| range.1.max(end));
        self.ranges.splice(first..last, [(from, to)]);
        let new = (end - start) - old;
        self.bytes += u64::from(new);
        if self.ranges.len() > RANGES_MAX {
            self.overflowed = true;
            self.ranges = Vec::new();
        }
        new
    }

    /// How many bytes of `start..end` are there.
    pub(crate) fn overlap(&self, start: u32, end: u32) -> u32 {
        let first = self.ranges.partition_point(|range| range.1 <= start);
        let last = self.ranges.partition_point(|range| range.0 < end);
        self.overlap_in(first, last, start, end)
    }

    fn overlap_in(&self, first: usize, last: usize, start: u32, end: u32) -> u32 {
        let ranges = self.ranges.get(first..last).unwrap_or_default();
        ranges.iter().map(|range| range.1.min(end).saturating_sub(range.0.max(start))).sum()
    }

    /// Number of bytes there are.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// End of the highest range.
    pub(crate) fn end(&self) -> u32 {
        self.ranges.last().map_or(0, |range| range.1)
    }

    /// Frees what a finished message does not need: how much it had stays known.
    pub(crate) fn compact(&mut self) {
        self.ranges.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn neighbours_and_overlaps_become_one_range() {
        let mut ranges = Ranges::default();
        assert_eq!(ranges.insert(10, 20), 10);
        assert_eq!(ranges.insert(30, 40), 10);
        assert_eq!(ranges.insert(20, 30), 10);
        assert_eq!(ranges.ranges, [(10, 40)]);
        assert_eq!(ranges.insert(5, 15), 5);
        assert_eq!(ranges.insert(12, 30), 0);
        assert_eq!((ranges.bytes(), ranges.end()), (35, 40));
        assert_eq!(ranges.overlap(0, 7), 2);
    }

    #[test]
    fn too_many_gaps_end_the_count_instead_of_growing() {
        let mut ranges = Ranges::default();
        for index in 0..10_000 {
            ranges.insert(index * 2, index * 2 + 1);
        }
        assert!(ranges.overflowed);
        assert!(ranges.ranges.is_empty());
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_list_of_bytes(parts in prop::collection::vec((0_u32..200, 0_u32..50), 0..40)) {
            let mut ranges = Ranges::default();
            let mut bytes = [false; 256];
            for (start, length) in parts {
                let end = start + length;
                let places = &mut bytes[start as usize..end as usize];
                let there = places.iter().filter(|byte| **byte).count() as u32;
                prop_assert_eq!(ranges.overlap(start, end), there);
                prop_assert_eq!(ranges.insert(start, end), length - there);
                places.fill(true);
            }
            prop_assert_eq!(ranges.bytes() as usize, bytes.iter().filter(|byte| **byte).count());
        }
    }
}
