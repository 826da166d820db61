//! A priority queue over indices whose entries can be re-ranked and removed.

use alloc::vec::Vec;

use super::OutOfMemory;
use super::index::Index;
use super::ring::Ring;

/// Children per node: fewer levels than a binary heap, and the children share a cache line.
const ARITY: usize = 4;
/// Position of an index that is not in the queue.
const ABSENT: u32 = u32::MAX;
/// Positions from this one on are places in the run, others in the heap.
const RUN: u32 = 1 << 31;
/// The part of an entry's number in the run that is its position: no run has more entries, and none
/// is at [`ABSENT`].
const NUMBERS: u32 = 1 << 30;

/// Min-queue of `(key, index)` in which every index occurs at most once; its position is stored,
/// so that re-ranking and removing cost O(log n), amortised. Keys that come in ascending order
/// (births, timers of one interval, messages of one length) form a run, which costs O(1) while it
/// has room: what was removed from its middle takes some until an end of the run comes to it. The
/// others form a heap. Equal keys come out in an order that depends only on the operations before:
/// put a tie-break into the key where the order matters.
#[derive(Debug)]
pub(crate) struct IndexedHeap<I, K> {
    entries: Vec<(K, I)>,
    /// Ascending keys. `None`: it was removed; neither the first nor the last is.
    run: Ring<(K, Option<I>)>,
    /// By index: where in `entries` or in `run` it is, or [`ABSENT`].
    positions: Vec<u32>,
}

