//! Bodies that arrive or are supplied piece by piece.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::shared::{Handle, Incoming, Outgoing};
use crate::{Message, StreamError};

/// A response that is read while it arrives. Dropping it before its end aborts the RPC.
#[derive(Debug)]
#[must_use = "dropping it aborts the call"]
pub struct ResponseStream {
    handle: Handle,
    incoming: Incoming,
}

impl ResponseStream {
    pub(crate) fn new(handle: Handle, incoming: Incoming) -> Self {
        Self { handle, incoming }
    }

    /// The server's address.
    pub fn server(&self) -> SocketAddr {
        self.incoming.peer()
    }

    /// Bytes of the whole response.
    pub fn body_bytes(&self) -> u32 {
        self.incoming.length_bytes()
    }

    /// Waits for the next bytes; `None` after the last.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub fn chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        self.handle.wait(|waker| self.incoming.poll_chunk(waker))
    }

    /// Waits for all that was not read yet.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub fn collect(mut self) -> Result<Message, StreamError> {
        self.handle.wait(|waker| self.incoming.poll_rest(waker))
    }
}

/// Supplies the bytes of a message whose length was announced. Dropping it before
/// [`BodySender::finish`] aborts the RPC.
#[derive(Debug)]
#[must_use = "dropping it unfinished aborts the RPC"]
pub struct BodySender {
    handle: Handle,
    outgoing: Outgoing,
}

impl BodySender {
    pub(crate) fn new(handle: Handle, outgoing: Outgoing) -> Self {
        Self { handle, outgoing }
    }

    /// The other end's address.
    pub fn peer(&self) -> SocketAddr {
        self.outgoing.peer()
    }

    /// Bytes still to be supplied.
    pub fn missing_bytes(&self) -> u32 {
        self.outgoing.missing_bytes()
    }

    /// Supplies the next bytes; waits while about 1 MiB is on its way.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub fn send(&mut self, bytes: impl Into<Bytes>) -> Result<(), StreamError> {
        let mut bytes = Some(bytes.into());
        self.handle.wait(|waker| self.outgoing.poll_send(waker, &mut bytes))
    }

    /// Says that everything was supplied.
    ///
    /// # Errors
    /// [`StreamError::Incomplete`] if that is not so; the RPC is aborted then.
    pub fn finish(self) -> Result<(), StreamError> {
        self.outgoing.finish()
    }
}
