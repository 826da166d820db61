//! The async endpoint.

use std::future::poll_fn;
use std::net::SocketAddr;

use super::ensure_task;
use crate::shared::{Acceptor, CallMode, Closing, Handle, PendingCall, ServingMode, open};
use crate::{
    AcceptError, BindError, Body, BodySender, Call, CallError, CallOptions, EndpointBuilder,
    Message, PeerSettings, PendingResponse, Request, RequestStream, ResponseStream, Stats,
};

/// One socket that calls servers and, made by [`Endpoint::bind`], serves clients. Clones are cheap
/// and share the socket; all methods take `&self` and may be used by any number of tasks and
/// threads. Dropping the last clone, [`Call`] and [`Request`] closes it.
///
/// Works in current-thread and multi-thread tokio runtimes (with `enable_io`). The first use in a
/// runtime starts one driver task there; if that runtime is dropped, a thread of the endpoint
/// takes over until another runtime uses it.
///
/// # Panics
/// Calling and accepting panic where the first runtime that does so was built without `enable_io`.
#[derive(Clone, Debug)]
pub struct Endpoint {
    handle: Handle,
}

impl Endpoint {
    /// An endpoint that serves at `address` (`"0.0.0.0:4000"`, `"[::]:4000"` for IPv4 and IPv6,
    /// port 0 for one of the system's choice) and can also call. Names are resolved on tokio's
    /// blocking threads.
    ///
    /// Cancel-safe: nothing is bound if the future is dropped.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(address: impl tokio::net::ToSocketAddrs) -> Result<Self, BindError> {
        let found = tokio::net::lookup_host(address).await.map_err(BindError::Resolve)?;
        let addresses: Vec<SocketAddr> = found.collect();
        EndpointBuilder::new().bind(addresses.as_slice())
    }

    /// An endpoint that only calls, at a port of the system's choice (IPv4 and IPv6 if the system
    /// has both).
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn client() -> Result<Self, BindError> {
        EndpointBuilder::new().client()
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
        Ok(Self { handle: open(&builder, addresses, serve, Some(ensure_task))? })
    }

    /// The same endpoint for threads without a runtime.
    pub fn to_blocking(&self) -> crate::blocking::Endpoint {
        crate::blocking::Endpoint::from_handle(self.handle.clone())
    }

    pub(crate) fn from_handle(handle: Handle) -> Self {
        Self { handle: handle.driven_by(Some(ensure_task)) }
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
    /// Cancel-safe: dropping the future aborts the RPC; the server may have executed it.
    ///
    /// # Errors
    /// See [`CallError`]; never [`CallError::LimitReached`] with an `Outstanding` limit.
    pub async fn call(
        &self,
        server: SocketAddr,
        body: impl Into<Body>,
    ) -> Result<Message, CallError> {
        self.start(server, body).await
    }

    /// As [`Endpoint::call`], with a deadline or priority hint.
    ///
    /// # Errors
    /// As [`Endpoint::call`].
    pub async fn call_with(
        &self,
        server: SocketAddr,
        body: impl Into<Body>,
        options: CallOptions,
    ) -> Result<Message, CallError> {
        self.start_with(server, body, options).await
    }

    /// Starts a call now, unless a limit is reached (then when it is polled and there is room),
    /// and returns the future of its response: any number can be under way from one task.
    pub fn start(&self, server: SocketAddr, body: impl Into<Body>) -> Call {
        self.start_with(server, body, CallOptions::default())
    }

    /// As [`Endpoint::start`], with options.
    pub fn start_with(
        &self,
        server: SocketAddr,
        body: impl Into<Body>,
        options: CallOptions,
    ) -> Call {
        Call::new(PendingCall::start(
            &self.handle,
            server,
            CallMode::Whole(body.into()),
            options,
            None,
        ))
    }

    /// As [`Endpoint::start`], but never waits for room.
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
        Ok(Call::new(pending.without_waiting()?))
    }

    /// Calls, and returns as soon as the first bytes of the response are here.
    ///
    /// Cancel-safe as [`Endpoint::call`].
    ///
    /// # Errors
    /// As [`Endpoint::call`].
    pub async fn call_streaming(
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
        PendingResponse::new(pending).stream().await
    }

    /// Starts a call whose body of `request_bytes` is supplied piece by piece, so that it never
    /// has to be in memory as a whole. The response can be awaited before the body is complete.
    ///
    /// Cancel-safe: dropped while it waits for room, nothing was sent.
    ///
    /// # Errors
    /// As [`Endpoint::call`].
    pub async fn start_streaming(
        &self,
        server: SocketAddr,
        request_bytes: u32,
        options: CallOptions,
    ) -> Result<(BodySender, PendingResponse), CallError> {
        let mode = CallMode::StreamRequest { request_bytes };
        let mut pending = PendingCall::start(&self.handle, server, mode, options, None);
        let sender = poll_fn(|context| pending.poll_body_sender(context.waker())).await?;
        Ok((BodySender::new(sender), PendingResponse::new(pending)))
    }

    /// Waits for the next complete request; `None` once the endpoint is closed.
    ///
    /// Cancel-safe: no request is lost if the future is dropped.
    ///
    /// # Errors
    /// See [`AcceptError`].
    pub async fn accept(&self) -> Result<Option<Request>, AcceptError> {
        let mut accept = Acceptor::new(&self.handle, ServingMode::Whole)?;
        let accepted = poll_fn(|context| accept.poll(context.waker())).await?;
        Ok(accepted.map(Request::new))
    }

    /// Waits for the next request and returns it at its first byte. Needs
    /// [`EndpointBuilder::streaming_requests`]; without it requests come when they are complete.
    ///
    /// Cancel-safe: no request is lost if the future is dropped.
    ///
    /// # Errors
    /// See [`AcceptError`].
    pub async fn accept_streaming(&self) -> Result<Option<RequestStream>, AcceptError> {
        let mut accept = Acceptor::new(&self.handle, ServingMode::Streaming)?;
        let accepted = poll_fn(|context| accept.poll(context.waker())).await?;
        Ok(accepted.map(RequestStream::new))
    }

    /// Closes the endpoint for all its clones: no further request is accepted, accepted responses
    /// are sent to their end (at most [`EndpointBuilder::linger`]), all peers with live RPCs are
    /// told, then calls still outstanding fail with [`CallError::Closed`].
    ///
    /// Cancel-safe: if the future is dropped, closing goes on in the background.
    pub async fn close(&self) {
        let mut closing = Closing::begin(&self.handle);
        poll_fn(|context| closing.poll(context.waker())).await;
    }
}
