//! Requests without a state of their own that their clients gave up before they were answered.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use homa_core::RpcKey;

use super::wakes::store_waker;
use crate::drive::sync::{Mutex, MutexGuard, lock};

/// Those that were given up, and who waits to learn it. Mostly there are none, which costs no lock.
///
/// The thread that drives adds a request once, before its engine forgets it; whoever ends the
/// request here takes it out.
#[derive(Debug, Default)]
pub(crate) struct GivenUp {
    state: Mutex<State>,
    /// How many there are; readable without the lock.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    keys: HashSet<RpcKey>,
    waiting: HashMap<RpcKey, Waker>,
}

impl GivenUp {
    /// A request was given up; who is to be woken.
    pub(crate) fn add(&self, key: RpcKey) -> Option<Waker> {
        let mut state = self.lock();
        state.keys.insert(key);
        self.count.store(state.keys.len(), Ordering::Release);
        state.waiting.remove(&key)
    }

    /// Whether a request was given up.
    #[inline]
    pub(crate) fn contains(&self, key: RpcKey) -> bool {
        !self.is_empty() && self.lock().keys.contains(&key)
    }

    /// Forgets a request that ends here. Whether it was given up.
    #[inline]
    pub(crate) fn take(&self, key: RpcKey) -> bool {
        !self.is_empty() && self.take_locked(key)
    }

    #[cold]
    fn take_locked(&self, key: RpcKey) -> bool {
        let mut state = self.lock();
        let taken = state.keys.remove(&key);
        self.count.store(state.keys.len(), Ordering::Release);
        taken
    }

    /// Whether a request was given up; if not, `waker` is registered for that.
    pub(crate) fn contains_or_wait(&self, key: RpcKey, waker: &Waker) -> bool {
        let mut state = self.lock();
        if state.keys.contains(&key) {
            return true;
        }
        let mut place = state.waiting.remove(&key);
        store_waker(&mut place, waker);
        state.waiting.extend(place.map(|waker| (key, waker)));
        false
    }

    /// Nobody waits for that request any more.
    pub(crate) fn withdraw(&self, key: RpcKey) {
        self.lock().waiting.remove(&key);
    }

    /// How many wait to learn that a request was given up.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: RpcKey = RpcKey { index: 7, generation: 1 };

    #[test]
    fn a_request_is_given_up_until_it_ends_here() {
        let (given_up, again) = (GivenUp::default(), RpcKey { generation: 2, ..KEY });
        assert!(!given_up.contains(KEY));
        assert!(given_up.add(KEY).is_none());
        assert!(given_up.contains(KEY) && !given_up.contains(again));
        assert!(!given_up.take(again));
        assert!(given_up.take(KEY));
        assert!(!given_up.contains(KEY) && !given_up.take(KEY));
    }

    #[test]
    fn who_waits_is_woken_once_unless_it_went_away() {
        let given_up = GivenUp::default();
        assert!(!given_up.contains_or_wait(KEY, Waker::noop()));
        assert!(!given_up.contains_or_wait(KEY, Waker::noop()));
        assert!(given_up.add(KEY).is_some());
        assert!(given_up.contains_or_wait(KEY, Waker::noop()));
        assert!(given_up.add(KEY).is_none());
        assert!(given_up.take(KEY));
        assert!(!given_up.contains_or_wait(KEY, Waker::noop()));
        given_up.withdraw(KEY);
        assert!(given_up.add(KEY).is_none());
    }
}
