//! A value that is rarely there.

use std::mem::ManuallyDrop;

/// A value that is rarely there: one word where it is not, and one look to drop that.
#[derive(Clone, Debug)]
pub(crate) struct Rare<T>(
    /// Dropped by hand, so that no code for it is where nothing is dropped.
    Option<ManuallyDrop<Box<T>>>,
);

impl<T> Rare<T> {
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn new(value: T) -> Self {
        Self(Some(ManuallyDrop::new(Box::new(value))))
    }

    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref().map(|value| &***value)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_mut().map(|value| &mut ***value)
    }

    pub(crate) fn get_or_default(&mut self) -> &mut T
    where
        T: Default,
    {
        self.0.get_or_insert_with(|| ManuallyDrop::new(Box::default()))
    }

    pub(crate) fn take(&mut self) -> Option<T> {
        self.0.take().map(|value| *ManuallyDrop::into_inner(value))
    }

    // Apart, so that there is little to do where there is nothing.
    #[cold]
    #[inline(never)]
    pub(crate) fn forget(&mut self) {
        self.take();
    }
}

impl<T> Drop for Rare<T> {
    #[inline]
    fn drop(&mut self) {
        if self.0.is_some() {
            self.forget();
        }
    }
}

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self::NONE
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn what_is_there_is_dropped_once_whatever_becomes_of_it() {
        let value = Rc::new(7);
        let count = || Rc::strong_count(&value);
        let mut rare = Rare::new(Rc::clone(&value));
        assert_eq!((rare.get().map(|it| **it), count()), (Some(7), 2));
        let copy = rare.clone();
        assert_eq!(count(), 3);
        drop(copy);
        assert_eq!(count(), 2);
        assert_eq!(rare.take().as_ref(), Some(&value));
        assert_eq!((rare.is_none(), count()), (true, 1));
        rare = Rare::new(Rc::clone(&value));
        rare.forget();
        assert_eq!((rare.is_none(), count()), (true, 1));
    }

    #[test]
    fn nothing_takes_one_word() {
        assert_eq!(size_of::<Rare<[u64; 9]>>(), size_of::<usize>());
    }
}
