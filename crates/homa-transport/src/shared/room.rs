//! Bounded room for messages on their way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use super::waiters::{Ticket, Waiters};
use super::wakes::Wakes;
use crate::drive::seat::NEVER_NS;
use crate::drive::sync::{Mutex, MutexGuard, lock};

/// Counts messages and their bytes against two limits. A message longer than the whole room may
/// go when nothing else is under way, so that every message can go some time.
#[derive(Debug)]
pub(crate) struct Room {
    state: Mutex<State>,
    /// Earliest deadline of a waiter, readable without the lock.
    deadline_ns: AtomicU64,
    messages_max: usize,
    bytes_max: u64,
}

#[derive(Debug, Default)]
struct State {
    messages: usize,
    bytes: u64,
    waiters: Waiters,
    /// Deadlines of waiters, some of whom may be gone; the earliest on top.
    deadlines: BinaryHeap<Reverse<(u64, Ticket)>>,
}

/// Deadlines of waiters that are gone are dropped when there are this many more than waiters.
const STALE_DEADLINES_MAX: usize = 1_024;

/// Which limit there is no room under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Messages(usize),
    Bytes(u64),
}

impl Room {
    pub(crate) fn new(messages_max: usize, bytes_max: u64) -> Self {
        Self {
            state: Mutex::default(),
            deadline_ns: AtomicU64::new(NEVER_NS),
            messages_max,
            bytes_max,
        }
    }

    /// Takes room for a message of `bytes`.
    #[inline]
    pub(crate) fn try_enter(&self, bytes: u64) -> Result<(), Full> {
        self.enter(&mut self.lock(), bytes)
    }

    /// As [`Room::try_enter`], or registers `waker` for when there is room or `deadline_ns` comes.
    pub(crate) fn enter_or_wait(
        &self,
        bytes: u64,
        ticket: &mut Option<Ticket>,
        waker: &Waker,
        deadline_ns: u64,
    ) -> Result<(), Full> {
        let mut state = self.lock();
        if let Err(full) = self.enter(&mut state, bytes) {
            let known = *ticket;
            state.waiters.register(ticket, waker);
            if let Some(ticket) = ticket.filter(|new| known != Some(*new)) {
                if deadline_ns != NEVER_NS {
                    state.add_deadline(deadline_ns, ticket);
                    self.note_deadline(&state);
                }
            }
            return Err(full);
        }
        let waited = ticket.take().map(|ticket| state.waiters.withdraw(ticket));
        // Room that was given back at once may be enough for several.
        let has_more = state.messages < self.messages_max && state.bytes < self.bytes_max;
        let next = if waited.is_some() && has_more { state.waiters.take_oldest() } else { None };
        drop(state);
        if let Some(next) = next {
            next.wake();
        }
        Ok(())
    }

    /// Gives room back; the wakers of those who may enter now are added to `wakes`.
    #[inline]
    pub(crate) fn leave(&self, bytes: u64, wakes: &mut Wakes) {
        let mut state = self.lock();
        state.messages = state.messages.saturating_sub(1);
        state.bytes = state.bytes.saturating_sub(bytes);
        wakes.add(state.waiters.take_oldest());
    }

    /// A waiter goes away. If its turn had come, the next one is woken instead.
    pub(crate) fn withdraw(&self, ticket: Ticket) {
        let mut state = self.lock();
        let next = match state.waiters.withdraw(ticket) {
            true => None,
            false => state.waiters.take_oldest(),
        };
        drop(state);
        if let Some(next) = next {
            next.wake();
        }
    }

    /// The next deadline of a waiter, or [`NEVER_NS`].
    pub(crate) fn deadline_ns(&self) -> u64 {
        self.deadline_ns.load(Ordering::Acquire)
    }

    fn note_deadline(&self, state: &State) {
        let earliest_ns = state.deadlines.peek().map_or(NEVER_NS, |Reverse((at_ns, _))| *at_ns);
        self.deadline_ns.store(earliest_ns, Ordering::Release);
    }

    /// Wakes the waiters whose deadline has come.
    pub(crate) fn expire(&self, now_ns: u64, wakes: &mut Wakes) {
        if self.deadline_ns() > now_ns {
            return;
        }
        let mut state = self.lock();
        while let Some(Reverse((at_ns, ticket))) = state.deadlines.peek().copied() {
            if at_ns > now_ns {
                break;
            }
            state.deadlines.pop();
            wakes.add(state.waiters.take(ticket));
        }
        self.note_deadline(&state);
    }

