//! Bodies that arrive or are supplied piece by piece.

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::shared::{Incoming, Outgoing};
use crate::{Message, StreamError};

/// A response that is read while it arrives. Dropping it before its end aborts the RPC.
#[derive(Debug)]
#[must_use = "dropping it aborts the call"]
pub struct ResponseStream {
    incoming: Incoming,
}

impl ResponseStream {
    pub(crate) fn new(incoming: Incoming) -> Self {
        Self { incoming }
    }

    /// The server's address.
    pub fn server(&self) -> SocketAddr {
        self.incoming.peer()
    }

    /// Bytes of the whole response.
    pub fn body_bytes(&self) -> u32 {
        self.incoming.length_bytes()
    }

    /// The next bytes, as soon as there are some; `None` after the last.
    ///
    /// Cancel-safe: no byte is lost if the future is dropped.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        poll_fn(|context| self.incoming.poll_chunk(context.waker())).await
    }

    /// Waits for all that was not read yet. Dropping the future aborts the RPC.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn collect(mut self) -> Result<Message, StreamError> {
        poll_fn(|context| self.incoming.poll_rest(context.waker())).await
    }
}

/// Supplies the bytes of a message whose length was announced. Dropping it before
/// [`BodySender::finish`] aborts the RPC.
#[derive(Debug)]
#[must_use = "dropping it unfinished aborts the RPC"]
pub struct BodySender {
    outgoing: Outgoing,
}

impl BodySender {
    pub(crate) fn new(outgoing: Outgoing) -> Self {
        Self { outgoing }
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
    /// Cancel-safe: if the future is dropped, none of the bytes were taken.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn send(&mut self, bytes: impl Into<Bytes>) -> Result<(), StreamError> {
        let mut bytes = Some(bytes.into());
        poll_fn(|context| self.outgoing.poll_send(context.waker(), &mut bytes)).await
    }

    /// Says that everything was supplied.
    ///
    /// # Errors
    /// [`StreamError::Incomplete`] if that is not so; the RPC is aborted then.
    pub fn finish(self) -> Result<(), StreamError> {
        self.outgoing.finish()
    }
}
