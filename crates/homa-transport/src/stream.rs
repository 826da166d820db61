//! Bodies that arrive or are supplied piece by piece.

use std::net::SocketAddr;
use std::task::{Poll, Waker};

use bytes::Bytes;

use crate::pending::{Operation, Pending};
use crate::shared::{Handle, HasHandle, Incoming, Outgoing};
use crate::{Message, Metadata, StreamError};

/// A body that is read while it arrives: of a response, which aborts the call when it is dropped
/// before its end, or of a request, whose rest is then discarded.
#[derive(Debug)]
#[must_use = "dropping it ends what it reads"]
pub struct BodyReader {
    incoming: Incoming,
    /// Of a chunk that was read in part.
    rest: Bytes,
}

impl BodyReader {
    pub(crate) fn new(incoming: Incoming) -> Self {
        Self { incoming, rest: Bytes::new() }
    }

    pub(crate) fn poll_rest(&mut self, waker: &Waker) -> Poll<Result<Message, StreamError>> {
        if !self.rest.is_empty() {
            self.incoming.keep(std::mem::take(&mut self.rest));
        }
        self.incoming.poll_rest(waker)
    }

    pub(crate) fn poll_chunk(&mut self, waker: &Waker) -> Poll<Result<Option<Bytes>, StreamError>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.rest))));
        }
        self.incoming.poll_chunk(waker)
    }

    /// The next bytes, at most `bytes_max`; none at the end.
    pub(crate) fn poll_part(
        &mut self,
        waker: &Waker,
        bytes_max: usize,
    ) -> Poll<Result<Bytes, StreamError>> {
        let Some(mut chunk) = std::task::ready!(self.poll_chunk(waker))? else {
            return Poll::Ready(Ok(Bytes::new()));
        };
        let part = chunk.split_to(chunk.len().min(bytes_max));
        self.rest = chunk;
        Poll::Ready(Ok(part))
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
        Pending::new(self, |reader: &mut &mut Self, waker| reader.poll_chunk(waker))
    }

    /// All that was not read yet. Dropping the future is as dropping the reader.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub fn collect(self) -> Pending<impl Operation<Output = Result<Message, StreamError>>> {
        Pending::new(self, Self::poll_rest)
    }
}

impl HasHandle for BodyReader {
    #[inline]
    fn handle(&self) -> &Handle {
        self.incoming.handle()
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

    #[cfg(any(feature = "tokio", feature = "futures"))]
    pub(crate) fn outgoing(&mut self) -> &mut Outgoing {
        &mut self.outgoing
    }

    /// The other end's address.
    pub fn peer(&self) -> SocketAddr {
        self.outgoing.peer()
    }

    /// Bytes still to be supplied, if that is known.
    pub fn missing_bytes(&self) -> Option<u32> {
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
        Pending::hasty(&mut self.outgoing, move |outgoing: &mut &mut Outgoing, waker| {
            outgoing.poll_send(waker, &mut bytes)
        })
    }

    /// Says that everything was supplied.
    ///
    /// # Errors
    /// [`StreamError::Incomplete`] if that is not so; the RPC is aborted then.
    pub fn finish(mut self) -> Result<(), StreamError> {
        self.outgoing.finish()
    }
}
