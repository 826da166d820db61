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

    /// Starts a call whose request is `body`, or begins with it if the request is open: then
    /// [`ShardView::supply`] adds to it, and [`ShardView::finish`] ends it. `cookie` comes back
    /// with the events about its response.
    ///
    /// # Errors
    /// Nothing was sent and nothing is kept; see [`SendError`].
    #[inline(always)]
    pub fn send_request(
        &mut self,
        path: Path,
        body: Body,
        cookie: u64,
        options: RequestOptions,
    ) -> Result<RpcKey, SendError> {
        let length = self.length(&body, options.open)?;
        let mut options = options;
        options.streaming_body = false;
        let rpc = self.engine.send_request(self.now, path, length, cookie, options)?;
        self.keep(rpc, body, length, options.open);
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
        (options.streaming_body, options.open) = (true, false);
        let rpc = self.engine.send_request(self.now, path, length, cookie, options)?;
        self.store.set_outgoing(rpc, Body::new(), length);
        Ok(rpc)
    }

    /// Answers the request of `rpc` with `body`, or begins to if the response is open, see
    /// [`ShardView::send_request`].
    ///
    /// # Errors
    /// Nothing was sent; see [`SendError`]. [`SendError::Stale`]: the client no longer waits for
    /// the response.
    #[inline(always)]
    pub fn send_response(
        &mut self,
        rpc: RpcKey,
        body: Body,
        options: ResponseOptions,
    ) -> Result<(), SendError> {
        let length = self.length(&body, options.open)?;
        let mut options = options;
        options.streaming_body = false;
        self.engine.send_response(self.now, rpc, length, options)?;
        self.keep(rpc, body, length, options.open);
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
        (options.streaming_body, options.open) = (true, false);
        self.engine.send_response(self.now, rpc, length, options)?;
        self.store.set_outgoing(rpc, Body::new(), length);
        Ok(())
    }

    /// Adds the next bytes of a message that was announced without its body, or is open.
    ///
    /// # Errors
    /// [`RpcError::Stale`]: the RPC is over. [`RpcError::OutOfRange`]: more bytes than announced,
    /// or, if it is open, than `limits.max_message_bytes` less one; none was added, and the RPC
    /// goes on. So it is if the server answers an open request before its end, of which nothing
    /// more is sent.
    pub fn supply(&mut self, rpc: RpcKey, bytes: Bytes) -> Result<(), RpcError> {
        let (_, supplied) = self.store.outgoing(rpc).ok_or(RpcError::Stale)?;
        let more = u32::try_from(bytes.len()).map_err(|_| RpcError::OutOfRange)?;
        let upto = supplied.checked_add(more).ok_or(RpcError::OutOfRange)?;
        self.engine.supply(self.now, rpc, upto)?;
        let kept = self.store.supply(rpc, bytes);
        debug_assert_eq!(kept, Some(upto), "the store takes what the engine does");
        Ok(())
    }

    /// Ends an open message. Its receiver gets a last byte behind those that were supplied, zero,
    /// which means nothing.
    ///
    /// # Errors
    /// [`RpcError::Stale`]: the RPC is over. [`RpcError::OutOfRange`]: its outgoing message is not
    /// open, or was finished before.
    pub fn finish(&mut self, rpc: RpcKey) -> Result<(), RpcError> {
        self.engine.finish(self.now, rpc)?;
        let kept = self.store.finish(rpc);
        debug_assert!(kept.is_some(), "the store knows what is open");
        Ok(())
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
        if let Some((short, length)) = self.store.take_short(rpc) {
            self.consumed(rpc, length);
            return Some(short.into());
        }
        let (message, length) = self.store.take_with_length(rpc)?;
        self.consumed(rpc, length);
        Some(message)
    }

    /// Moves a response out that came as a whole, and ends its call: no
    /// [`Event::Ended`](homa_core::Event::Ended) follows. `None` if it is not complete or the call
    /// is over. To be called when [`Event::ResponseWhole`](homa_core::Event::ResponseWhole) is
    /// told.
    #[inline]
    pub fn take_response(&mut self, rpc: RpcKey) -> Option<Message> {
        if let Some((short, length)) = self.store.take_short(rpc) {
            self.finish_call(rpc, length);
            return Some(short.into());
        }
        let (message, length) = self.store.take_with_length(rpc)?;
        self.finish_call(rpc, length);
        Some(message)
    }

    /// Moves the bytes of the incoming message below `upto` out that were not taken before, fewer
    /// if fewer are there; `None` if the RPC is over. Ask for what `BodyProgress` announced. Taking
    /// the last byte ends the RPC at a client.
    pub fn take_upto(&mut self, rpc: RpcKey, upto: u32) -> Option<Message> {
        let message = self.store.take_upto(rpc, upto)?;
        let (_, taken) = self.store.incoming(rpc)?;
        self.consumed(rpc, taken);
        Some(message)
    }

    /// Tells the engine that the bytes below `upto` were taken.
    #[inline]
    fn consumed(&mut self, rpc: RpcKey, upto: u32) {
        // The bytes are in hand: whether the RPC lives on no longer matters to the caller.
        let _ = self.engine.consumed(self.now, rpc, upto);
    }

    /// Ends a call of whose response all `length` bytes were taken.
    // Its callers differ in where the message lies.
    #[inline(always)]
    fn finish_call(&mut self, rpc: RpcKey, length: u32) {
        match self.engine.finish_call(self.now, rpc) {
            Ok(()) => self.store.remove(rpc),
            Err(_) => self.consumed(rpc, length),
        }
    }

    /// Length of a message of which `body` is there: an open one has a byte more.
    fn length(&self, body: &Body, open: bool) -> Result<u32, SendError> {
        let length = u32::try_from(body.len().saturating_add(usize::from(open)));
        let max = self.engine.config().limits.max_message_bytes;
        length.map_err(|_| SendError::TooLong { max })
    }

    #[inline]
    fn keep(&mut self, rpc: RpcKey, body: Body, length: u32, open: bool) {
        match open {
            false => self.store.set_outgoing(rpc, body, length),
            true => self.store.set_open_outgoing(rpc, body),
        }
    }
}
