//! Messages read or supplied piece by piece.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use homa_io::{Message, Metadata};

use super::context::length_u32;
use super::handle::Handle;
use super::ops::Operation;
use super::rpc::{Role, Rpc, RpcState};
use super::wakes::store_waker;
use crate::{CallError, CallErrorKind, StreamError};

/// Bytes of a streamed message that may be on their way (supplied and not released).
const OUTGOING_WINDOW_BYTES: u32 = 1 << 20;

/// The incoming message.
#[derive(Debug)]
pub(crate) struct IncomingStream {
    handle: Handle,
    rpc: Arc<Rpc>,
    /// All of it, if it was there as a whole.
    whole: Option<Message>,
    body_bytes: Option<u32>,
    metadata: Metadata,
    at_end: bool,
    collected: Message,
}

impl IncomingStream {
    /// A message that has begun to arrive, or is there as a whole.
    pub(crate) fn new(handle: Handle, rpc: Arc<Rpc>, whole: Option<Message>) -> Self {
        let mut state = rpc.lock();
        let (body_bytes, metadata) = match &whole {
            Some(whole) => (Some(length_u32(whole.len())), whole.metadata().clone()),
            None => (state.incoming.body_bytes(), state.incoming.take_metadata()),
        };
        drop(state);
        let collected = Message::new();
        Self { handle, rpc, whole, body_bytes, metadata, at_end: false, collected }
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.rpc.peer
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(crate) fn body_bytes(&self) -> Option<u32> {
        self.body_bytes
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    pub(crate) fn poll_chunk(&mut self, waker: &Waker) -> Poll<Result<Option<Bytes>, StreamError>> {
        if self.handle.is_forked() {
            return Poll::Ready(Err(CallError::from(CallErrorKind::Forked).into()));
        }
        if let Some(whole) = &mut self.whole {
            let piece = whole.pop_chunk();
            self.at_end = piece.is_none();
            return Poll::Ready(Ok(piece));
        }
        // The second look is for a turn that ran before the waker was there, or took what is asked.
        for may_ask in [true, false] {
            let mut state = self.rpc.lock();
            if let Some(piece) = state.incoming.next_chunk() {
                return Poll::Ready(Ok(Some(piece)));
            }
            if state.incoming.is_at_end() {
                self.at_end = true;
                return Poll::Ready(Ok(None));
            }
            let is_left = state.incoming.contiguous_upto > state.incoming.taken_upto;
            if is_left && state.key.is_some() && state.failed.is_none() {
                store_waker(&mut state.reader, waker);
                drop(state);
                if may_ask {
                    self.handle.submit(Operation::Take(Arc::clone(&self.rpc)));
                }
                continue;
            }
            if let Some(error) = self.error(&state) {
                return Poll::Ready(Err(error));
            }
            store_waker(&mut state.reader, waker);
            break;
        }
        Poll::Pending
    }

    /// Everything not read yet, when it is there.
    pub(crate) fn poll_rest(&mut self, waker: &Waker) -> Poll<Result<Message, StreamError>> {
        loop {
            match self.poll_chunk(waker) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(Some(piece))) => self.collected.push(piece),
                Poll::Ready(Ok(None)) => {
                    let metadata = std::mem::take(&mut self.metadata);
                    let body = std::mem::take(&mut self.collected);
                    return Poll::Ready(Ok(body.with_metadata(metadata)));
                }
            }
        }
    }

    /// Why no more will come, if so.
    fn error(&self, state: &RpcState) -> Option<StreamError> {
        let error = match (&state.failed, state.key) {
            (Some(error), _) => CallError::clone(error),
            (None, None) => CallErrorKind::Closed.into(),
            (None, Some(_)) => return None,
        };
        Some(stream_error(&self.rpc, error))
    }
}

/// An error as the user of a stream sees it.
fn stream_error(rpc: &Rpc, error: CallError) -> StreamError {
    match (rpc.role, error.kind()) {
        (Role::Client, _) | (_, CallErrorKind::Closed) => error.into(),
        (Role::Server, _) => StreamError::Cancelled { peer: rpc.peer },
    }
}

impl Drop for IncomingStream {
    fn drop(&mut self) {
        if self.at_end || self.whole.is_some() || self.handle.is_forked() {
            return;
        }
        if self.rpc.has_failed() || self.rpc.lock().incoming.is_at_end() {
            return;
        }
        let rpc = Arc::clone(&self.rpc);
        self.handle.submit(match self.rpc.role {
            Role::Client => Operation::Abort(rpc),
            Role::Server => Operation::Discard(rpc),
        });
    }
}

/// The outgoing message.
#[derive(Debug)]
pub(crate) struct OutgoingStream {
    handle: Handle,
    rpc: Arc<Rpc>,
    length_bytes: u32,
    supplied_bytes: u32,
}

impl OutgoingStream {
    pub(crate) fn new(handle: Handle, rpc: Arc<Rpc>, length_bytes: u32) -> Self {
        Self { handle, rpc, length_bytes, supplied_bytes: 0 }
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.rpc.peer
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(crate) fn missing_bytes(&self) -> u32 {
        self.length_bytes.saturating_sub(self.supplied_bytes)
    }

    /// Takes `bytes` when little enough is on its way.
    pub(crate) fn poll_send(
        &mut self,
        waker: &Waker,
        bytes: &mut Option<Bytes>,
    ) -> Poll<Result<(), StreamError>> {
        let length_bytes = length_u32(bytes.as_ref().map_or(0, Bytes::len));
        if self.handle.is_forked() {
            return Poll::Ready(Err(CallError::from(CallErrorKind::Forked).into()));
        }
        if length_bytes == 0 {
            return Poll::Ready(Ok(()));
        }
        if length_bytes > self.missing_bytes() {
            let announced_bytes = self.length_bytes;
            let error = StreamError::TooLong { peer: self.rpc.peer, announced_bytes };
            return Poll::Ready(Err(error));
        }
        let mut state = self.rpc.lock();
        if let Some(error) = &state.failed {
            return Poll::Ready(Err(stream_error(&self.rpc, CallError::clone(error))));
        }
        let on_its_way = self.supplied_bytes.saturating_sub(state.outgoing.released_upto);
        if on_its_way >= OUTGOING_WINDOW_BYTES {
            store_waker(&mut state.writer, waker);
            drop(state);
            return Poll::Pending;
        }
        drop(state);
        self.supplied_bytes += length_bytes;
        let bytes = bytes.take().unwrap_or_default();
        self.handle.submit(Operation::Supply(Arc::clone(&self.rpc), bytes));
        Poll::Ready(Ok(()))
    }

    pub(crate) fn finish(self) -> Result<(), StreamError> {
        match self.missing_bytes() {
            0 => Ok(()),
            missing_bytes => Err(StreamError::Incomplete { peer: self.rpc.peer, missing_bytes }),
        }
    }
}

impl Drop for OutgoingStream {
    fn drop(&mut self) {
        if self.missing_bytes() > 0 && !self.handle.is_forked() && !self.rpc.has_failed() {
            self.handle.submit(Operation::Abort(Arc::clone(&self.rpc)));
        }
    }
}
