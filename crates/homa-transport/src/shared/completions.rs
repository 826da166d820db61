//! Many calls of one thread, with one queue of those that are ready.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use homa_io::{Body, Message};

use super::call::{CallMode, PendingCall};
use super::handle::Handle;
use super::rpc::store_waker;
use crate::{CallError, CallOptions};

/// Calls that are ready, by the number their set gave them.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<u64>,
    waker: Option<Waker>,
}

impl Queue {
    /// A call is ready; returns who is to be woken.
    pub(crate) fn push(&self, id: u64) -> Option<Waker> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ready.push_back(id);
        state.waker.take()
    }

    fn pop_or_wait(&self, waker: &Waker) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let id = state.ready.pop_front();
        if id.is_none() {
            store_waker(&mut state.waker, waker);
        }
        id
    }
}

/// The calls of one set.
#[derive(Debug)]
pub(crate) struct Completions {
    handle: Handle,
    queue: Arc<Queue>,
    calls: HashMap<u64, PendingCall>,
    last_id: u64,
}

impl Completions {
    pub(crate) fn new(handle: Handle) -> Self {
        Self { handle, queue: Arc::default(), calls: HashMap::new(), last_id: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(crate) fn abort(&mut self, id: u64) -> bool {
        self.calls.remove(&id).is_some()
    }

    /// Adds a call that is sent with the next flush; to be polled until it has room.
    pub(crate) fn start(
        &mut self,
        server: SocketAddr,
        body: Body,
        options: CallOptions,
    ) -> Starting<'_> {
        self.last_id += 1;
        let id = self.last_id;
        let queue = Some((Arc::clone(&self.queue), id));
        let call = self.handle.start_later(server, body, options, CallMode::Whole, queue);
        Starting { completions: self, call: Some(call), id }
    }

    pub(crate) fn poll_next(
        &mut self,
        waker: &Waker,
    ) -> Poll<Option<(u64, Result<Message, CallError>)>> {
        loop {
            if self.calls.is_empty() {
                return Poll::Ready(None);
            }
            if self.handle.is_forked() {
                return Poll::Ready(self.take_any().map(|id| (id, Err(CallError::Forked))));
            }
            let Some(id) = self.queue.pop_or_wait(waker) else {
                self.handle.flush();
                return Poll::Pending;
            };
            self.handle.flush_if_old();
            // A call that was aborted may still be in the queue.
            let Some(call) = self.calls.get_mut(&id) else { continue };
            if let Poll::Ready(answer) = call.poll_message(waker) {
                self.calls.remove(&id);
                return Poll::Ready(Some((id, answer)));
            }
        }
    }
}

impl Completions {
    fn take_any(&mut self) -> Option<u64> {
        let id = self.calls.keys().next().copied()?;
        self.calls.remove(&id);
        Some(id)
    }
}

/// A call that waits for room.
pub(crate) struct Starting<'a> {
    completions: &'a mut Completions,
    call: Option<PendingCall>,
    id: u64,
}

impl Starting<'_> {
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Result<u64, CallError>> {
        let Some(call) = &mut self.call else { return Poll::Ready(Ok(self.id)) };
        match call.poll_started(waker) {
            Poll::Pending => {
                // What waits to be sent may be what takes the room.
                self.completions.handle.flush();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                if let Some(call) = self.call.take() {
                    self.completions.calls.insert(self.id, call);
                }
                Poll::Ready(Ok(self.id))
            }
        }
    }
}