impl<I: Index, K: Ord + Copy> IndexedHeap<I, K> {
    /// An empty heap that accepts no index yet.
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new(), run: Ring::new(), positions: Vec::new() }
    }

    /// Makes room for all indices below `index_limit`: none of them ever allocates again.
    /// A smaller limit than before changes nothing.
    ///
    /// # Errors
    /// [`OutOfMemory`] if there is no room, or for a limit of 2^30 or more; nothing changed.
    pub(crate) fn try_reserve(&mut self, index_limit: usize) -> Result<(), OutOfMemory> {
        if index_limit <= self.positions.len() {
            return Ok(());
        }
        if u32::try_from(index_limit).map_or(true, |limit| limit >= NUMBERS) {
            return Err(OutOfMemory);
        }
        let more_positions = index_limit.saturating_sub(self.positions.len());
        let more_entries = index_limit.saturating_sub(self.entries.len());
        self.entries.try_reserve(more_entries).map_err(|_| OutOfMemory)?;
        self.run.try_reserve(index_limit)?;
        self.positions.try_reserve(more_positions).map_err(|_| OutOfMemory)?;
        self.positions.resize(index_limit, ABSENT);
        Ok(())
    }

    /// Inserts `index`, or gives it another key. `false`, and nothing happens, if `index` is
    /// not below the reserved limit.
    #[inline]
    pub(crate) fn set(&mut self, index: I, key: K) -> bool {
        match self.positions.get(index.position()) {
            None => return false,
            Some(&ABSENT) => {}
            Some(&position) if position >= RUN => {
                if self.change_last(position, key) {
                    return true;
                }
                self.leave_run(position);
            }
            Some(&position) => {
                self.settle(position as usize, (key, index));
                return true;
            }
        }
        self.append(index, key);
        true
    }

    /// Inserts `index`, or lowers its key to `key` if it is higher. Nothing happens if `index` is
    /// not below the reserved limit.
    #[inline(always)]
    pub(crate) fn set_at_most(&mut self, index: I, key: K) {
        match self.positions.get(index.position()) {
            None => {}
            Some(&ABSENT) => self.append(index, key),
            Some(_) => self.lower(index, key),
        }
    }

    #[inline(never)]
    fn lower(&mut self, index: I, key: K) {
        if self.key(index).is_some_and(|present| present > key) {
            self.set(index, key);
        }
    }

    /// Inserts an index that is not there.
    #[inline(always)]
    fn append(&mut self, index: I, key: K) {
        let ascends = self.run.back().is_none_or(|last| last.0 <= key);
        // What was removed takes room as well.
        match if ascends { self.run.push_back((key, Some(index))) } else { None } {
            Some(number) => self.set_position(index, position_in_run(number)),
            None => self.enter_heap(index, key),
        }
    }

    /// Takes `index` out. `None` if it is not in the queue.
    #[inline]
    pub(crate) fn remove(&mut self, index: I) -> Option<K> {
        let stored = self.positions.get_mut(index.position())?;
        match core::mem::replace(stored, ABSENT) {
            ABSENT => None,
            position if position >= RUN => self.leave_run(position),
            position => self.leave_heap(position as usize),
        }
    }

    /// The index with the smallest key.
    #[inline]
    pub(crate) fn peek(&self) -> Option<(I, K)> {
        let of_run = self.run.front().and_then(|&(key, index)| Some((index?, key)));
        let of_heap = self.entries.first().map(|&(key, index)| (index, key));
        match (of_run, of_heap) {
            (Some(of_run), Some(of_heap)) => {
                Some(if of_run.1 <= of_heap.1 { of_run } else { of_heap })
            }
            (of_run, of_heap) => of_run.or(of_heap),
        }
    }

    /// Takes out the index with the smallest key.
    #[cfg(test)]
    pub(crate) fn pop(&mut self) -> Option<(I, K)> {
        let (index, key) = self.peek()?;
        self.remove(index);
        Some((index, key))
    }

    /// The key of `index`, `None` if it is not in the queue.
    #[inline]
    pub(crate) fn key(&self, index: I) -> Option<K> {
        match *self.positions.get(index.position())? {
            ABSENT => None,
            position if position >= RUN => self.run.get(position).map(|&(key, _)| key),
            position => self.entries.get(position as usize).map(|&(key, _)| key),
        }
    }

    /// Whether `index` is in the queue.
    pub(crate) fn contains(&self, index: I) -> bool {
        self.positions.get(index.position()).is_some_and(|position| *position != ABSENT)
    }

    /// Number of indices in the queue.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len() + self.run.iter().filter(|entry| entry.1.is_some()).count()
    }

    /// Whether the queue is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.run.is_empty() && self.entries.is_empty()
    }

    fn set_position(&mut self, index: I, position: u32) {
        if let Some(stored) = self.positions.get_mut(index.position()) {
            *stored = position;
        }
    }

    /// Gives the last entry of the run another key, if that is this position and it ascends still.
    #[inline]
    fn change_last(&mut self, position: u32, key: K) -> bool {
        let is_last = self.run.last().is_some_and(|last| position_in_run(last) == position);
        let above = if self.run.len() > 1 { self.run.get(position.wrapping_sub(1)) } else { None };
        let stays = is_last && above.is_none_or(|above| above.0 <= key);
        if let Some(last) = self.run.back_mut().filter(|_| stays) {
            last.0 = key;
        }
        stays
    }

    /// Takes the entry of this position out of the run.
    #[inline]
    fn leave_run(&mut self, position: u32) -> Option<K> {
        let entry = self.run.get_mut(position)?;
        let key = entry.0;
        entry.1 = None;
        while let Some((_, None)) = self.run.front() {
            self.run.pop_front();
        }
        while let Some((_, None)) = self.run.back() {
            self.run.pop_back();
        }
        Some(key)
    }

    #[inline(never)]
    fn enter_heap(&mut self, index: I, key: K) {
        let last = self.entries.len();
        // Within the reserved capacity: at most one entry per position.
        self.entries.push((key, index));
        let position = self.raise_hole(last, key);
        self.place(position, (key, index));
    }

    #[inline(never)]
    fn leave_heap(&mut self, position: usize) -> Option<K> {
        let (key, _) = *self.entries.get(position)?;
        let last = self.entries.pop()?;
        if position < self.entries.len() {
            self.settle(position, last);
        }
        Some(key)
    }

    fn place(&mut self, position: usize, entry: (K, I)) {
        if let Some(slot) = self.entries.get_mut(position) {
            *slot = entry;
        }
        // Positions are below the reserved limit, which is below `RUN`.
        self.set_position(entry.1, position as u32);
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

/// The position of the entry with this number in the run.
#[inline]
fn position_in_run(number: u32) -> u32 {
    RUN | (number % NUMBERS)
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
        assert!(heap.run.iter().is_sorted_by_key(|&(key, _)| key));
        for &(key, index) in heap.run.iter() {
            if let Some(index) = index {
                assert_eq!(heap.key(index), Some(key));
            }
        }
        let ends = [heap.run.front(), heap.run.back()];
        assert!(ends.into_iter().flatten().all(|(_, index)| index.is_some()));
        let present = heap.positions.iter().filter(|position| **position != ABSENT).count();
        assert_eq!(present, heap.len());
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_map(operations in prop::collection::vec(operation(), 0..300)) {
            let mut heap = IndexedHeap::<TestIndex, _>::new();
            heap.try_reserve(32).unwrap();
            // Numbers of the run soon begin again.
            heap.set(0.into(), (0, 0));
            heap.remove(0.into());
            heap.run.begin_at(NUMBERS - 20);
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
