//! The runtime's task that drives an endpoint.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use crate::drive::sync::{Mutex, lock};

/// A place for one task.
#[derive(Debug, Default)]
pub(crate) struct TaskSlot {
    taken: AtomicBool,
    waker: Mutex<Option<Waker>>,
    returns: AtomicBool,
}

impl TaskSlot {
    /// Whether a task runs in some runtime.
    pub(crate) fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire)
    }

    /// Takes the place; `false` if it is taken.
    pub(crate) fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }

    /// The task is gone.
    pub(crate) fn leave(&self) {
        self.returns.store(false, Ordering::Relaxed);
        self.taken.store(false, Ordering::Release);
    }

    /// Whether the task has let others run and comes back when they have.
    pub(crate) fn returns(&self) -> bool {
        self.returns.load(Ordering::Relaxed)
    }

    pub(crate) fn set_returns(&self, returns: bool) {
        self.returns.store(returns, Ordering::Relaxed);
    }

    pub(crate) fn set_waker(&self, waker: &Waker) {
        *lock(&self.waker) = Some(waker.clone());
    }

    /// The task's waker, to be woken.
    pub(crate) fn take_waker(&self) -> Option<Waker> {
        lock(&self.waker).take()
    }
}
