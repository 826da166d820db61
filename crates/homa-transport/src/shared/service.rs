//! Requests that handlers work on.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;

use super::waiters::{Ticket, Waiters};
use super::wakes::Wakes;
use crate::drive::sync::{Mutex, lock};

/// How many requests were accepted and not answered, and who waits for the end of all.
#[derive(Debug, Default)]
pub(crate) struct Service {
    requests: AtomicUsize,
    /// Somebody waits; readable without the lock.
    is_awaited: AtomicBool,
    waiters: Mutex<Waiters>,
}

impl Service {
    /// A request is accepted.
    #[inline]
    pub(crate) fn enter(&self) {
        self.requests.fetch_add(1, Ordering::SeqCst);
    }

    /// A request is answered or dropped. Whether it was the last one.
    #[inline]
    pub(crate) fn leave(&self) -> bool {
        self.requests.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// Requests accepted and not answered.
    #[inline]
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Whether somebody waits for the end of all.
    #[inline]
    pub(crate) fn is_awaited(&self) -> bool {
        self.is_awaited.load(Ordering::SeqCst)
    }

    /// Registers one who waits for the end of all. It has to look once more then.
    pub(crate) fn register(&self, ticket: &mut Option<Ticket>, waker: &Waker) {
        lock(&self.waiters).register(ticket, waker);
        self.is_awaited.store(true, Ordering::SeqCst);
    }

    /// One who waited goes away.
    pub(crate) fn withdraw(&self, ticket: Ticket) {
        lock(&self.waiters).withdraw(ticket);
    }

    /// All may be over: wakes those who wait for that.
    #[inline]
    pub(crate) fn look(&self, wakes: &mut Wakes) {
        if self.is_awaited() && self.requests() == 0 {
            self.is_awaited.store(false, Ordering::SeqCst);
            lock(&self.waiters).take_all(wakes);
        }
    }
}
