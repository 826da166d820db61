//! A call under way.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::ResponseStream;
use crate::shared::{Handle, PendingCall};
use crate::{CallError, Message};

/// A call under way. Dropping it aborts the RPC and tells the server.
#[derive(Debug)]
#[must_use = "dropping a call aborts it"]
pub struct Call {
    handle: Handle,
    pending: PendingCall,
}

impl Call {
    pub(crate) fn new(handle: Handle, pending: PendingCall) -> Self {
        Self { handle, pending }
    }

    /// The server's address.
    pub fn server(&self) -> SocketAddr {
        self.pending.server()
    }

    /// Waits for the response.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn wait(mut self) -> Result<Message, CallError> {
        self.handle.wait(|waker| self.pending.poll_message(waker))
    }

    /// Waits for the response for at most `timeout`; the call itself goes on after `None`.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<Message, CallError>> {
        let until = Instant::now() + timeout;
        self.handle.wait_until(until, |waker| self.pending.poll_message(waker))
    }

    /// The response, if it is here; looks for packets once. Call it no more after `Some`.
    pub fn try_wait(&mut self) -> Option<Result<Message, CallError>> {
        self.handle.look(|waker| self.pending.poll_message(waker))
    }
}

/// The response of a call whose request is still being supplied. Dropping it aborts the RPC.
#[derive(Debug)]
#[must_use = "dropping it aborts the call"]
pub struct PendingResponse {
    handle: Handle,
    pending: PendingCall,
}

impl PendingResponse {
    pub(crate) fn new(handle: Handle, pending: PendingCall) -> Self {
        Self { handle, pending }
    }

    /// The server's address.
    pub fn server(&self) -> SocketAddr {
        self.pending.server()
    }

    /// Waits for the whole response.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn message(mut self) -> Result<Message, CallError> {
        self.handle.wait(|waker| self.pending.poll_message(waker))
    }

    /// Waits for the first bytes of the response.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn stream(mut self) -> Result<ResponseStream, CallError> {
        let incoming = self.handle.wait(|waker| self.pending.poll_stream(waker))?;
        Ok(ResponseStream::new(self.handle, incoming))
    }
}
