//! Those who wait for a time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use super::wakes::{Wakes, store_waker};
use crate::drive::seat::NEVER_NS;
use crate::drive::sync::{Mutex, lock};

/// Names an alarm: its time in ns, and a number.
pub(crate) type Alarm = (u64, u64);

/// Wakers by the time at which they are to be woken.
#[derive(Debug)]
pub(crate) struct Alarms {
    state: Mutex<(BTreeMap<Alarm, Option<Waker>>, u64)>,
    /// The earliest, readable without the lock.
    next_ns: AtomicU64,
}

impl Default for Alarms {
    fn default() -> Self {
        Self { state: Mutex::default(), next_ns: AtomicU64::new(NEVER_NS) }
    }
}

impl Alarms {
    /// Wakes `waker` at `at_ns`, or renews the registration that `alarm` names. Whether it is the
    /// earliest of all.
    pub(crate) fn set(&self, at_ns: u64, alarm: &mut Option<Alarm>, waker: &Waker) -> bool {
        let mut state = lock(&self.state);
        let (alarms, last) = &mut *state;
        let alarm = *alarm.get_or_insert_with(|| {
            *last += 1;
            (at_ns, *last)
        });
        store_waker(alarms.entry(alarm).or_default(), waker);
        self.next_ns.fetch_min(at_ns, Ordering::AcqRel) > at_ns
    }

    /// Takes a registration back.
    pub(crate) fn withdraw(&self, alarm: Alarm) {
        lock(&self.state).0.remove(&alarm);
    }

    /// Wakes those whose time has come, and says when the next one comes.
    #[inline]
    pub(crate) fn expire(&self, now_ns: u64, wakes: &mut Wakes) -> u64 {
        let next_ns = self.next_ns.load(Ordering::Acquire);
        if next_ns > now_ns { next_ns } else { self.wake_late(now_ns, wakes) }
    }

    #[cold]
    fn wake_late(&self, now_ns: u64, wakes: &mut Wakes) -> u64 {
        let mut state = lock(&self.state);
        let later = state.0.split_off(&(now_ns.saturating_add(1), 0));
        let due = std::mem::replace(&mut state.0, later);
        due.into_values().for_each(|waker| wakes.add(waker));
        let next_ns = state.0.first_key_value().map_or(NEVER_NS, |((at_ns, _), _)| *at_ns);
        self.next_ns.store(next_ns, Ordering::Release);
        next_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_whose_time_has_come_are_woken_once() {
        let (alarms, mut wakes) = (Alarms::default(), Wakes::default());
        let (mut early, mut late, mut gone) = (None, None, None);
        assert!(alarms.set(10, &mut early, Waker::noop()));
        assert!(!alarms.set(20, &mut late, Waker::noop()));
        assert!(!alarms.set(10, &mut gone, Waker::noop()));
        assert!(!alarms.set(10, &mut early, Waker::noop()), "renewed");
        alarms.withdraw(gone.unwrap());
        assert_eq!(alarms.expire(9, &mut wakes), 10);
        assert_eq!((alarms.expire(10, &mut wakes), wakes.len()), (20, 1));
        assert_eq!((alarms.expire(100, &mut wakes), wakes.len()), (NEVER_NS, 2));
    }
}
