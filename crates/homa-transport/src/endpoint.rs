//! The endpoint.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use crate::pending::{Operation, Pending};
use crate::shared::{
    Acceptor, Closing, Content, Handle, Idle, PendingCall, ServingMode, core_on, open, open_socket,
};
use crate::{
    AcceptError, BindError, Body, Call, CallSet, ClientStats, Clock, Drive, Driver, DriverInUse,
    EndpointBuilder, PeerSettings, Request, RequestStream, Stats, StreamingCall, Target,
};

/// One socket that calls servers and, made by [`Endpoint::bind`], serves clients. Clones are cheap
/// and share the socket; all methods take `&self` and may be used by any number of threads and
/// tasks, of any runtimes. Dropping the last clone, [`Call`] and [`Request`] closes it.
///
/// What takes time is awaited by a task, or by a thread that calls `wait`: both are ways to wait
/// for the same thing. A thread that waits runs the protocol; it looks for packets for a while
/// ([`EndpointBuilder::spin`]) before it sleeps. Among the tasks of a tokio runtime one does that;
/// elsewhere, and in runtimes without I/O (`enable_io`, which tokio complains about on the standard
/// error), a thread of the endpoint does it, which takes longer.
#[derive(Clone, Debug)]
pub struct Endpoint {
    handle: Handle,
}

