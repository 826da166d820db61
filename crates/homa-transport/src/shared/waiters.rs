//! Wakers of those who wait for the same thing.

use std::collections::VecDeque;
use std::task::Waker;

use super::wakes::Wakes;

/// Names a registration; kept by who waits, so that asking again does not register twice.
pub(crate) type Ticket = u64;

/// Wakers in the order of registration. Registering, and waking the oldest or newest, cost the
/// same for any number of them.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    queue: VecDeque<(Ticket, Waker)>,
    last: Ticket,
}

impl Waiters {
    /// Registers `waker` as the newest, or renews the registration that `ticket` names.
    pub(crate) fn register(&mut self, ticket: &mut Option<Ticket>, waker: &Waker) {
        if let Some(place) = ticket.and_then(|ticket| self.place(ticket)) {
            if let Some((_, registered)) = self.queue.get_mut(place) {
                if !registered.will_wake(waker) {
                    registered.clone_from(waker);
                }
            }
            return;
        }
        self.last += 1;
        self.queue.push_back((self.last, waker.clone()));
        *ticket = Some(self.last);
    }

    /// Takes the registration back. `false`: it was taken to be woken before.
    pub(crate) fn withdraw(&mut self, ticket: Ticket) -> bool {
        self.take(ticket).is_some()
    }

    /// The one that `ticket` names, to be woken.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<Waker> {
        self.place(ticket).and_then(|place| self.queue.remove(place)).map(|(_, waker)| waker)
    }

    pub(crate) fn contains(&self, ticket: Ticket) -> bool {
        self.place(ticket).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The one that waits longest, to be woken.
    pub(crate) fn take_oldest(&mut self) -> Option<Waker> {
        self.queue.pop_front().map(|(_, waker)| waker)
    }

    /// The one that came last, to be woken.
    pub(crate) fn take_newest(&mut self) -> Option<Waker> {
        self.queue.pop_back().map(|(_, waker)| waker)
    }

    /// All of them, to be woken.
    pub(crate) fn take_all(&mut self, wakes: &mut Wakes) {
        wakes.extend(self.queue.drain(..).map(|(_, waker)| waker));
    }

    fn place(&self, ticket: Ticket) -> Option<usize> {
        self.queue.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_again_keeps_one_registration() {
        let mut waiters = Waiters::default();
        let (mut first, mut second) = (None, None);
        waiters.register(&mut first, Waker::noop());
        waiters.register(&mut second, Waker::noop());
        waiters.register(&mut first, Waker::noop());
        assert_eq!(waiters.queue.len(), 2);
        assert!(waiters.take_oldest().is_some());
        assert!(!waiters.withdraw(first.unwrap()));
        assert!(waiters.withdraw(second.unwrap()));
        assert!(waiters.take_newest().is_none());
    }
}
