//! Finished calls of a set, on their way to the waiting caller.

use std::collections::VecDeque;
use std::panic::RefUnwindSafe;
use std::task::Waker;

use super::wakes::store_waker;
use crate::drive::sync::{Mutex, lock};

/// Calls that are ready, by the number their set gave them.
#[derive(Debug, Default)]
pub(crate) struct ReadyQueue {
    state: Mutex<State>,
}

/// As with the whole endpoint: handlers and wakers run without the lock.
impl RefUnwindSafe for ReadyQueue {}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<u64>,
    waker: Option<Waker>,
}

impl ReadyQueue {
    /// A call is ready; returns who is to be woken.
    pub(crate) fn push(&self, id: u64) -> Option<Waker> {
        let mut state = lock(&self.state);
        state.ready.push_back(id);
        state.waker.take()
    }

    pub(crate) fn pop(&self) -> Option<u64> {
        lock(&self.state).ready.pop_front()
    }

    /// As [`ReadyQueue::pop`], or registers `waker` for the next call that is ready.
    pub(crate) fn pop_or_wait(&self, waker: &Waker) -> Option<u64> {
        let mut state = lock(&self.state);
        let id = state.ready.pop_front();
        if id.is_none() {
            store_waker(&mut state.waker, waker);
        }
        id
    }
}
