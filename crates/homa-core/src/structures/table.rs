//! A table that grows without moving what it holds: to add an entry costs the same whether there
//! are ten or a million.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::marker::PhantomData;

use super::OutOfMemory;
use super::index::Index;

/// Entries by index, each in memory of its own: growth moves a pointer per entry.
#[derive(Debug)]
pub(crate) struct Table<I, T> {
    entries: Vec<Box<[T; 1]>>,
    of: PhantomData<fn() -> I>,
}

impl<I, T> Default for Table<I, T> {
    fn default() -> Self {
        Self { entries: Vec::new(), of: PhantomData }
    }
}

impl<I: Index, T> Table<I, T> {
    /// Entries in the table.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All indices, in order.
    pub(crate) fn indices(&self) -> impl Iterator<Item = I> + use<I, T> {
        I::first(self.len())
    }

    /// The index of the next entry. `None`: the table is full.
    pub(crate) fn next_index(&self) -> Option<I> {
        I::at(self.len())
    }

    /// The entry at an index.
    #[inline(always)]
    pub(crate) fn get(&self, index: I) -> Option<&T> {
        let [entry] = &**self.entries.get(index.position())?;
        Some(entry)
    }

    /// The entry at an index.
    #[inline(always)]
    pub(crate) fn get_mut(&mut self, index: I) -> Option<&mut T> {
        let [entry] = &mut **self.entries.get_mut(index.position())?;
        Some(entry)
    }

    /// Adds `count` entries that `new` makes.
    ///
    /// # Errors
    /// [`OutOfMemory`]; some may have been added.
    pub(crate) fn grow(
        &mut self,
        count: usize,
        mut new: impl FnMut() -> T,
    ) -> Result<(), OutOfMemory> {
        self.entries.try_reserve(count).map_err(|_| OutOfMemory)?;
        for _ in 0..count {
            // `Box::new` aborts when memory is short.
            let mut entry = Vec::new();
            entry.try_reserve_exact(1).map_err(|_| OutOfMemory)?;
            entry.push(new());
            self.entries.push(entry.into_boxed_slice().try_into().map_err(|_| OutOfMemory)?);
        }
        Ok(())
    }

    /// All entries, in the order of their indices.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().flat_map(|entry| entry.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structures::index::TestIndex;

    #[test]
    fn entries_stay_where_they_are_when_the_table_grows() {
        let mut numbers = 0..;
        let mut table = Table::<TestIndex, i32>::default();
        assert_eq!((table.len(), table.get(0.into())), (0, None));
        table.grow(1, || numbers.next().unwrap()).unwrap();
        let first: *const i32 = table.get(0.into()).unwrap();
        table.grow(999, || numbers.next().unwrap()).unwrap();
        assert_eq!(table.len(), 1000);
        assert!(core::ptr::eq(first, table.get(0.into()).unwrap()));
        assert!((0..1000).eq(table.iter().copied()));
        assert_eq!(table.get(1000.into()), None);
        *table.get_mut(7.into()).unwrap() = -1;
        assert_eq!(table.get(7.into()), Some(&-1));
        assert!(table.indices().map(Index::position).eq(0..1000));
        assert_eq!(table.next_index(), Some(1000.into()));
    }
}
