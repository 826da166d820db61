//! The blocking endpoint.

use std::net::{SocketAddr, ToSocketAddrs};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::{BodySender, Call, CallSet, PendingResponse, Request, RequestStream, ResponseStream};
use crate::shared::{Acceptor, CallMode, Closing, Handle, PendingCall, ServingMode, open};
use crate::{
    AcceptError, BindError, Body, CallError, CallOptions, EndpointBuilder, Message, PeerSettings,
    Stats,
};

/// One socket that calls servers and, made by [`Endpoint::bind`], serves clients. Clones are cheap
/// and share the socket; all methods take `&self` and may be used by any number of threads.
/// Dropping the last clone, [`Call`] and [`Request`] closes it.
///
/// The thread that waits runs the protocol: it looks for packets for a while
/// ([`EndpointBuilder::spin`]) before it sleeps.
#[derive(Clone, Debug)]
pub struct Endpoint {
    handle: Handle,
}

impl Endpoint {
    /// An endpoint that serves at `address` (`"0.0.0.0:4000"`, `"[::]:4000"` for IPv4 and IPv6,
    /// port 0 for one of the system's choice) and can also call.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(address: impl ToSocketAddrs) -> Result<Self, BindError> {
        EndpointBuilder::new().bind_blocking(address)
    }

    /// An endpoint that only calls, at a port of the system's choice (IPv4 and IPv6 if the system
    /// has both).
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn client() -> Result<Self, BindError> {
        EndpointBuilder::new().client_blocking()
    }

    /// Sets an endpoint up with other settings than the default.
    pub fn builder() -> EndpointBuilder {
        EndpointBuilder::new()
    }

    pub(crate) fn from_builder(
        builder: EndpointBuilder,
        addresses: &[SocketAddr],
        serve: bool,
    ) -> Result<Self, BindError> {
        Ok(Self { handle: open(&builder, addresses, serve, None)? })
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn from_handle(handle: Handle) -> Self {
        Self { handle: handle.driven_by(None) }
    }

    /// The same endpoint for tasks of a tokio runtime.
    #[cfg(feature = "tokio")]
    pub fn to_async(&self) -> crate::Endpoint {
        crate::Endpoint::from_handle(self.handle.clone())
    }

    /// Where it receives; the port is the one given by the system if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.handle.local_addr()
    }

    /// Counters and gauges of this moment; zeros in a forked child.
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// Settings that hold for one peer from now on; `false` if the table of peers is full or the
    /// endpoint is closed.
    pub fn set_peer(&self, peer: SocketAddr, settings: PeerSettings) -> bool {
        self.handle.set_peer(peer, settings)
    }

    /// Sends `body` to `server` and waits for the response, at a limit first for room.
    ///
    /// # Errors
    /// See [`CallError`]; never [`CallError::LimitReached`] with an `Outstanding` limit.
    pub fn call(&self, server: SocketAddr, body: impl Into<Body>) -> Result<Message, CallError> {
        self.call_with(server, body, CallOptions::default())
    }

    /// As [`Endpoint::call`], with a deadline or priority hint.
    ///
    /// # Errors
    /// As [`Endpoint::call`].
    pub fn call_with(
        &self,
        server: SocketAddr,
        body: impl Into<Body>,
        options: CallOptions,
    ) -> Result<Message, CallError> {
        let mut pending =
            PendingCall::start(&self.handle, server, CallMode::Whole(body.into()), options, None);
        self.handle.wait(|waker| pending.poll_message(waker))
    }

    /// Starts a call and returns at once, at a limit when there is room; any number can be under
    /// way from one thread. For many, [`Endpoint::call_set`] is faster.
    ///
    /// # Errors
    /// Errors known at once; others come from [`Call::wait`].
    pub fn start(&self, server: SocketAddr, body: impl Into<Body>) -> Result<Call, CallError> {
        self.start_with(server, body, CallOptions::default())
    }

    /// As [`Endpoint::start`], with options.
    ///
    /// # Errors
    /// As [`Endpoint::start`].
    pub fn start_with(
        &self,
        server: SocketAddr,
        body: impl Into<Body>,
        options: CallOptions,
    ) -> Result<Call, CallError> {
        let mut pending =
            PendingCall::start(&self.handle, server, CallMode::Whole(body.into()), options, None);
        // There nearly always is room.
        match pending.poll_started(Waker::noop()) {
            Poll::Ready(started) => started?,
            Poll::Pending => self.handle.wait(|waker| pending.poll_started(waker))?,
        }
        Ok(Call::new(self.handle.clone(), pending))
    }

    /// As [`Endpoint::start`], but never waits.
    ///
    /// # Errors
    /// [`CallError::LimitReached`] at a limit; other errors that are known at once.
    pub fn try_call(&self, server: SocketAddr, body: impl Into<Body>) -> Result<Call, CallError> {
        self.try_call_with(server, body, CallOptions::default())
    }

    /// As [`Endpoint::try_call`], with options.
    ///
    /// # Errors
    /// As [`Endpoint::try_call`].
    pub fn try_call_with(
        &self,
        server: SocketAddr,
        body: impl Into<Body>,
        options: CallOptions,
    ) -> Result<Call, CallError> {
        let mode = CallMode::Whole(body.into());
        let pending = PendingCall::start(&self.handle, server, mode, options, None);
        Ok(Call::new(self.handle.clone(), pending.without_waiting()?))
    }

    /// A set of calls under way from one thread, whose responses come as they are ready.
    pub fn call_set(&self) -> CallSet {
        CallSet::new(self.handle.clone())
    }

    /// Calls, and returns as soon as the first bytes of the response are here.
    ///
    /// # Errors
    /// As [`Endpoint::call`].
    pub fn call_streaming(
        &self,
        server: SocketAddr,
        body: impl Into<Body>,
        options: CallOptions,
    ) -> Result<ResponseStream, CallError> {
        let pending = PendingCall::start(
            &self.handle,
            server,
            CallMode::StreamResponse(body.into()),
            options,
            None,
        );
        PendingResponse::new(self.handle.clone(), pending).stream()
    }

    /// Starts a call whose body of `request_bytes` is supplied piece by piece, so that it never
    /// has to be in memory as a whole. The response can be awaited before the body is complete.
    ///
    /// # Errors
    /// As [`Endpoint::call`].
    pub fn start_streaming(
        &self,
        server: SocketAddr,
        request_bytes: u32,
        options: CallOptions,
    ) -> Result<(BodySender, PendingResponse), CallError> {
        let mode = CallMode::StreamRequest { request_bytes };
        let mut pending = PendingCall::start(&self.handle, server, mode, options, None);
        let outgoing = self.handle.wait(|waker| pending.poll_body_sender(waker))?;
        Ok((
            BodySender::new(self.handle.clone(), outgoing),
            PendingResponse::new(self.handle.clone(), pending),
        ))
    }

    /// Waits for the next complete request; `None` once the endpoint is closed.
    ///
    /// # Errors
    /// See [`AcceptError`].
    pub fn accept(&self) -> Result<Option<Request>, AcceptError> {
        let mut acceptor = Acceptor::new(&self.handle, ServingMode::Whole)?;
        let waiting = acceptor.take_waiting();
        let accepted = match waiting {
            Some(accepted) => Some(accepted),
            None => self.handle.wait(|waker| acceptor.poll(waker))?,
        };
        Ok(accepted.map(Request::new))
    }

    /// As [`Endpoint::accept`], for at most `timeout`: `Ok(None)` also then.
    ///
    /// # Errors
    /// See [`AcceptError`].
    pub fn accept_timeout(&self, timeout: Duration) -> Result<Option<Request>, AcceptError> {
        let mut acceptor = Acceptor::new(&self.handle, ServingMode::Whole)?;
        let until = Instant::now() + timeout;
        match self.handle.wait_until(until, |waker| acceptor.poll(waker)) {
            Some(accepted) => Ok(accepted?.map(Request::new)),
            None => Ok(None),
        }
    }

    /// Waits for the next request and returns it at its first byte. Needs
    /// [`EndpointBuilder::streaming_requests`]; without it requests come when they are complete.
    ///
    /// # Errors
    /// See [`AcceptError`].
    pub fn accept_streaming(&self) -> Result<Option<RequestStream>, AcceptError> {
        let mut acceptor = Acceptor::new(&self.handle, ServingMode::Streaming)?;
        let accepted = self.handle.wait(|waker| acceptor.poll(waker))?;
        Ok(accepted.map(RequestStream::new))
    }

    /// Closes the endpoint for all its clones: no further request is accepted, accepted responses
    /// are sent to their end (at most [`EndpointBuilder::linger`]), all peers with live RPCs are
    /// told, then calls still outstanding fail with [`CallError::Closed`].
    pub fn close(&self) {
        let mut closing = Closing::begin(&self.handle);
        self.handle.wait(|waker| closing.poll(waker));
    }
}
