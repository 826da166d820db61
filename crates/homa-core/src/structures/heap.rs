//! A priority queue over indices whose entries can be re-ranked and removed.

use alloc::vec::Vec;

use super::OutOfMemory;
use super::index::Index;

/// Children per node: fewer levels than a binary heap, and the children share a cache line.
const ARITY: usize = 4;
/// Position of an index that is not in the heap.
const ABSENT: u32 = u32::MAX;

/// Min-heap of `(key, index)` in which every index occurs at most once; its position is stored,
/// so that re-ranking and removing cost O(log n). Equal keys come out in an order that depends
/// only on the operations before: put a tie-break into the key where the order matters.
#[derive(Debug)]
pub(crate) struct IndexedHeap<I, K> {
    entries: Vec<(K, I)>,
    /// By index: where in `entries` it is, or [`ABSENT`].
    positions: Vec<u32>,
}

impl<I: Index, K: Ord + Copy> IndexedHeap<I, K> {
    /// An empty heap that accepts no index yet.
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new(), positions: Vec::new() }
    }

    /// Makes room for all indices below `index_limit`: none of them ever allocates again.
    /// A smaller limit than before changes nothing.
    ///
    /// # Errors
    /// [`OutOfMemory`] if there is no room, or for a limit of 2^32 − 1 or more; nothing changed.
    pub(crate) fn try_reserve(&mut self, index_limit: usize) -> Result<(), OutOfMemory> {
        if index_limit <= self.positions.len() {
            return Ok(());
        }
        if u32::try_from(index_limit).map_or(true, |limit| limit == ABSENT) {
            return Err(OutOfMemory);
        }
        let more_positions = index_limit.saturating_sub(self.positions.len());
        let more_entries = index_limit.saturating_sub(self.entries.len());
        self.entries.try_reserve(more_entries).map_err(|_| OutOfMemory)?;
        self.positions.try_reserve(more_positions).map_err(|_| OutOfMemory)?;
        self.positions.resize(index_limit, ABSENT);
        Ok(())
    }

    /// Inserts `index`, or gives it another key. `false`, and nothing happens, if `index` is
    /// not below the reserved limit.
    pub(crate) fn set(&mut self, index: I, key: K) -> bool {
        match self.positions.get(index.position()) {
            None => false,
            Some(&ABSENT) => {
                let last = self.entries.len();
                // Within the reserved capacity: at most one entry per position.
                self.entries.push((key, index));
                let position = self.raise_hole(last, key);
                self.place(position, (key, index));
                true
            }
            Some(&position) => {
                self.settle(position as usize, (key, index));
                true
            }
        }
    }

    /// Takes `index` out. `None` if it is not in the heap.
    pub(crate) fn remove(&mut self, index: I) -> Option<K> {
        let position = self.position(index)?;
        let (key, _) = *self.entries.get(position)?;
        let last = self.entries.pop()?;
        self.forget(index);
        if position < self.entries.len() {
            self.settle(position, last);
        }
        Some(key)
    }

    /// The index with the smallest key.
    pub(crate) fn peek(&self) -> Option<(I, K)> {
        self.entries.first().map(|&(key, index)| (index, key))
    }

    /// Takes out the index with the smallest key.
    #[cfg(test)]
    pub(crate) fn pop(&mut self) -> Option<(I, K)> {
        let (index, key) = self.peek()?;
        self.remove(index);
        Some((index, key))
    }

    /// The key of `index`, `None` if it is not in the heap.
    pub(crate) fn key(&self, index: I) -> Option<K> {
        let position = self.position(index)?;
        self.entries.get(position).map(|&(key, _)| key)
    }

    /// Whether `index` is in the heap.
    pub(crate) fn contains(&self, index: I) -> bool {
        self.position(index).is_some()
    }

    /// Number of indices in the heap.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the heap is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn position(&self, index: I) -> Option<usize> {
        match self.positions.get(index.position()) {
            None | Some(&ABSENT) => None,
            Some(&position) => Some(position as usize),
        }
    }

    fn forget(&mut self, index: I) {
        if let Some(position) = self.positions.get_mut(index.position()) {
            *position = ABSENT;
        }
    }

    fn place(&mut self, position: usize, entry: (K, I)) {
        if let Some(slot) = self.entries.get_mut(position) {
            *slot = entry;
        }
        if let Some(stored) = self.positions.get_mut(entry.1.position()) {
            // Positions are below the reserved limit, which fits 32 bits.
            *stored = position as u32;
        }
    }

    /// Puts `entry` where it belongs, starting from a free place at `position`.
    fn settle(&mut self, position: usize, entry: (K, I)) {
        let raised = self.raise_hole(position, entry.0);
        let position = if raised == position { self.lower_hole(position, entry.0) } else { raised };
        self.place(position, entry);
    }

    /// Moves the free place up past all larger keys; returns where it ends.
    fn raise_hole(&mut self, mut hole: usize, key: K) -> usize {
        while hole > 0 {
            let parent = (hole - 1) / ARITY;
            match self.entries.get(parent) {
                Some(&above) if key < above.0 => self.place(hole, above),
                _ => break,
            }
            hole = parent;
        }
        hole
    }

    /// Moves the free place down past all smaller keys; returns where it ends.
    fn lower_hole(&mut self, mut hole: usize, key: K) -> usize {
        while let Some((child, below)) = self.smallest_child(hole) {
            if key <= below.0 {
                break;
            }
            self.place(hole, below);
            hole = child;
        }
        hole
    }

    fn smallest_child(&self, position: usize) -> Option<(usize, (K, I))> {
        let first = position.saturating_mul(ARITY).saturating_add(1);
        if first >= self.entries.len() {
            return None;
        }
        let end = first.saturating_add(ARITY).min(self.entries.len());
        let children = self.entries.get(first..end)?;
        let (offset, child) = children.iter().enumerate().min_by_key(|(_, child)| child.0)?;
        Some((first + offset, *child))
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    use super::*;
    use crate::structures::index::TestIndex;

    #[derive(Clone, Debug)]
    enum Operation {
        Set(u32, u16),
        Remove(u32),
        Pop,
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            4 => (0..40u32, any::<u16>()).prop_map(|(index, key)| Operation::Set(index, key)),
            2 => (0..40u32).prop_map(Operation::Remove),
            1 => Just(Operation::Pop),
        ]
    }

    /// Every stored position is right and no child is smaller than its parent.
    fn check(heap: &IndexedHeap<TestIndex, (u16, u32)>) {
        for (position, &(key, index)) in heap.entries.iter().enumerate() {
            assert_eq!(heap.positions[index.position()], position as u32);
            if position > 0 {
                assert!(heap.entries[(position - 1) / ARITY].0 <= key);
            }
        }
        let present = heap.positions.iter().filter(|position| **position != ABSENT).count();
        assert_eq!(present, heap.entries.len());
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_map(operations in prop::collection::vec(operation(), 0..300)) {
            let mut heap = IndexedHeap::<TestIndex, _>::new();
            heap.try_reserve(32).unwrap();
            let mut model: BTreeMap<u32, (u16, u32)> = BTreeMap::new();
            for operation in operations {
                match operation {
                    Operation::Set(index, key) => {
                        prop_assert_eq!(heap.set(index.into(), (key, index)), index < 32);
                        if index < 32 {
                            model.insert(index, (key, index));
                        }
                    }
                    Operation::Remove(index) => {
                        prop_assert_eq!(heap.remove(index.into()), model.remove(&index));
                    }
                    Operation::Pop => {
                        let smallest = model.values().min().copied();
                        prop_assert_eq!(heap.pop(), smallest.map(|key| (key.1.into(), key)));
                        if let Some((_, index)) = smallest {
                            model.remove(&index);
                        }
                    }
                }
                check(&heap);
                prop_assert_eq!(heap.len(), model.len());
                prop_assert_eq!(heap.is_empty(), model.is_empty());
                prop_assert_eq!(heap.peek().map(|(_, key)| key), model.values().min().copied());
                for index in 0..40 {
                    prop_assert_eq!(heap.key(index.into()), model.get(&index).copied());
                    prop_assert_eq!(heap.contains(index.into()), model.contains_key(&index));
                }
            }
        }
    }

    #[test]
    fn an_index_beyond_the_limit_is_ignored() {
        let mut heap = IndexedHeap::<TestIndex, _>::new();
        assert!(!heap.set(0.into(), 1));
        heap.try_reserve(1).unwrap();
        assert!(heap.set(0.into(), 1));
        assert!(!heap.set(1.into(), 1));
        assert!(!heap.set((u32::MAX - 1).into(), 1));
        assert_eq!(heap.remove((u32::MAX - 1).into()), None);
        assert_eq!(heap.len(), 1);
    }

    #[test]
    fn reserved_indices_never_allocate() {
        let mut heap = IndexedHeap::<TestIndex, _>::new();
        heap.try_reserve(100).unwrap();
        let capacity = heap.entries.capacity();
        for round in 0..3u32 {
            for index in 0..100 {
                heap.set(index.into(), (index * 7919 + round) % 101);
            }
        }
        assert_eq!(heap.entries.capacity(), capacity);
        assert_eq!(heap.len(), 100);
    }

    #[test]
    fn growing_keeps_what_is_there() {
        let mut heap = IndexedHeap::<TestIndex, _>::new();
        heap.try_reserve(2).unwrap();
        heap.set(1.into(), 5);
        heap.try_reserve(1000).unwrap();
        heap.set(999.into(), 4);
        heap.try_reserve(3).unwrap();
        let order: Vec<_> = core::iter::from_fn(|| heap.pop()).collect();
        assert_eq!(order, [(999.into(), 4), (1.into(), 5)]);
    }

    #[test]
    fn an_impossible_limit_is_an_error() {
        let mut heap = IndexedHeap::<TestIndex, u32>::new();
        assert_eq!(heap.try_reserve(u32::MAX as usize), Err(OutOfMemory));
        assert_eq!(heap.try_reserve(usize::MAX), Err(OutOfMemory));
        assert!(!heap.set(0.into(), 0));
    }
}
