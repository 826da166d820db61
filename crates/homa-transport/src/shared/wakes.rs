//! Wakers that a turn makes ready.

use std::task::Waker;

/// Wakers gathered under a lock, to be woken when it is released. Mostly there is one or none,
/// which takes no memory.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    first: Option<Waker>,
    rest: Vec<Waker>,
}

impl Wakes {
    /// Adds a waker, if there is one.
    #[inline]
    pub(crate) fn add(&mut self, waker: Option<Waker>) {
        match waker {
            None => {}
            waker if self.first.is_none() => self.first = waker,
            Some(waker) => self.rest.push(waker),
        }
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    /// Wakes all of them in the order in which they came. Under no lock: a waker may run anything.
    #[inline]
    pub(crate) fn wake(self) {
        if let Some(first) = self.first {
            first.wake();
            self.rest.into_iter().for_each(Waker::wake);
        }
    }
}

impl Extend<Waker> for Wakes {
    fn extend<I: IntoIterator<Item = Waker>>(&mut self, wakers: I) {
        wakers.into_iter().for_each(|waker| self.add(Some(waker)));
    }
}

/// Stores `waker` unless the stored one wakes the same.
pub(crate) fn store_waker(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(stored) if stored.will_wake(waker) => {}
        _ => *place = Some(waker.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    use super::*;

    struct Note(u32, Arc<Mutex<Vec<u32>>>);

    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn all_are_woken_in_the_order_in_which_they_came() {
        let woken = Arc::default();
        let waker = |number| Some(Waker::from(Arc::new(Note(number, Arc::clone(&woken)))));
        let mut wakes = Wakes::default();
        wakes.add(waker(1));
        wakes.add(None);
        wakes.extend([2, 3].into_iter().filter_map(waker));
        assert_eq!(wakes.len(), 3);
        wakes.wake();
        assert_eq!(*woken.lock().unwrap(), [1, 2, 3]);
    }
}
