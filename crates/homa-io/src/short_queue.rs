//! A queue that nearly always holds one element: the buffers of a short message.

use std::collections::VecDeque;

use crate::rare::Rare;

/// A queue whose first element lies in it, so that a single one costs neither an allocation nor the
/// arithmetic of a ring. Empty ones are cheap to make, move and drop.
#[derive(Clone, Debug)]
pub(crate) struct ShortQueue<T> {
    /// `None` only if there is nothing at all.
    first: Option<T>,
    rest: Rare<VecDeque<T>>,
}

impl<T> Default for ShortQueue<T> {
    fn default() -> Self {
        None.into()
    }
}

impl<T> From<Option<T>> for ShortQueue<T> {
    #[inline]
    fn from(first: Option<T>) -> Self {
        Self { first, rest: Rare::NONE }
    }
}

impl<T> ShortQueue<T> {
    #[inline]
    pub(crate) fn push_back(&mut self, element: T) {
        match self.first {
            None => self.first = Some(element),
            Some(_) => self.rest.get_or_default().push_back(element),
        }
    }

    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let first = self.first.take();
        if let Some(rest) = self.rest.get_mut() {
            self.first = rest.pop_front();
        }
        first
    }

    pub(crate) fn pop_back(&mut self) -> Option<T> {
        self.rest.get_mut().and_then(|rest| rest.pop_back()).or_else(|| self.first.take())
    }

    pub(crate) fn back_mut(&mut self) -> Option<&mut T> {
        self.rest.get_mut().and_then(|rest| rest.back_mut()).or(self.first.as_mut())
    }

    #[inline]
    pub(crate) fn front(&self) -> Option<&T> {
        self.first.as_ref()
    }

    #[inline]
    pub(crate) fn front_mut(&mut self) -> Option<&mut T> {
        self.first.as_mut()
    }

    #[inline]
    pub(crate) fn back(&self) -> Option<&T> {
        self.rest.get().and_then(|rest| rest.back()).or(self.first.as_ref())
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.get().map_or(0, |rest| rest.len())
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        match index {
            0 => self.first.as_ref(),
            _ => self.rest.get()?.get(index - 1),
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        match index {
            0 => self.first.as_mut(),
            _ => self.rest.get_mut()?.get_mut(index - 1),
        }
    }

    /// Puts `element` in front of the one at `index`, at most the length.
    pub(crate) fn insert(&mut self, index: usize, element: T) {
        match (index, self.first.take()) {
            (0, None) => self.first = Some(element),
            (0, Some(second)) => {
                self.first = Some(element);
                self.rest.get_or_default().push_front(second);
            }
            (_, first) => {
                self.first = first;
                self.rest.get_or_default().insert(index - 1, element);
            }
        }
    }

    /// How many elements at the beginning `holds` is true of; true of none behind them.
    pub(crate) fn partition_point(&self, mut holds: impl FnMut(&T) -> bool) -> usize {
        match (&self.first, self.rest.get()) {
            (Some(first), rest) if holds(first) => {
                1 + rest.as_ref().map_or(0, |rest| rest.partition_point(holds))
            }
            _ => 0,
        }
    }

    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.range_from(0)
    }

    /// The elements from `index` on.
    #[inline]
    pub(crate) fn range_from(&self, index: usize) -> impl Iterator<Item = &T> {
        let rest =
            self.rest.get().into_iter().flat_map(move |rest| rest.range(index.saturating_sub(1)..));
        self.first.iter().filter(move |_| index == 0).chain(rest)
    }

    /// Whether there is nothing, nor room for elements behind the first.
    #[inline]
    pub(crate) fn is_bare(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }

    /// The element, if there is one and no more.
    #[inline]
    pub(crate) fn into_only(self) -> Result<T, Self> {
        match self {
            Self { first: Some(only), rest } if rest.is_none() => Ok(only),
            queue => Err(queue),
        }
    }

    /// Drops all elements, and the room for those behind the first if it is for more than
    /// `kept_max`.
    #[inline]
    pub(crate) fn clear(&mut self, kept_max: usize) {
        self.first = None;
        if !self.rest.is_none() {
            self.clear_rest(kept_max);
        }
    }

    /// The same of what is behind the first.
    fn clear_rest(&mut self, kept_max: usize) {
        match self.rest.get_mut() {
            Some(rest) if rest.capacity() <= kept_max => rest.clear(),
            _ => self.rest.forget(),
        }
    }
}

impl<T> IntoIterator for ShortQueue<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    #[inline]
    fn into_iter(self) -> IntoIter<T> {
        IntoIter(self)
    }
}

/// The elements of a queue, in order.
pub(crate) struct IntoIter<T>(ShortQueue<T>);

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.0.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(elements: &[u32]) -> ShortQueue<u32> {
        let mut queue = ShortQueue::default();
        elements.iter().for_each(|&element| queue.push_back(element));
        queue
    }

    #[test]
    fn it_is_a_queue_whatever_its_length() {
        for length in 0..5 {
            let elements: Vec<u32> = (0..length).collect();
            let queue = of(&elements);
            assert_eq!(queue.len(), elements.len());
            assert_eq!(queue.front(), elements.first());
            assert_eq!(queue.back(), elements.last());
            for index in 0..=elements.len() {
                assert_eq!(queue.get(index), elements.get(index));
                let from: Vec<_> = queue.range_from(index).copied().collect();
                assert_eq!(from, elements[index..]);
                assert_eq!(queue.partition_point(|&element| element < index as u32), index);
            }
            assert_eq!(queue.into_iter().collect::<Vec<_>>(), elements);
        }
    }

    #[test]
    fn elements_can_be_put_anywhere() {
        for index in 0..=3 {
            let mut expected = vec![1, 2, 3];
            let mut queue = of(&expected);
            expected.insert(index, 9);
            queue.insert(index, 9);
            assert_eq!(queue.iter().copied().collect::<Vec<_>>(), expected);
        }
        let mut queue = of(&[]);
        queue.insert(0, 9);
        assert_eq!((queue.len(), queue.pop_front()), (1, Some(9)));
    }

    #[test]
    fn only_one_alone_is_the_only_element() {
        assert_eq!(of(&[7]).into_only().ok(), Some(7));
        for others in [&[][..], &[1, 2]] {
            let queue = of(others).into_only().expect_err("none or several");
            assert_eq!(queue.iter().copied().collect::<Vec<_>>(), others);
        }
    }

    #[test]
    fn room_is_kept_for_the_next_use_unless_it_is_much() {
        let mut queue = of(&[0; 100]);
        queue.clear(1_000);
        assert_eq!((queue.len(), queue.is_bare()), (0, false));
        queue.push_back(0);
        queue.clear(10);
        assert!(queue.is_bare());
    }
}
