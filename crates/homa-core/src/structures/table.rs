//! A table that grows without moving what it holds: to add an entry costs the same whether there
//! are ten or a million.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::OutOfMemory;

/// Entries by index, each in memory of its own: growth moves a pointer per entry.
#[derive(Debug)]
pub(crate) struct Table<T> {
    entries: Vec<Box<[T; 1]>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T> Table<T> {
    /// Entries in the table.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry at an index.
    #[inline(always)]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let [entry] = &**self.entries.get(index as usize)?;
        Some(entry)
    }

    /// The entry at an index.
    #[inline(always)]
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let [entry] = &mut **self.entries.get_mut(index as usize)?;
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

    #[test]
    fn entries_stay_where_they_are_when_the_table_grows() {
        let mut numbers = 0..;
        let mut table = Table::default();
        assert_eq!((table.len(), table.get(0)), (0, None));
        table.grow(1, || numbers.next().unwrap()).unwrap();
        let first: *const i32 = table.get(0).unwrap();
        table.grow(999, || numbers.next().unwrap()).unwrap();
        assert_eq!(table.len(), 1000);
        assert!(core::ptr::eq(first, table.get(0).unwrap()));
        assert!((0..1000).eq(table.iter().copied()));
        assert_eq!((table.get(1000), table.get(super::super::NIL)), (None, None));
        *table.get_mut(7).unwrap() = -1;
        assert_eq!(table.get(7), Some(&-1));
    }
}
