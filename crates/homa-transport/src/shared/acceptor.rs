//! Accepting requests, from their user's side.

use std::task::{Poll, Waker};

use homa_io::Message;

use super::accept::{AcceptQueue, Next, Queued, ServingMode};
use super::handle::{Handle, HasHandle};
use super::ops::Operation;
use super::replier::Replier;
use super::stream::IncomingStream;
use super::waiters::Ticket;
use crate::AcceptError;

/// One waiting for a request. If it goes away after a request was meant for it, another one that
/// waits is woken.
#[derive(Debug)]
pub(crate) struct Acceptor<'a> {
    handle: &'a Handle,
    wanted: ServingMode,
    ticket: Option<Ticket>,
}

/// An accepted request.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) body: Message,
    pub(crate) replier: Replier,
}

impl Accepted {
    /// The request as a stream, which may be complete already.
    pub(crate) fn into_stream(self) -> (IncomingStream, Replier) {
        let mut replier = self.replier;
        let rpc = replier.shared_request();
        let is_stream = rpc.lock().incoming.streaming;
        let whole = (!is_stream).then_some(self.body);
        (IncomingStream::new(replier.handle().clone(), rpc, whole), replier)
    }
}

impl<'a> Acceptor<'a> {
    #[inline]
    pub(crate) fn new(handle: &'a Handle, wanted: ServingMode) -> Self {
        Self { handle, wanted, ticket: None }
    }

    #[inline]
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Result<Accepted, AcceptError>> {
        let queue = match self.queue() {
            Ok(queue) => queue,
            Err(error) => return Poll::Ready(Err(error)),
        };
        loop {
            let now_ns = || self.handle.now_ns();
            let responses = &self.handle.rooms.responses;
            return match queue.pop_or_wait(responses, &mut self.ticket, waker, now_ns) {
                Next::Request(request) => Poll::Ready(Ok(self.accepted(queue, request))),
                Next::Late(origin) => {
                    self.handle.submit_reply(Operation::refuse(origin));
                    continue;
                }
                Next::Closed => Poll::Ready(Err(AcceptError::Closed)),
                Next::Waiting => {
                    // All that were in the queue may have been given up.
                    self.refill(queue);
                    Poll::Pending
                }
            };
        }
    }

    /// The queue, if it hands requests out as they are wanted here.
    #[inline]
    fn queue(&self) -> Result<&'a AcceptQueue, AcceptError> {
        let queue = self.handle.requests()?;
        match (queue.mode(), self.wanted) {
            (None, _) => Err(AcceptError::NotServing),
            (Some(ServingMode::Streaming), ServingMode::Whole) => Err(AcceptError::Streaming),
            _ => Ok(queue),
        }
    }

    /// Moves requests that wait for room into the queue.
    fn refill(&self, queue: &AcceptQueue) {
        if queue.has_more() {
            self.handle.submit(Operation::RefillAccept);
        }
    }

    #[inline]
    fn accepted(&self, queue: &AcceptQueue, request: Queued) -> Accepted {
        self.refill(queue);
        let replier = Replier::new(self.handle.clone(), request.origin);
        Accepted { body: request.body, replier }
    }
}

impl HasHandle for Acceptor<'_> {
    #[inline]
    fn handle(&self) -> &Handle {
        self.handle
    }
}

impl Drop for Acceptor<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        if let Ok(queue) = self.handle.requests() {
            queue.withdraw(ticket);
        }
    }
}
