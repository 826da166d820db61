//! The operations on RPCs, with their bytes.

use bytes::Bytes;
use homa_core::{
    Engine, FailReason, Instant, Path, RequestOptions, ResponseOptions, RpcError, RpcKey, SendError,
};

use crate::store::Store;
use crate::{Body, Message};

/// Engine and store of a shard at one point in time: what an event handler, or the library between
/// turns, can do with RPCs. What an operation causes is sent by the turn that hands out the event,
/// or by the next one.
#[derive(Debug)]
pub struct ShardView<'a> {
    now: Instant,
    engine: &'a mut Engine,
    store: &'a mut Store,
}

impl<'a> ShardView<'a> {
    pub(super) fn new(now: Instant, engine: &'a mut Engine, store: &'a mut Store) -> Self {
        Self { now, engine, store }
    }

    /// The time of the turn.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The engine, for its settings and counters.
    pub fn engine(&self) -> &Engine {
        self.engine
    }

    /// The engine, to bind and close ports or set peers.
    pub fn engine_mut(&mut self) -> &mut Engine {
        self.engine
    }

    /// The bytes of all messages on their way.
    pub fn store(&self) -> &Store {
        self.store
    }

    /// Starts a call whose request is `body`. `cookie` comes back with the events about its
    /// response.
    ///
    /// # Errors
    /// Nothing was sent and nothing is kept; see [`SendError`].
    #[inline]
    pub fn send_request(
        &mut self,
        path: Path,
        body: Body,
        cookie: u64,
        options: RequestOptions,
    ) -> Result<RpcKey, SendError> {
        let length = self.length(&body)?;
        let mut options = options;
        options.streaming_body = false;
        let rpc = self.engine.send_request(self.now, path, length, cookie, options)?;
        self.store.set_outgoing(rpc, body, length);
        Ok(rpc)
    }

    /// Starts a call whose request of `length` bytes is supplied later, by [`ShardView::supply`].
    ///
    /// # Errors
    /// Nothing was sent and nothing is kept; see [`SendError`].
    pub fn send_request_streaming(
        &mut self,
        path: Path,
        length: u32,
        cookie: u64,
        options: RequestOptions,
    ) -> Result<RpcKey, SendError> {
        let mut options = options;
        options.streaming_body = true;
        let rpc = self.engine.send_request(self.now, path, length, cookie, options)?;
        self.store.set_outgoing(rpc, Body::new(), length);
        Ok(rpc)
    }

    /// Answers the request of `rpc` with `body`.
    ///
    /// # Errors
    /// Nothing was sent; see [`SendError`]. [`SendError::Stale`]: the client no longer waits for
    /// the response.
    #[inline]
    pub fn send_response(
        &mut self,
        rpc: RpcKey,
        body: Body,
        options: ResponseOptions,
    ) -> Result<(), SendError> {
        let length = self.length(&body)?;
        let mut options = options;
        options.streaming_body = false;
        self.engine.send_response(self.now, rpc, length, options)?;
        self.store.set_outgoing(rpc, body, length);
        Ok(())
    }

    /// Announces an answer of `length` bytes that is supplied later, by [`ShardView::supply`].
    ///
    /// # Errors
    /// As [`ShardView::send_response`].
    pub fn send_response_streaming(
        &mut self,
        rpc: RpcKey,
        length: u32,
        options: ResponseOptions,
    ) -> Result<(), SendError> {
        let mut options = options;
        options.streaming_body = true;
        self.engine.send_response(self.now, rpc, length, options)?;
        self.store.set_outgoing(rpc, Body::new(), length);
        Ok(())
    }

    /// Adds the next bytes of a message that was announced without its body.
    ///
    /// # Errors
    /// [`RpcError::Stale`]: the RPC is over. [`RpcError::OutOfRange`]: more bytes than announced;
    /// none was added.
    pub fn supply(&mut self, rpc: RpcKey, bytes: Bytes) -> Result<(), RpcError> {
        let known = self.store.outgoing(rpc).ok_or(RpcError::Stale)?;
        let upto = self.store.supply(rpc, bytes).ok_or(RpcError::OutOfRange)?;
        debug_assert!(upto <= known.0, "the store keeps to the announced length");
        self.engine.supply(self.now, rpc, upto)
    }

    /// Refuses new requests to a port from now on, see [`Engine::drain_port`].
    pub fn drain_port(&mut self, port: u16) {
        self.engine.drain_port(self.now, port);
    }

    /// Gives an RPC up: at the client the call, at the server the request, which stays unanswered
    /// and whose client is told `reason`, see [`Engine::abort`]. No
    /// [`Event::Failed`](homa_core::Event::Failed) is reported for it.
    ///
    /// # Errors
    /// [`RpcError::Stale`]: it is over already.
    pub fn abort(&mut self, rpc: RpcKey, reason: FailReason) -> Result<(), RpcError> {
        self.engine.abort(self.now, rpc, reason)?;
        // A refused request stays until its client knows; the memory for it is given back now.
        self.store.discard_incoming(rpc);
        Ok(())
    }

    /// Reads the incoming message of `rpc` as it arrives: from now on
    /// [`Event::BodyProgress`](homa_core::Event::BodyProgress) says what is there, and bytes not
    /// taken hold the sender back.
    ///
    /// # Errors
    /// [`RpcError::Stale`]: the RPC is over.
    pub fn set_streaming(&mut self, rpc: RpcKey) -> Result<(), RpcError> {
        self.engine.set_streaming(self.now, rpc)
    }

    /// Moves a complete incoming message (or what is left of it) out; `None` if it is not complete
    /// or the RPC is over. At a client this ends the RPC.
    #[inline]
    pub fn take(&mut self, rpc: RpcKey) -> Option<Message> {
        let (message, length) = self.store.take_with_length(rpc)?;
        // The bytes are in hand: whether the RPC lives on no longer matters to the caller.
        let _ = self.engine.consumed(self.now, rpc, length);
        Some(message)
    }

    /// Moves the bytes of the incoming message below `upto` out that were not taken before, fewer
    /// if fewer are there; `None` if the RPC is over. Ask for what `BodyProgress` announced. Taking
    /// the last byte ends the RPC at a client.
    pub fn take_upto(&mut self, rpc: RpcKey, upto: u32) -> Option<Message> {
        let message = self.store.take_upto(rpc, upto)?;
        let (_, taken) = self.store.incoming(rpc)?;
        // As in `take`.
        let _ = self.engine.consumed(self.now, rpc, taken);
        Some(message)
    }

    fn length(&self, body: &Body) -> Result<u32, SendError> {
        u32::try_from(body.len())
            .map_err(|_| SendError::TooLong { max: self.engine.config().limits.max_message_bytes })
    }
}
