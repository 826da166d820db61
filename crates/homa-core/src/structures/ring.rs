//! A queue in a ring of places. Its entries are numbered in the order in which they came, and are
//! found by their numbers.

use alloc::vec::Vec;

use super::OutOfMemory;

/// Entries that come at the back and leave at both ends. Numbers wrap at 2^32.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    /// Those that were never used are not there yet.
    places: Vec<T>,
    /// Places for which there is room: a power of two, or 0.
    room: u32,
    /// Number of the first entry.
    begin: u32,
    /// Number of the next one to come.
    end: u32,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Ring<T> {
    /// A ring without places.
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), room: 0, begin: 0, end: 0 }
    }

    /// Number of entries.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.end.wrapping_sub(self.begin)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    /// Place of the entry of a number.
    #[inline]
    const fn place(&self, number: u32) -> usize {
        (number & self.room.wrapping_sub(1)) as usize
    }
}

impl<T: Copy> Ring<T> {
    /// Makes room for `total` entries.
    ///
    /// # Errors
    /// [`OutOfMemory`] if there is none, or for more than 2^30; nothing changed.
    pub(crate) fn try_reserve(&mut self, total: usize) -> Result<(), OutOfMemory> {
        let total = u32::try_from(total).ok().filter(|total| *total <= 1 << 30);
        let room = total.ok_or(OutOfMemory)?.next_power_of_two();
        if room <= self.room {
            return Ok(());
        }
        let mut grown = Self { room, begin: self.begin, end: self.begin, ..Self::new() };
        grown.places.try_reserve_exact(room as usize).map_err(|_| OutOfMemory)?;
        match self.front() {
            None => (grown.begin, grown.end) = (0, 0),
            Some(first) => grown.places.resize(room as usize, *first),
        }
        while let Some(entry) = self.pop_front() {
            grown.push_back(entry);
        }
        *self = grown;
        Ok(())
    }

    /// Appends an entry and returns its number. `None`: there is no room.
    #[inline]
    pub(crate) fn push_back(&mut self, entry: T) -> Option<u32> {
        let number = self.end;
        if self.len() >= self.room {
            return None;
        }
        let place = self.place(number);
        match self.places.get_mut(place) {
            Some(place) => *place = entry,
            None => self.first_lap(entry),
        }
        self.end = number.wrapping_add(1);
        Some(number)
    }

    /// The first lap fills the places that were reserved.
    #[cold]
    #[inline(never)]
    fn first_lap(&mut self, entry: T) {
        self.places.push(entry);
    }

    /// The entry of a number, which is that of one that is there.
    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.places.get(self.place(number))
    }

    /// The same.
    #[inline]
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let place = self.place(number);
        self.places.get_mut(place)
    }

    /// Number of the last entry, if there is one.
    #[inline]
    pub(crate) fn last(&self) -> Option<u32> {
        (!self.is_empty()).then_some(self.end.wrapping_sub(1))
    }

    #[inline]
    pub(crate) fn front(&self) -> Option<&T> {
        if self.is_empty() { None } else { self.get(self.begin) }
    }

    #[inline]
    pub(crate) fn front_mut(&mut self) -> Option<&mut T> {
        if self.is_empty() { None } else { self.get_mut(self.begin) }
    }

    /// The entry behind the first.
    pub(crate) fn second(&self) -> Option<&T> {
        if self.len() > 1 { self.get(self.begin.wrapping_add(1)) } else { None }
    }

    #[inline]
    pub(crate) fn back(&self) -> Option<&T> {
        self.last().and_then(|last| self.get(last))
    }

    #[inline]
    pub(crate) fn back_mut(&mut self) -> Option<&mut T> {
        self.last().and_then(|last| self.get_mut(last))
    }

    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let first = *self.front()?;
        self.begin = self.begin.wrapping_add(1);
        Some(first)
    }

    #[inline]
    pub(crate) fn pop_back(&mut self) -> Option<T> {
        let last = *self.back()?;
        self.end = self.end.wrapping_sub(1);
        Some(last)
    }

    /// The entries, in order.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len()).filter_map(|place| self.get(self.begin.wrapping_add(place)))
    }

    /// The same ring, empty, whose next entry has this number.
    #[cfg(test)]
    pub(crate) fn begin_at(&mut self, number: u32) {
        if let Some(filler) = self.places.first().copied() {
            self.places.resize(self.room as usize, filler);
        }
        (self.begin, self.end) = (number, number);
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::VecDeque;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_ring_without_places_takes_nothing() {
        let mut ring = Ring::new();
        assert_eq!((ring.push_back(1), ring.len(), ring.front()), (None, 0, None));
        assert_eq!(ring.try_reserve(usize::MAX), Err(OutOfMemory));
        assert_eq!(ring.try_reserve((1 << 30) + 1), Err(OutOfMemory));
        ring.try_reserve(3).unwrap();
        assert_eq!((0..5).filter_map(|entry| ring.push_back(entry)).count(), 4);
        assert_eq!((ring.pop_back(), ring.pop_front(), ring.len()), (Some(3), Some(0), 2));
    }

    #[test]
    fn entries_keep_their_numbers_when_the_ring_grows() {
        let mut ring = Ring::new();
        ring.try_reserve(2).unwrap();
        for entry in 0..20 {
            ring.push_back(entry);
            ring.pop_front();
        }
        let numbers = [20, 21].map(|entry| ring.push_back(entry).unwrap());
        ring.try_reserve(100).unwrap();
        assert_eq!(numbers.map(|number| *ring.get(number).unwrap()), [20, 21]);
        assert_eq!(ring.push_back(22).unwrap(), numbers[1] + 1);
        assert!(ring.iter().copied().eq(20..23));
    }

    proptest! {
        #[test]
        fn behaves_like_a_deque(
            steps in prop::collection::vec(0..10u8, 0..200),
            begin in prop_oneof![Just(0), Just(u32::MAX - 3)],
        ) {
            let (mut ring, mut model) = (Ring::new(), VecDeque::new());
            ring.try_reserve(1).unwrap();
            ring.push_back(0);
            ring.begin_at(begin);
            for (step, kind) in steps.into_iter().enumerate() {
                match kind {
                    0..5 => {
                        let room = ring.len() < ring.room;
                        prop_assert_eq!(ring.push_back(step).is_some(), room);
                        if room {
                            model.push_back(step);
                        }
                    }
                    5..7 => prop_assert_eq!(ring.pop_front(), model.pop_front()),
                    7..9 => prop_assert_eq!(ring.pop_back(), model.pop_back()),
                    _ => ring.try_reserve(model.len() + 1).unwrap(),
                }
                prop_assert_eq!((ring.front(), ring.back()), (model.front(), model.back()));
                prop_assert!(ring.iter().eq(model.iter()));
                let number = ring.last();
                prop_assert_eq!(number.and_then(|number| ring.get(number)), model.back());
                prop_assert_eq!(ring.is_empty(), model.is_empty());
            }
        }
    }
}