impl Endpoint {
    /// An endpoint that serves at `address` (`"0.0.0.0:4000"`, `"[::]:4000"` for IPv4 and IPv6,
    /// port 0 for one of the system's choice) and can also call. Names are resolved in the calling
    /// thread.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(address: impl ToSocketAddrs) -> Result<Self, BindError> {
        EndpointBuilder::new().bind(address)
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
        builder: &EndpointBuilder,
        addresses: &[SocketAddr],
        serve: bool,
    ) -> Result<Self, BindError> {
        Ok(Self { handle: open(builder, addresses, serve)? })
    }

    pub(crate) fn from_socket(
        builder: &EndpointBuilder,
        socket: UdpSocket,
    ) -> Result<Self, BindError> {
        Ok(Self { handle: open_socket(builder, socket)? })
    }

    pub(crate) fn on_driver(
        builder: &EndpointBuilder,
        driver: impl Driver + fmt::Debug + Send + 'static,
        clock: impl Clock + 'static,
        serve: bool,
    ) -> Result<(Self, Drive), BindError> {
        let core = Arc::new(core_on(builder, serve, driver, clock)?);
        let drive = Drive::new(Arc::clone(&core));
        Ok((Self { handle: Handle::new(core, None) }, drive))
    }

    #[cfg(feature = "tower")]
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Where it receives; the port is the one given by the system if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.handle.local_addr()
    }

    /// What moves its packets, as chosen when it was opened.
    pub fn driver(&self) -> &DriverInUse {
        &self.handle.facts.driver
    }

    /// Counters and gauges of this moment; zeros in a forked child.
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// What each client has here at this moment, by address. It visits all RPCs: for reports, not
    /// for every request.
    pub fn clients(&self) -> Vec<ClientStats> {
        self.handle.clients()
    }

    /// Settings that hold for one peer from now on; `false` if the table of peers is full or the
    /// endpoint is closed.
    pub fn set_peer(&self, peer: SocketAddr, settings: PeerSettings) -> bool {
        self.handle.set_peer(peer, settings)
    }

    /// A call: `body` goes to `server` (an address, or a name with a port), which answers. It
    /// begins when it is awaited, waited for or started; at a limit it first waits for room.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use homa_transport::{CallError, Endpoint, Message};
    /// # fn example(endpoint: &Endpoint) -> Result<Message, CallError> {
    /// endpoint.call("storage:4000", "get 17").timeout(Duration::from_millis(20)).wait()
    /// # }
    /// ```
    #[inline]
    pub fn call(&self, server: impl Into<Target>, body: impl Into<Body>) -> Call {
        let content = Content::Whole(body.into());
        Call::new(PendingCall::new(self.handle.clone(), server.into(), content))
    }

    /// A call whose body is written piece by piece, so that it never has to be in memory as a
    /// whole. Without a [length](StreamingCall::length) both directions go at once: the server can
    /// answer while it reads.
    pub fn call_streaming(&self, server: impl Into<Target>) -> StreamingCall {
        let content = Content::Announced(None, Box::default());
        StreamingCall::new(PendingCall::new(self.handle.clone(), server.into(), content))
    }

    /// A set of calls under way, whose responses come as they are ready.
    pub fn call_set(&self) -> CallSet {
        CallSet::new(self.handle.clone())
    }

    /// The next complete request.
    ///
    /// Cancel-safe: no request is lost if the future is dropped.
    ///
    /// # Errors
    /// See [`AcceptError`]; [`AcceptError::Closed`] once the endpoint is closed.
    #[inline]
    pub fn accept(&self) -> Pending<impl Operation<Output = Result<Request, AcceptError>>> {
        let acceptor = Acceptor::new(&self.handle, ServingMode::Whole);
        Pending::new(acceptor, |acceptor: &mut Acceptor<'_>, waker| {
            acceptor.poll(waker).map_ok(Request::new)
        })
        .hasty_if(self.handle.rooms.requests.len() > 0)
    }

    /// The next request, at its first byte. Needs [`EndpointBuilder::streaming_requests`]; without
    /// it requests come when they are complete.
    ///
    /// Cancel-safe: no request is lost if the future is dropped.
    ///
    /// # Errors
    /// As [`Endpoint::accept`].
    pub fn accept_streaming(
        &self,
    ) -> Pending<impl Operation<Output = Result<RequestStream, AcceptError>>> {
        let acceptor = Acceptor::new(&self.handle, ServingMode::Streaming);
        Pending::new(acceptor, |acceptor: &mut Acceptor<'_>, waker| {
            acceptor.poll(waker).map_ok(RequestStream::new)
        })
    }

    /// Accepts no further request: `accept` returns [`AcceptError::Closed`], and clients of
    /// requests that no handler has seen, now or later, are told that these were not executed
    /// ([`NotExecuted`](crate::CallErrorKind::NotExecuted)). Accepted requests go on, and calls
    /// from here too.
    pub fn stop_accepting(&self) {
        if !self.handle.is_forked() {
            self.handle.stop_accepting();
        }
    }

    /// Ready when no accepted request is unanswered and all clients have their responses, or the
    /// endpoint is closed. More requests may come unless it [stopped](Self::stop_accepting) to
    /// accept.
    ///
    /// Cancel-safe.
    pub fn wait_idle(&self) -> Pending<impl Operation<Output = ()> + use<>> {
        Pending::new(Idle::new(&self.handle), Idle::poll)
    }

    /// Shuts down in order, for all clones: accepts no further request as [`Self::stop_accepting`],
    /// gives accepted requests and their responses `within` to end, then closes. Until then calls
    /// go out as before, since handlers may need them; afterwards they fail with
    /// [`Closed`](crate::CallErrorKind::Closed). Gives the number of requests that were not
    /// answered in time, whose clients are told that they may have been executed.
    ///
    /// Draining goes on if the future is dropped; again, or with [`Endpoint::close`], it may get
    /// less time, never more.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn on_sigterm(server: homa_transport::Endpoint) {
    /// let unanswered = server.drain(Duration::from_secs(30)).await;
    /// # }
    /// ```
    pub fn drain(&self, within: Duration) -> Pending<impl Operation<Output = usize> + use<>> {
        Pending::new(Closing::begin(&self.handle, within), Closing::poll)
    }

    /// Drains within [`EndpointBuilder::linger`].
    pub fn close(&self) -> Pending<impl Operation<Output = usize> + use<>> {
        self.drain(self.handle.facts.linger)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{RefUnwindSafe, UnwindSafe};

    use super::*;

    #[test]
    fn endpoints_and_what_they_hand_out_go_through_catch_unwind_and_between_threads() {
        fn check<T: RefUnwindSafe + UnwindSafe + Send + Sync + 'static>() {}
        check::<Endpoint>();
        check::<Call>();
        check::<CallSet>();
        check::<Request>();
        check::<RequestStream>();
        check::<crate::Responder>();
        check::<crate::BodyReader>();
        check::<crate::BodyWriter>();
    }
}
