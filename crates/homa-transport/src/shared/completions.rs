//! Many calls of one thread, with one queue of those that are finished.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

use homa_io::Message;

use super::call::PendingCall;
use super::core::LATER_MAX;
use super::handle::{Handle, HasHandle};
use super::ops::Operation;
use super::set::{CallQueue, Finished};
use crate::{CallError, CallErrorKind};

/// The calls of one set.
#[derive(Debug)]
pub(crate) struct Completions {
    handle: Handle,
    queue: Arc<CallQueue>,
    calls: Calls,
    /// Taken from the queue, and not handed to the user.
    finished: VecDeque<Finished>,
}

/// A call in a set.
#[derive(Debug)]
enum Call {
    /// Its state is its own.
    Own(Box<PendingCall>),
    /// It is a member, of which the queue knows.
    Member,
}

/// Calls by number: place and use of the place, so that a number is never used twice.
#[derive(Debug, Default)]
struct Calls {
    places: Vec<(u32, Option<Call>)>,
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
    fn fill(&mut self, id: u64, call: Call) {
        if let Some(entry) = self.get_mut(id) {
            *entry = Some(call);
            self.free.pop();
            self.length += 1;
        }
    }

    fn get_mut(&mut self, id: u64) -> Option<&mut Option<Call>> {
        let (place, uses) = (id & u64::from(u32::MAX), id >> 32);
        let entry = self.places.get_mut(usize::try_from(place).ok()?)?;
        (u64::from(entry.0) == uses).then_some(&mut entry.1)
    }

    fn remove(&mut self, id: u64) -> Option<Call> {
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
        let (calls, finished) = (Calls::default(), VecDeque::new());
        Self { handle, queue: Arc::default(), calls, finished }
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.length
    }

    /// Whether finished ones are at hand.
    pub(crate) fn has_taken(&self) -> bool {
        !self.finished.is_empty()
    }

    /// Sends what was started and not sent yet.
    pub(crate) fn flush(&self) {
        if !self.handle.is_forked() {
            self.handle.flush();
        }
    }

    /// Gives a call up; `false` if it is not in the set.
    pub(crate) fn abort(&mut self, id: u64) -> bool {
        match self.calls.remove(id) {
            None => return false,
            Some(Call::Own(_)) => {}
            Some(Call::Member) if self.handle.is_forked() => {}
            Some(Call::Member) => self.abort_members(Some(id)),
        }
        true
    }

    /// Gives up a member, or all of them. What was not sent starts before, and is not sent.
    fn abort_members(&self, id: Option<u64>) {
        self.handle.submit(Operation::AbortMembers(Arc::clone(&self.queue), id));
    }

    /// Adds a call that is sent with the next flush; to be polled until it has room.
    pub(crate) fn start(&mut self, call: PendingCall) -> Starting<'_> {
        Starting { completions: self, call: Some(call), id: None }
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
            self.queue.take_finished_or_wait(&mut self.finished, waker);
            if self.finished.is_empty() {
                self.flush();
                return Poll::Pending;
            }
        }
    }

    /// A response that is there already.
    pub(crate) fn take_ready(&mut self) -> Option<(u64, Result<Message, CallError>)> {
        self.handle.flush_if_old();
        loop {
            while let Some(finished) = self.finished.pop_front() {
                if let Some(ready) = self.take(finished) {
                    return Some(ready);
                }
            }
            self.queue.take_finished(&mut self.finished);
            if self.finished.is_empty() {
                return None;
            }
        }
    }

    /// The response of a finished call; `None` if it was aborted meanwhile.
    fn take(&mut self, finished: Finished) -> Option<(u64, Result<Message, CallError>)> {
        match finished {
            Finished::Member(id, response) => self.calls.remove(id).map(|_| (id, response)),
            Finished::Call(id) => {
                let Call::Own(mut call) = self.calls.remove(id)? else { return None };
                match call.poll_message(Waker::noop()) {
                    Poll::Ready(response) => Some((id, response)),
                    // Not reached: a call enters the queue when it is over.
                    Poll::Pending => None,
                }
            }
        }
    }

    fn take_any(&mut self) -> Option<u64> {
        let filled = |entry: &(u32, Option<Call>)| entry.1.is_some();
        let place = self.calls.places.iter().position(filled)?;
        let id = u64::from(self.calls.places.get(place)?.0) << 32 | place as u64;
        self.calls.remove(id).map(|_| id)
    }
}

impl HasHandle for Completions {
    #[inline]
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Completions {
    fn drop(&mut self) {
        if self.handle.is_forked() || self.calls.length == 0 {
            return;
        }
        let is_member = |(_, call): &(u32, Option<Call>)| matches!(call, Some(Call::Member));
        if self.calls.places.iter().any(is_member) {
            self.abort_members(None);
        }
    }
}

/// A call that waits for room.
pub(crate) struct Starting<'a> {
    completions: &'a mut Completions,
    call: Option<PendingCall>,
    /// Its number, once it was polled.
    id: Option<u64>,
}

impl Starting<'_> {
    #[inline]
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Result<u64, CallError>> {
        let Completions { handle, queue, calls, .. } = &mut *self.completions;
        let id = *self.id.get_or_insert_with(|| calls.reserve());
        let Some(call) = &mut self.call else { return Poll::Ready(Ok(id)) };
        let Some(member) = call.take_member(handle, id) else {
            return self.poll_own(id, waker);
        };
        match queue.start(member) {
            1 => handle.submit_later(Operation::StartMembers(Arc::clone(queue))),
            LATER_MAX => handle.flush(),
            _ => {}
        }
        calls.fill(id, Call::Member);
        self.call = None;
        Poll::Ready(Ok(id))
    }

    /// The same of a call that is no member.
    #[inline(never)]
    fn poll_own(&mut self, id: u64, waker: &Waker) -> Poll<Result<u64, CallError>> {
        let Completions { handle, queue, calls, .. } = &mut *self.completions;
        let Some(call) = &mut self.call else { return Poll::Ready(Ok(id)) };
        // Nobody would flush the calls of another endpoint.
        if !handle.is_same(call.handle()) {
            call.begin();
        }
        call.announce_end(queue, id);
        match call.poll_started(waker) {
            Poll::Pending => {
                // What waits to be sent may be what takes the room.
                self.completions.flush();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                if let Some(call) = self.call.take() {
                    calls.fill(id, Call::Own(Box::new(call)));
                }
                Poll::Ready(Ok(id))
            }
        }
    }
}

impl HasHandle for Starting<'_> {
    #[inline]
    fn handle(&self) -> &Handle {
        self.completions.handle()
    }
}
