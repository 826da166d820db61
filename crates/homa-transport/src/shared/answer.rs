//! The right to answer one request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};

use homa_io::Body;

use super::handle::Handle;
use super::ops::Operation;
use super::rpc::{Rpc, store_waker};
use super::stream::OutgoingStream;
use super::waiters::Ticket;
use crate::ReplyError;
use crate::drive::seat::NEVER_NS;

/// Answers a request once; dropped unused, it rejects the request.
#[derive(Debug)]
pub(crate) struct Answer {
    handle: Handle,
    rpc: Arc<Rpc>,
    ticket: Option<Ticket>,
    used: bool,
}

impl Answer {
    pub(crate) fn new(handle: Handle, rpc: Arc<Rpc>) -> Self {
        Self { handle, rpc, ticket: None, used: false }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(crate) fn rpc(&self) -> &Arc<Rpc> {
        &self.rpc
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.rpc.peer
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.handle.is_forked() || self.rpc.has_failed()
    }

    pub(crate) fn poll_cancelled(&mut self, waker: &Waker) -> Poll<()> {
        if self.is_cancelled() {
            return Poll::Ready(());
        }
        store_waker(&mut self.rpc.lock().writer, waker);
        self.handle.drive_by_task();
        // It may have failed before the waker was there.
        if self.is_cancelled() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Takes `body` when there is room for it.
    pub(crate) fn poll_reply(
        &mut self,
        waker: &Waker,
        body: &mut Option<Body>,
    ) -> Poll<Result<(), ReplyError>> {
        let bytes = body.as_ref().map_or(0, Body::len) as u64;
        if let Err(error) = self.check(bytes) {
            return Poll::Ready(Err(error));
        }
        let answers = self.handle.answers();
        if answers.enter_or_wait(bytes, &mut self.ticket, waker, NEVER_NS).is_err() {
            self.handle.drive_by_task();
            return Poll::Pending;
        }
        self.used = true;
        let body = body.take().unwrap_or_default();
        self.handle.submit_reply(Operation::Reply(Arc::clone(&self.rpc), body));
        Poll::Ready(Ok(()))
    }

    /// Announces an answer. Its bytes take no room: their sender holds little at a time.
    pub(crate) fn reply_streaming(mut self, bytes: u32) -> Result<OutgoingStream, ReplyError> {
        self.check(u64::from(bytes))?;
        self.used = true;
        // There is always room for no bytes; it counts as an answer on its way.
        if self.handle.answers().try_enter(0).is_ok() {
            self.rpc.lock().charge_bytes = Some(0);
        }
        self.handle.submit(Operation::ReplyStreaming(Arc::clone(&self.rpc), bytes));
        Ok(OutgoingStream::new(self.handle.clone(), Arc::clone(&self.rpc), bytes))
    }

    fn check(&self, bytes: u64) -> Result<(), ReplyError> {
        let client = self.rpc.peer;
        let max_bytes = self.handle.max_message_bytes();
        if self.handle.is_forked() {
            Err(ReplyError::Forked)
        } else if self.handle.is_closed() {
            Err(ReplyError::Closed)
        } else if self.rpc.has_failed() {
            Err(ReplyError::Cancelled { client })
        } else if bytes == 0 {
            Err(ReplyError::EmptyMessage { client })
        } else if bytes > u64::from(max_bytes) {
            Err(ReplyError::TooLong { client, max_bytes })
        } else {
            Ok(())
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.handle.is_forked() {
            return;
        }
        if let Some(ticket) = self.ticket {
            self.handle.answers().withdraw(ticket);
        }
        if !self.used && !self.rpc.has_failed() {
            self.handle.submit(Operation::Abort(Arc::clone(&self.rpc)));
        }
    }
}
