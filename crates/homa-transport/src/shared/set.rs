//! What the user of a set of calls and the thread that drives share: calls on their way out, and
//! finished ones on their way back. One lock hands over all that came in a turn.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::RefUnwindSafe;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Waker;

use homa_core::RequestOptions;
use homa_io::{Body, Message};

use super::room::Charge;
use super::wakes::store_waker;
use crate::CallError;
use crate::drive::sync::{Mutex, MutexGuard, lock};

/// A set of calls.
#[derive(Debug, Default)]
pub(crate) struct CallQueue {
    state: Mutex<State>,
    /// Place among the sets with calls under way, for the thread that drives alone.
    place: AtomicU32,
}

/// As with the whole endpoint: handlers and wakers run without the lock.
impl RefUnwindSafe for CallQueue {}

#[derive(Debug, Default)]
struct State {
    starting: Vec<Member>,
    finished: VecDeque<Finished>,
    waker: Option<Waker>,
}

/// A call of a set that has no state of its own: one whole request to an endpoint that is known.
#[derive(Debug)]
pub(crate) struct Member {
    /// The number that its set gave it.
    pub(crate) id: u64,
    pub(crate) server: SocketAddr,
    pub(crate) body: Body,
    pub(crate) options: RequestOptions,
    /// Room that it has taken.
    pub(crate) charge: Charge,
}

/// A finished call, by the number that its set gave it.
#[derive(Debug)]
pub(crate) enum Finished {
    /// One with a state of its own.
    Call(u64),
    /// A member and how it ended.
    Member(u64, Result<Message, CallError>),
}

impl CallQueue {
    /// Adds a member that is to start; how many there are now.
    #[inline]
    pub(crate) fn start(&self, member: Member) -> usize {
        let mut state = self.lock();
        state.starting.push(member);
        state.starting.len()
    }

    /// Exchanges those that are to start with `taken`, which must be empty.
    pub(crate) fn take_starting(&self, taken: &mut Vec<Member>) {
        std::mem::swap(&mut self.lock().starting, taken);
    }

    /// A call is finished; who is to be woken.
    pub(crate) fn finish(&self, finished: Finished) -> Option<Waker> {
        let mut state = self.lock();
        state.finished.push_back(finished);
        state.waker.take()
    }

    /// The same of all that are in `finished`.
    pub(crate) fn finish_all(&self, finished: &mut VecDeque<Finished>) -> Option<Waker> {
        let mut state = self.lock();
        match state.finished.is_empty() {
            true => std::mem::swap(&mut state.finished, finished),
            false => state.finished.append(finished),
        }
        state.waker.take()
    }

    /// Exchanges the finished ones with `taken`, which must be empty.
    pub(crate) fn take_finished(&self, taken: &mut VecDeque<Finished>) {
        std::mem::swap(&mut self.lock().finished, taken);
    }

    /// As [`CallQueue::take_finished`]; if there is none, `waker` is registered for the next one.
    pub(crate) fn take_finished_or_wait(&self, taken: &mut VecDeque<Finished>, waker: &Waker) {
        let mut state = self.lock();
        if state.finished.is_empty() {
            store_waker(&mut state.waker, waker);
        } else {
            std::mem::swap(&mut state.finished, taken);
        }
    }

    /// The place that was noted last.
    pub(crate) fn place(&self) -> u32 {
        self.place.load(Ordering::Relaxed)
    }

    pub(crate) fn set_place(&self, place: u32) {
        self.place.store(place, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}
