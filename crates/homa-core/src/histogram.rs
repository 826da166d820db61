//! Bytes of incoming messages by message length.

use alloc::vec::Vec;

use crate::structures::OutOfMemory;

/// Bins of 64 bytes, for messages up to [`FINE_BYTES_MAX`].
const FINE_BINS: usize = 64;
const FINE_STEP_BYTES: u32 = 64;
const FINE_BYTES_MAX: u32 = 4096;
/// Bins of 1 KB, for messages up to [`COARSE_BYTES_MAX`].
const COARSE_BINS: usize = 124;
const COARSE_STEP_BYTES: u32 = 1024;
const COARSE_BYTES_MAX: u32 = 131_072;
const BINS: usize = FINE_BINS + COARSE_BINS;

/// A range of message lengths: messages longer than `lower_bytes` and at most `upper_bytes` long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthBin {
    /// The longest length below the range, in bytes.
    pub lower_bytes: u32,
    /// The longest length in it, in bytes.
    pub upper_bytes: u32,
    /// Bytes in such messages.
    pub bytes: u64,
}

/// Messages longer than the last [`LengthBin`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LargeMessages {
    /// How many.
    pub count: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// Free-running byte counts per message length, with the bins of the Linux implementation
/// (docs/spec/observability.md §2.1).
#[derive(Clone, Debug)]
pub(crate) struct LengthHistogram {
    /// Always [`BINS`] long. On the heap: too large for a kernel's stack.
    bins: Vec<u64>,
    large: LargeMessages,
}

impl LengthHistogram {
    /// An empty histogram.
    ///
    /// # Errors
    /// [`OutOfMemory`] if its 1.5 KB cannot be allocated.
    pub(crate) fn new() -> Result<Self, OutOfMemory> {
        let mut bins = Vec::new();
        bins.try_reserve_exact(BINS).map_err(|_| OutOfMemory)?;
        bins.resize(BINS, 0);
        Ok(Self { bins, large: LargeMessages::default() })
    }

    /// Counts a message of `length` bytes; 0 is no length and ignored.
    pub(crate) fn record(&mut self, length: u32) {
        let bytes = u64::from(length);
        if let Some(bin) = bin_of(length).and_then(|index| self.bins.get_mut(index)) {
            *bin = bin.saturating_add(bytes);
        } else if length > COARSE_BYTES_MAX {
            self.large.count = self.large.count.saturating_add(1);
            self.large.bytes = self.large.bytes.saturating_add(bytes);
        }
    }

    /// The bins from short to long.
    pub(crate) fn bins(&self) -> impl Iterator<Item = LengthBin> + Clone {
        self.bins.iter().enumerate().map(|(index, bytes)| bin(index, *bytes))
    }

    /// The messages beyond the last bin.
    pub(crate) const fn large(&self) -> LargeMessages {
        self.large
    }

    /// The bins with what was counted since `earlier`, a copy of this histogram.
    pub(crate) fn bins_since<'a>(
        &'a self,
        earlier: &'a Self,
    ) -> impl Iterator<Item = LengthBin> + Clone + 'a {
        let pairs = self.bins.iter().zip(&earlier.bins).enumerate();
        pairs.map(|(index, (now, then))| bin(index, now.saturating_sub(*then)))
    }

    /// The messages beyond the last bin that were counted since `earlier`.
    pub(crate) const fn large_since(&self, earlier: &Self) -> LargeMessages {
        LargeMessages {
            count: self.large.count.saturating_sub(earlier.large.count),
            bytes: self.large.bytes.saturating_sub(earlier.large.bytes),
        }
    }

    /// Becomes equal to `other` without allocating.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        for (to, from) in self.bins.iter_mut().zip(&other.bins) {
            *to = *from;
        }
        self.large = other.large;
    }
}

fn bin_of(length: u32) -> Option<usize> {
    let before = length.checked_sub(1)?;
    if length <= FINE_BYTES_MAX {
        Some((before / FINE_STEP_BYTES) as usize)
    } else if length <= COARSE_BYTES_MAX {
        Some(FINE_BINS + ((before - FINE_BYTES_MAX) / COARSE_STEP_BYTES) as usize)
    } else {
        None
    }
}

/// The bin at `index`, which is below [`BINS`] and so within 32 bits.
const fn bin(index: usize, bytes: u64) -> LengthBin {
    let (base, step, steps) = if index < FINE_BINS {
        (0, FINE_STEP_BYTES, index as u32)
    } else {
        (FINE_BYTES_MAX, COARSE_STEP_BYTES, (index - FINE_BINS) as u32)
    };
    let lower_bytes = base + step * steps;
    LengthBin { lower_bytes, upper_bytes: lower_bytes + step, bytes }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;
    use proptest::prelude::*;

    use super::*;

    fn filled(histogram: &LengthHistogram) -> Vec<LengthBin> {
        histogram.bins().filter(|bin| bin.bytes > 0).collect()
    }

    #[test]
    fn the_bins_are_those_of_linux() {
        let histogram = LengthHistogram::new().unwrap();
        let uppers: Vec<u32> = histogram.bins().map(|bin| bin.upper_bytes).collect();
        assert_eq!(uppers.len(), 188);
        assert_eq!(&uppers[..3], [64, 128, 192]);
        assert_eq!(&uppers[62..66], [4032, 4096, 5120, 6144]);
        assert_eq!(uppers[187], 131_072);
        assert!(
            histogram
                .bins()
                .zip(histogram.bins().skip(1))
                .all(|(a, b)| a.upper_bytes == b.lower_bytes)
        );
    }

    // Scenario: O1
    #[test]
    fn a_bin_ends_at_its_upper_edge() {
        for (length, upper) in [(64, 64), (65, 128), (4096, 4096), (4097, 5120), (5121, 6144)] {
            let mut histogram = LengthHistogram::new().unwrap();
            histogram.record(length);
            assert_eq!(filled(&histogram)[0].upper_bytes, upper);
        }
    }

    #[test]
    fn long_messages_are_counted_apart_and_empty_ones_not_at_all() {
        let mut histogram = LengthHistogram::new().unwrap();
        histogram.record(0);
        histogram.record(131_073);
        histogram.record(u32::MAX);
        let bytes = 131_073 + u64::from(u32::MAX);
        assert_eq!(histogram.large(), LargeMessages { count: 2, bytes });
        assert!(filled(&histogram).is_empty());
    }

    #[test]
    fn a_difference_holds_what_came_since() {
        let mut histogram = LengthHistogram::new().unwrap();
        let mut earlier = LengthHistogram::new().unwrap();
        histogram.record(100);
        histogram.record(200_000);
        earlier.copy_from(&histogram);
        histogram.record(70);
        histogram.record(300_000);
        let since: Vec<LengthBin> =
            histogram.bins_since(&earlier).filter(|bin| bin.bytes > 0).collect();
        assert_eq!(since, [LengthBin { lower_bytes: 64, upper_bytes: 128, bytes: 70 }]);
        assert_eq!(histogram.large_since(&earlier), LargeMessages { count: 1, bytes: 300_000 });
    }

    proptest! {
        #[test]
        fn a_length_falls_between_the_edges_of_its_bin(length in 1..=COARSE_BYTES_MAX) {
            let mut histogram = LengthHistogram::new().unwrap();
            histogram.record(length);
            let bins = filled(&histogram);
            prop_assert_eq!(bins.len(), 1);
            prop_assert!(bins[0].lower_bytes < length && length <= bins[0].upper_bytes);
            prop_assert_eq!(bins[0].bytes, u64::from(length));
            prop_assert_eq!(histogram.large(), LargeMessages::default());
        }
    }
}
