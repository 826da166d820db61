//! Bodies that arrive or are supplied piece by piece.

use std::net::SocketAddr;
use std::task::{Poll, Waker};

use bytes::Bytes;

use crate::pending::{Operation, Pending};
use crate::shared::{Handle, Incoming, Outgoing};
use crate::{Message, Metadata, StreamError};

/// A body that is read while it arrives: of a response, which aborts the call when it is dropped
/// before its end, or of a request, whose rest is then discarded.
#[derive(Debug)]
#[must_use = "dropping it ends what it reads"]
pub struct BodyReader {
    incoming: Incoming,
}

impl BodyReader {
    pub(crate) fn new(incoming: Incoming) -> Self {
        Self { incoming }
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.incoming.handle()
    }

    pub(crate) fn poll_rest(&mut self, waker: &Waker) -> Poll<Result<Message, StreamError>> {
        self.incoming.poll_rest(waker)
    }

    /// The other end's address.
    pub fn peer(&self) -> SocketAddr {
        self.incoming.peer()
    }

    /// What travels beside the body.
    pub fn metadata(&self) -> &Metadata {
        self.incoming.metadata()
    }

    /// Bytes of the whole body, if its sender knew.
    pub fn body_bytes(&self) -> Option<u32> {
        self.incoming.body_bytes()
    }

    /// The next bytes, as soon as there are some; `None` after the last.
    ///
    /// Cancel-safe: no byte is lost if the future is dropped.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub fn chunk(
        &mut self,
    ) -> Pending<impl Operation<Output = Result<Option<Bytes>, StreamError>>> {
        let incoming = &mut self.incoming;
        Pending::new(incoming.handle().clone(), move |waker: &_| incoming.poll_chunk(waker))
    }

    /// All that was not read yet. Dropping the future is as dropping the reader.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub fn collect(self) -> Pending<impl Operation<Output = Result<Message, StreamError>>> {
        let mut incoming = self.incoming;
        Pending::new(incoming.handle().clone(), move |waker: &_| incoming.poll_rest(waker))
    }
}

/// Supplies the bytes of a body. Dropping it before [`BodyWriter::finish`] aborts the RPC.
#[derive(Debug)]
#[must_use = "dropping it unfinished aborts the RPC"]
pub struct BodyWriter {
    outgoing: Outgoing,
}

impl BodyWriter {
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
    pub fn send(
        &mut self,
        bytes: impl Into<Bytes>,
    ) -> Pending<impl Operation<Output = Result<(), StreamError>>> {
        let mut bytes = Some(bytes.into());
        let outgoing = &mut self.outgoing;
        Pending::new(outgoing.handle().clone(), move |waker: &_| {
            outgoing.poll_send(waker, &mut bytes)
        })
    }

    /// Says that everything was supplied.
    ///
    /// # Errors
    /// [`StreamError::Incomplete`] if that is not so; the RPC is aborted then.
    pub fn finish(self) -> Result<(), StreamError> {
        self.outgoing.finish()
    }
}
