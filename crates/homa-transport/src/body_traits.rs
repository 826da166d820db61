//! Traits of other crates, and of the standard library, for bodies that are read and written piece
//! by piece.

use std::io;
#[cfg(any(feature = "tokio", feature = "futures", feature = "http-body"))]
use std::pin::Pin;
#[cfg(any(feature = "tokio", feature = "futures", feature = "http-body"))]
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::shared::HasHandle;
#[cfg(any(feature = "tokio", feature = "futures"))]
use crate::shared::Outgoing;
use crate::{BodyReader, BodyWriter};

/// Bytes of a write that are copied and sent at a time, at most.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Blocks its thread, as [`crate::Pending::wait`] does.
impl io::Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let handle = self.handle().clone();
        let part = handle.wait(|waker| self.poll_part(waker, buffer.len()))?;
        if let Some(filled) = buffer.get_mut(..part.len()) {
            filled.copy_from_slice(&part);
        }
        Ok(part.len())
    }
}

/// Blocks its thread, as [`crate::Pending::wait`] does. The body ends with [`BodyWriter::finish`].
impl io::Write for BodyWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let part = part(buffer);
        self.send(Bytes::copy_from_slice(part)).wait()?;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(feature = "tokio")]
impl tokio::io::AsyncRead for BodyReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let room = buffer.remaining();
        let read = |reader: &mut Self, waker: &_| reader.poll_part(waker, room);
        let part = crate::pending::poll(&mut *self, context, read);
        buffer.put_slice(&ready!(part)?);
        Poll::Ready(Ok(()))
    }
}

/// Shutting down is [`BodyWriter::finish`].
#[cfg(feature = "tokio")]
impl tokio::io::AsyncWrite for BodyWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outgoing = self.outgoing();
        // It is copied when there is room for it.
        ready!(crate::pending::poll(outgoing, context, Outgoing::poll_ready))?;
        let part = part(buffer);
        let sent = outgoing.poll_send(context.waker(), &mut Some(Bytes::copy_from_slice(part)));
        sent.map(|sent| sent.map(|()| part.len()).map_err(io::Error::from))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.outgoing().finish().map_err(io::Error::from))
    }
}

#[cfg(feature = "futures")]
impl futures_core::Stream for BodyReader {
    type Item = Result<Bytes, crate::StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let chunk = crate::pending::poll(&mut *self, context, Self::poll_chunk);
        chunk.map(Result::transpose)
    }
}

/// Closing is [`BodyWriter::finish`].
#[cfg(feature = "futures")]
impl futures_sink::Sink<Bytes> for BodyWriter {
    type Error = crate::StreamError;

    fn poll_ready(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Self::Error>> {
        crate::pending::poll(self.outgoing(), context, Outgoing::poll_ready)
    }

    fn start_send(mut self: Pin<&mut Self>, bytes: Bytes) -> Result<(), Self::Error> {
        match self.outgoing().poll_send(std::task::Waker::noop(), &mut Some(bytes)) {
            Poll::Ready(sent) => sent,
            // Not reached: it was ready.
            Poll::Pending => Ok(()),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(self.outgoing().finish())
    }
}

#[cfg(feature = "http-body")]
impl http_body::Body for BodyReader {
    type Data = Bytes;
    type Error = crate::StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let chunk = crate::pending::poll(&mut *self, context, Self::poll_chunk);
        chunk.map(|chunk| chunk.transpose().map(|bytes| bytes.map(http_body::Frame::data)))
    }
}

fn part(buffer: &[u8]) -> &[u8] {
    buffer.get(..WRITE_BYTES_MAX).unwrap_or(buffer)
}
