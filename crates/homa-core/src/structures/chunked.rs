//! A table that grows without moving what it holds: to add an entry costs the same whether there are ten or a million.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::OutOfMemory;

/// Entries that are added at a time. A chunk of the largest ones fits 32 KiB, what a kernel allocates without trouble.
pub(crate) const CHUNK: usize = 32;

/// Entries by index, in chunks that stay where they are.
#[derive(Debug)]
pub(crate) struct Chunked<T> {
    chunks: Vec<Box<[T; CHUNK]>>,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> Chunked<T> {
    /// Entries in the table.
    pub(crate) fn len(&self) -> usize {
        self.chunks.len().saturating_mul(CHUNK)
    }

    /// The entry at an index.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    /// The entry at an index.
    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let index = index as usize;
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    /// Adds [`CHUNK`] entries that `new` makes.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing changed.
    pub(crate) fn grow(&mut self, new: impl FnMut() -> T) -> Result<(), OutOfMemory> {
        self.chunks.try_reserve(1).map_err(|_| OutOfMemory)?;
        let mut chunk = Vec::new();
        chunk.try_reserve_exact(CHUNK).map_err(|_| OutOfMemory)?;
        chunk.resize_with(CHUNK, new);
        let chunk = chunk.into_boxed_slice().try_into().map_err(|_| OutOfMemory)?;
        self.chunks.push(chunk);
        Ok(())
    }

    /// All entries, in the order of their indices.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stay_where_they_are_when_the_table_grows() {
        let mut numbers = 0..;
        let mut table = Chunked::default();
        assert_eq!((table.len(), table.get(0)), (0, None));
        table.grow(|| numbers.next().unwrap()).unwrap();
        let first: *const i32 = table.get(0).unwrap();
        for _ in 0..99 {
            table.grow(|| numbers.next().unwrap()).unwrap();
        }
        assert_eq!(table.len(), 100 * CHUNK);
        assert!(core::ptr::eq(first, table.get(0).unwrap()));
        assert!((0..100 * CHUNK as i32).eq(table.iter().copied()));
        assert_eq!(table.get(100 * CHUNK as u32), None);
        assert_eq!(table.get(super::super::NIL), None);
        *table.get_mut(CHUNK as u32).unwrap() = -1;
        assert_eq!(table.get(CHUNK as u32), Some(&-1));
    }
}