    /// Wakes all waiters.
    pub(crate) fn wake_all(&self, wakes: &mut Wakes) {
        self.lock().waiters.take_all(wakes);
    }

    /// Messages and bytes under way.
    pub(crate) fn used(&self) -> (usize, u64) {
        let state = self.lock();
        (state.messages, state.bytes)
    }

    #[inline]
    fn enter(&self, state: &mut State, bytes: u64) -> Result<(), Full> {
        if state.messages >= self.messages_max {
            return Err(Full::Messages(self.messages_max));
        }
        if state.bytes > 0 && state.bytes.saturating_add(bytes) > self.bytes_max {
            return Err(Full::Bytes(self.bytes_max));
        }
        state.messages += 1;
        state.bytes += bytes;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn add_deadline(&mut self, at_ns: u64, ticket: Ticket) {
        if self.deadlines.len() > self.waiters.len().saturating_add(STALE_DEADLINES_MAX) {
            let waiters = &self.waiters;
            self.deadlines.retain(|Reverse((_, ticket))| waiters.contains(*ticket));
        }
        self.deadlines.push(Reverse((at_ns, ticket)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_longer_than_the_room_goes_alone() {
        let room = Room::new(10, 100);
        assert_eq!(room.try_enter(500), Ok(()));
        assert_eq!(room.try_enter(1), Err(Full::Bytes(100)));
        room.leave(500, &mut Wakes::default());
        assert_eq!(room.try_enter(60), Ok(()));
        assert_eq!(room.try_enter(60), Err(Full::Bytes(100)));
        assert_eq!(room.used(), (1, 60));
    }

    #[test]
    fn only_the_waiters_whose_deadline_has_come_are_woken() {
        let room = Room::new(1, 100);
        room.try_enter(1).unwrap();
        let mut tickets = [None; 3];
        for (ticket, deadline_ns) in tickets.iter_mut().zip([30, 10, 20]) {
            room.enter_or_wait(1, ticket, Waker::noop(), deadline_ns).unwrap_err();
        }
        assert_eq!(room.deadline_ns(), 10);
        let mut wakes = Wakes::default();
        room.expire(20, &mut wakes);
        assert_eq!((wakes.len(), room.deadline_ns()), (2, 30));
    }

    #[test]
    fn deadlines_of_those_who_are_gone_do_not_pile_up() {
        let room = Room::new(1, 100);
        room.try_enter(1).unwrap();
        for at_ns in 0..10_000 {
            let mut ticket = None;
            room.enter_or_wait(1, &mut ticket, Waker::noop(), 1_000 + at_ns).unwrap_err();
            room.withdraw(ticket.unwrap());
        }
        assert!(room.lock().deadlines.len() <= STALE_DEADLINES_MAX + 2);
    }

    #[test]
    fn room_for_several_wakes_several() {
        let room = Room::new(10, 100);
        room.try_enter(100).unwrap();
        let flag = std::sync::Arc::new(Flag::default());
        let (mut first, mut second) = (None, None);
        room.enter_or_wait(10, &mut first, Waker::noop(), NEVER_NS).unwrap_err();
        room.enter_or_wait(10, &mut second, &Waker::from(flag.clone()), NEVER_NS).unwrap_err();
        room.leave(100, &mut Wakes::default());
        room.enter_or_wait(10, &mut first, Waker::noop(), NEVER_NS).unwrap();
        assert!(flag.0.load(Ordering::SeqCst));
    }

    #[test]
    fn a_waiter_whose_turn_had_come_passes_it_on_when_it_goes_away() {
        let room = Room::new(1, 100);
        room.try_enter(1).unwrap();
        let (mut first, mut second) = (None, None);
        let wait = |ticket: &mut Option<Ticket>, waker: &Waker| {
            assert!(room.enter_or_wait(1, ticket, waker, NEVER_NS).is_err());
        };
        let flag = std::sync::Arc::new(Flag::default());
        wait(&mut first, Waker::noop());
        wait(&mut second, &Waker::from(flag.clone()));
        let mut wakes = Wakes::default();
        room.leave(1, &mut wakes);
        assert_eq!(wakes.len(), 1);
        room.withdraw(first.unwrap());
        assert!(flag.0.load(Ordering::SeqCst));
    }

    #[derive(Default)]
    struct Flag(std::sync::atomic::AtomicBool);

    impl std::task::Wake for Flag {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}
