//! Indices of tables, with a type for each table.

use core::fmt::Debug;

/// Index of an entry in one table. [`index`] declares such types, of which an `Option` takes no
/// more room.
pub(crate) trait Index: Copy + Ord + Debug {
    /// The index of a position. `None`: no table is so long.
    fn at(position: usize) -> Option<Self>;

    /// Position in the table.
    fn position(self) -> usize;

    /// The indices of the first `count` positions.
    fn first(count: usize) -> impl Iterator<Item = Self> {
        (0..count).map_while(Self::at)
    }
}

/// Declares the type of the indices of one table.
macro_rules! index {
    ($(#[$doc:meta])* $visibility:vis struct $name:ident;) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        $visibility struct $name(
            /// One more than the position.
            core::num::NonZeroU32,
        );

        impl $crate::structures::index::Index for $name {
            #[inline(always)]
            fn at(position: usize) -> Option<Self> {
                let number = u32::try_from(position.checked_add(1)?).ok()?;
                core::num::NonZeroU32::new(number).map(Self)
            }

            #[inline(always)]
            fn position(self) -> usize {
                self.0.get().wrapping_sub(1) as usize
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                $crate::structures::index::Index::position(*self).fmt(f)
            }
        }

        #[cfg(test)]
        impl From<u32> for $name {
            fn from(position: u32) -> Self {
                $crate::structures::index::Index::at(position as usize).unwrap()
            }
        }
    };
}
pub(crate) use index;

/// Indices of which only the count is known and, if it is one, which that is: their exclusive or.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct XorSet {
    count: u32,
    /// Positions are less than 2^32.
    positions: u32,
}

impl XorSet {
    /// Adds an index that is not in the set.
    pub(crate) fn add(&mut self, index: impl Index) {
        self.count = self.count.saturating_add(1);
        self.positions ^= index.position() as u32;
    }

    /// Takes an index out that is in the set.
    pub(crate) fn remove(&mut self, index: impl Index) {
        self.count = self.count.saturating_sub(1);
        self.positions ^= index.position() as u32;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The index that is alone in the set.
    pub(crate) fn only<I: Index>(&self) -> Option<I> {
        if self.count == 1 { I::at(self.positions as usize) } else { None }
    }
}

#[cfg(test)]
index! {
    /// Index of a table of a test.
    pub(crate) struct TestIndex;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_and_an_option_takes_no_more_room() {
        for position in [0, 1, 7, u32::MAX as usize - 1] {
            let index = TestIndex::at(position).unwrap();
            assert_eq!(index.position(), position);
            assert_eq!(alloc::format!("{index:?}"), alloc::format!("{position}"));
        }
        assert_eq!(TestIndex::at(u32::MAX as usize), None);
        assert_eq!(TestIndex::at(usize::MAX), None);
        assert!(TestIndex::first(3).map(Index::position).eq(0..3));
        assert!(TestIndex::from(2) < TestIndex::from(3));
        assert_eq!(size_of::<Option<TestIndex>>(), size_of::<u32>());
    }

    #[test]
    fn the_index_that_is_alone_in_a_set_is_known() {
        let mut set = XorSet::default();
        let [a, b, c] = [0, 5, 9].map(TestIndex::from);
        assert!(set.is_empty() && set.only::<TestIndex>().is_none());
        set.add(a);
        assert_eq!(set.only(), Some(a));
        set.add(b);
        set.add(c);
        set.remove(a);
        assert_eq!((set.only::<TestIndex>(), set.is_empty()), (None, false));
        set.remove(c);
        assert_eq!(set.only(), Some(b));
        set.remove(b);
        assert!(set.is_empty() && set == XorSet::default());
    }
}
