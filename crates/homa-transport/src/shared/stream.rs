//! Messages read or supplied piece by piece.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use homa_io::{Message, Metadata};

use super::frame::length_u32;
use super::handle::{Handle, HasHandle};
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

    /// Puts bytes that were read ahead of what is collected.
    pub(crate) fn keep(&mut self, bytes: Bytes) {
        self.collected.push(bytes);
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
        if let (Role::Server, CallErrorKind::TooLong { .. }) = (self.rpc.role, error.kind()) {
            let most_bytes = self.handle.facts.max_message_bytes;
            return Some(StreamError::TooLong { peer: self.rpc.peer, most_bytes });
        }
        Some(stream_error(&self.rpc, error))
    }
}

impl HasHandle for IncomingStream {
    #[inline]
    fn handle(&self) -> &Handle {
        &self.handle
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
        if self.at_end || self.handle.is_forked() || self.rpc.has_failed() {
            return;
        }
        let state = self.rpc.lock();
        let is_over = match &self.whole {
            // There is nothing to end but what else is done for the call.
            Some(whole) => whole.is_empty() || state.partner.is_none(),
            None => state.incoming.is_at_end(),
        };
        drop(state);
        if is_over {
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
    /// `None`: not known.
    length_bytes: Option<u32>,
    supplied_bytes: u32,
    finished: bool,
}

impl OutgoingStream {
    pub(crate) fn new(handle: Handle, rpc: Arc<Rpc>, length_bytes: Option<u32>) -> Self {
        Self { handle, rpc, length_bytes, supplied_bytes: 0, finished: false }
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.rpc.peer
    }

    /// Bytes still to be supplied, if that is known.
    pub(crate) fn missing_bytes(&self) -> Option<u32> {
        Some(self.length_bytes?.saturating_sub(self.supplied_bytes))
    }

    /// Whether nothing more is to be supplied.
    fn is_complete(&self) -> bool {
        self.finished || self.missing_bytes() == Some(0)
    }

    /// The most that it can have.
    fn most_bytes(&self) -> u32 {
        self.length_bytes.unwrap_or(self.handle.facts.max_message_bytes)
    }

    /// Takes `bytes` when little enough is on its way.
    pub(crate) fn poll_send(
        &mut self,
        waker: &Waker,
        bytes: &mut Option<Bytes>,
    ) -> Poll<Result<(), StreamError>> {
        let more_bytes = length_u32(bytes.as_ref().map_or(0, Bytes::len));
        if more_bytes == 0 {
            return Poll::Ready(Ok(()));
        }
        let most_bytes = self.most_bytes();
        if more_bytes > most_bytes.saturating_sub(self.supplied_bytes) {
            return Poll::Ready(Err(StreamError::TooLong { peer: self.rpc.peer, most_bytes }));
        }
        std::task::ready!(self.poll_ready(waker))?;
        self.supplied_bytes += more_bytes;
        let bytes = bytes.take().unwrap_or_default();
        self.handle.submit(Operation::Supply(Arc::clone(&self.rpc), bytes));
        Poll::Ready(Ok(()))
    }

    /// Ready when little enough is on its way.
    pub(crate) fn poll_ready(&mut self, waker: &Waker) -> Poll<Result<(), StreamError>> {
        if self.handle.is_forked() {
            return Poll::Ready(Err(CallError::from(CallErrorKind::Forked).into()));
        }
        let mut state = self.rpc.lock();
        if let Some(error) = &state.failed {
            let peer = self.rpc.peer;
            return Poll::Ready(Err(match error.kind() {
                _ if state.is_stopped => StreamError::Stopped { peer },
                CallErrorKind::TooLong { max_bytes: Some(most_bytes) } if state.is_upload => {
                    StreamError::TooLong { peer, most_bytes: *most_bytes }
                }
                _ if state.is_upload => CallError::new(peer, error.kind_of_partner()).into(),
                _ => stream_error(&self.rpc, CallError::clone(error)),
            }));
        }
        // The engine ends a response before its last byte without a word if nobody waits for it.
        if self.rpc.role == Role::Server && state.key.is_none() && !self.is_complete() {
            return Poll::Ready(Err(match self.handle.life.is_closed() {
                true => CallError::from(CallErrorKind::Closed).into(),
                false => StreamError::Cancelled { peer: self.rpc.peer },
            }));
        }
        let on_its_way = self.supplied_bytes.saturating_sub(state.outgoing.released_upto);
        if on_its_way < OUTGOING_WINDOW_BYTES {
            return Poll::Ready(Ok(()));
        }
        store_waker(&mut state.writer, waker);
        // The response begins when the request is complete, which its reader may not reach.
        let read_ahead = state.early_response.is_some() && !state.incoming.read_ahead;
        state.incoming.read_ahead |= read_ahead;
        drop(state);
        if read_ahead {
            self.handle.submit(Operation::Take(Arc::clone(&self.rpc)));
        }
        Poll::Pending
    }

    /// Says that everything was supplied.
    pub(crate) fn finish(&mut self) -> Result<(), StreamError> {
        match self.missing_bytes() {
            Some(0) => {}
            Some(missing_bytes) => {
                return Err(StreamError::Incomplete { peer: self.rpc.peer, missing_bytes });
            }
            None if self.finished || self.handle.is_forked() => {}
            None => self.handle.submit(Operation::Finish(Arc::clone(&self.rpc))),
        }
        self.finished = true;
        Ok(())
    }
}

impl HasHandle for OutgoingStream {
    #[inline]
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for OutgoingStream {
    fn drop(&mut self) {
        if !self.is_complete() && !self.handle.is_forked() && !self.rpc.has_failed() {
            self.handle.submit(Operation::Abort(Arc::clone(&self.rpc)));
        }
    }
}
