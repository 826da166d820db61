//! Many calls of one thread, with one queue of those that are ready.

use std::sync::Arc;
use std::task::{Poll, Waker};

use homa_io::Message;

use super::call::PendingCall;
use super::handle::Handle;
use super::ready::ReadyQueue;
use crate::{CallError, CallErrorKind};

/// The calls of one set.
#[derive(Debug)]
pub(crate) struct Completions {
    handle: Handle,
    queue: Arc<ReadyQueue>,
    calls: Calls,
}

/// Calls by number: place and use of the place, so that a number is never used twice.
#[derive(Debug, Default)]
struct Calls {
    places: Vec<(u32, Option<PendingCall>)>,
    free: Vec<u32>,
    length: usize,
}

impl Calls {
    /// The number of a place that is free until it is filled.
    fn reserve(&mut self) -> u64 {
        let place = self.free.last().copied().unwrap_or_else(|| {
            let place = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
            self.places.push((0, None));
            self.free.push(place);
            place
        });
        let uses = self.places.get(place as usize).map_or(0, |(uses, _)| *uses);
        u64::from(uses) << 32 | u64::from(place)
    }

    /// Fills the place reserved last.
    fn fill(&mut self, id: u64, call: PendingCall) {
        if let Some(entry) = self.get_mut(id) {
            *entry = Some(call);
            self.free.pop();
            self.length += 1;
        }
    }

    fn get_mut(&mut self, id: u64) -> Option<&mut Option<PendingCall>> {
        let (place, uses) = (id & u64::from(u32::MAX), id >> 32);
        let entry = self.places.get_mut(usize::try_from(place).ok()?)?;
        (u64::from(entry.0) == uses).then_some(&mut entry.1)
    }

    fn remove(&mut self, id: u64) -> Option<PendingCall> {
        let call = self.get_mut(id)?.take()?;
        let place = u32::try_from(id & u64::from(u32::MAX)).ok()?;
        if let Some(entry) = self.places.get_mut(place as usize) {
            entry.0 = entry.0.wrapping_add(1);
        }
        self.free.push(place);
        self.length -= 1;
        Some(call)
    }
}

impl Completions {
    pub(crate) fn new(handle: Handle) -> Self {
        Self { handle, queue: Arc::default(), calls: Calls::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.length
    }

    /// Sends what was started and not sent yet.
    pub(crate) fn flush(&self) {
        if !self.handle.is_forked() {
            self.handle.flush();
        }
    }

    pub(crate) fn abort(&mut self, id: u64) -> bool {
        self.calls.remove(id).is_some()
    }

    /// Adds a call that is sent with the next flush; to be polled until it has room.
    pub(crate) fn start(&mut self, mut call: PendingCall) -> Starting<'_> {
        let id = self.calls.reserve();
        // Nobody would flush the calls of another endpoint.
        if !self.handle.is_same(call.handle()) {
            call.begin();
        }
        call.announce_end(&self.queue, id);
        Starting { completions: self, call: Some(call), id }
    }

    pub(crate) fn poll_next(
        &mut self,
        waker: &Waker,
    ) -> Poll<Option<(u64, Result<Message, CallError>)>> {
        loop {
            if self.calls.length == 0 {
                return Poll::Ready(None);
            }
            if self.handle.is_forked() {
                let forked = || Err(CallErrorKind::Forked.into());
                return Poll::Ready(self.take_any().map(|id| (id, forked())));
            }
            if let Some(ready) = self.take_ready() {
                return Poll::Ready(Some(ready));
            }
            let Some(id) = self.queue.pop_or_wait(waker) else {
                self.flush();
                return Poll::Pending;
            };
            if let Some(ready) = self.take(id) {
                return Poll::Ready(Some(ready));
            }
        }
    }
}

impl Completions {
    /// A response that is there already.
    pub(crate) fn take_ready(&mut self) -> Option<(u64, Result<Message, CallError>)> {
        if self.handle.is_forked() {
            return None;
        }
        self.handle.flush_if_old();
        while let Some(id) = self.queue.pop() {
            if let Some(ready) = self.take(id) {
                return Some(ready);
            }
        }
        None
    }

    /// The response of a call in the queue; `None` if the call was aborted meanwhile.
    fn take(&mut self, id: u64) -> Option<(u64, Result<Message, CallError>)> {
        let mut call = self.calls.remove(id)?;
        match call.poll_message(Waker::noop()) {
            Poll::Ready(response) => Some((id, response)),
            // Not reached: a call enters the queue when it is over.
            Poll::Pending => None,
        }
    }

    fn take_any(&mut self) -> Option<u64> {
        let filled = |entry: &(u32, Option<PendingCall>)| entry.1.is_some();
        let place = self.calls.places.iter().position(filled)?;
        let id = u64::from(self.calls.places.get(place)?.0) << 32 | place as u64;
        self.calls.remove(id).map(|_| id)
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
                self.completions.flush();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                if let Some(call) = self.call.take() {
                    self.completions.calls.fill(self.id, call);
                }
                Poll::Ready(Ok(self.id))
            }
        }
    }
}
