//! Many small heaps over the same indices: an index lies in at most one of them, so that they can
//! share one table of positions.

use alloc::vec::Vec;

use crate::structures::OutOfMemory;
use crate::structures::index::Index;

const ABSENT: u32 = u32::MAX;

/// Where each index lies in the heap that holds it.
#[derive(Debug, Default)]
pub(crate) struct Positions(Vec<u32>);

impl Positions {
    /// Covers indices below `limit`.
    pub(crate) fn try_reserve(&mut self, limit: usize) -> Result<(), OutOfMemory> {
        let add = limit.saturating_sub(self.0.len());
        self.0.try_reserve(add).map_err(|_| OutOfMemory)?;
        if add > 0 {
            self.0.resize(limit, ABSENT);
        }
        Ok(())
    }

    fn get(&self, index: impl Index) -> Option<usize> {
        self.0.get(index.position()).copied().filter(|at| *at != ABSENT).map(|at| at as usize)
    }

    fn set(&mut self, index: impl Index, at: usize) {
        if let Some(position) = self.0.get_mut(index.position()) {
            *position = u32::try_from(at).unwrap_or(ABSENT);
        }
    }

    fn clear(&mut self, index: impl Index) {
        self.set(index, ABSENT as usize);
    }
}

/// A binary min-heap whose positions lie in a shared [`Positions`].
#[derive(Debug)]
pub(crate) struct SharedHeap<I, K> {
    entries: Vec<(K, I)>,
}

impl<I, K> Default for SharedHeap<I, K> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<I: Index, K: Ord + Copy> SharedHeap<I, K> {
    /// Makes room for `limit` indices.
    pub(crate) fn try_reserve(&mut self, limit: usize) -> Result<(), OutOfMemory> {
        let add = limit.saturating_sub(self.entries.len());
        self.entries.try_reserve(add).map_err(|_| OutOfMemory)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[cfg(any(test, feature = "check"))]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether `index` lies in this heap.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn contains(&self, positions: &Positions, index: I) -> bool {
        positions.get(index).is_some_and(|at| self.holds(at, index))
    }

    pub(crate) fn peek(&self) -> Option<(I, K)> {
        self.entries.first().map(|(key, index)| (*index, *key))
    }

    /// Inserts or re-keys.
    pub(crate) fn set(
        &mut self,
        positions: &mut Positions,
        index: I,
        key: K,
    ) -> Result<(), OutOfMemory> {
        let at = match positions.get(index).filter(|at| self.holds(*at, index)) {
            Some(at) => at,
            None => {
                self.entries.try_reserve(1).map_err(|_| OutOfMemory)?;
                self.entries.push((key, index));
                self.entries.len().saturating_sub(1)
            }
        };
        if let Some(entry) = self.entries.get_mut(at) {
            entry.0 = key;
        }
        let at = self.sift_up(positions, at);
        self.sift_down(positions, at);
        Ok(())
    }

    /// Takes an index out; `false` if it is not in this heap.
    pub(crate) fn remove(&mut self, positions: &mut Positions, index: I) -> bool {
        let Some(at) = positions.get(index).filter(|at| self.holds(*at, index)) else {
            return false;
        };
        positions.clear(index);
        let _removed = self.entries.swap_remove(at);
        if at < self.entries.len() {
            let at = self.sift_up(positions, at);
            self.sift_down(positions, at);
        }
        true
    }

    pub(crate) fn pop(&mut self, positions: &mut Positions) -> Option<I> {
        let (index, _) = self.peek()?;
        self.remove(positions, index);
        Some(index)
    }

    fn holds(&self, at: usize, index: I) -> bool {
        self.entries.get(at).is_some_and(|(_, held)| *held == index)
    }

    fn key(&self, at: usize) -> Option<K> {
        self.entries.get(at).map(|(key, _)| *key)
    }

    fn place(&self, positions: &mut Positions, at: usize) {
        if let Some((_, index)) = self.entries.get(at) {
            positions.set(*index, at);
        }
    }

    fn sift_up(&mut self, positions: &mut Positions, mut at: usize) -> usize {
        while at > 0 {
            let parent = at.saturating_sub(1) / 2;
            if self.key(at) >= self.key(parent) {
                break;
            }
            self.entries.swap(at, parent);
            self.place(positions, at);
            at = parent;
        }
        self.place(positions, at);
        at
    }

    fn sift_down(&mut self, positions: &mut Positions, mut at: usize) {
        loop {
            let left = at.saturating_mul(2).saturating_add(1);
            let right = left.saturating_add(1);
            let mut least = at;
            for child in [left, right] {
                if child < self.entries.len() && self.key(child) < self.key(least) {
                    least = child;
                }
            }
            if least == at {
                break;
            }
            self.entries.swap(at, least);
            self.place(positions, at);
            at = least;
        }
        self.place(positions, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structures::index::TestIndex;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn two_heaps_over_the_same_indices_each_give_their_least(
            steps in proptest::collection::vec((0u32..20, 0u32..1000, 0u8..4), 1..300)
        ) {
            let mut positions = Positions::default();
            positions.try_reserve(20).unwrap();
            let mut heaps = [SharedHeap::<TestIndex, _>::default(), SharedHeap::default()];
            let mut model = alloc::collections::BTreeMap::new();
            for (index, key, action) in steps {
                let side = usize::from(action % 2);
                if action < 2 {
                    if model.get(&index).is_none_or(|(s, _)| *s == side) {
                        heaps[side].set(&mut positions, index.into(), (key, index)).unwrap();
                        model.insert(index, (side, key));
                    }
                } else {
                    let present = model.get(&index).is_some_and(|(s, _)| *s == side);
                    prop_assert_eq!(heaps[side].remove(&mut positions, index.into()), present);
                    if present {
                        model.remove(&index);
                    }
                }
                for (side, heap) in heaps.iter().enumerate() {
                    let least = model.iter().filter(|(_, v)| v.0 == side).map(|(i, v)| (v.1, *i)).min();
                    prop_assert_eq!(heap.peek().map(|(_, k)| k), least);
                }
            }
        }
    }
}
