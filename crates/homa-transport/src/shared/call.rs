//! A call from its user's side.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Poll, Waker, ready};
use std::time::Duration;

use homa_core::{Instant, RequestOptions};
use homa_io::{Message, Metadata};

use super::alarms::Alarm;
use super::frame::Leg;
use super::handle::{Handle, HasHandle};
use super::ops::Operation;
#[cfg(feature = "tower")]
use super::permit::Permit;
use super::resolve::Resolving;
use super::room::{Charge, Full, Place};
use super::rpc::{Content, Role, Rpc, RpcState};
use super::set::{CallQueue, Member};
use super::stream::{IncomingStream, OutgoingStream};
use super::wakes::store_waker;
use crate::drive::seat::NEVER_NS;
use crate::{CallError, CallErrorKind, Limit, Target};

/// A call in one of its stages. Dropping it aborts it.
#[derive(Debug)]
pub(crate) struct PendingCall {
    handle: Handle,
    server: Target,
    options: CallOptions,
    /// The name of its pair of RPCs, if it has two.
    pair: Option<u64>,
    stage: Stage,
}

/// Options of a call.
#[derive(Debug, Default)]
pub(crate) struct CallOptions {
    pub(crate) deadline: Option<std::time::Instant>,
    pub(crate) timeout: Option<Duration>,
    /// When it fails by the endpoint's clock, once it has begun: its second RPC with the first.
    fails_at: Option<Instant>,
    pub(crate) priority_hint: Option<u8>,
    /// Room that was taken for the call before it was made.
    #[cfg(feature = "tower")]
    pub(crate) permit: Option<Box<Permit>>,
    /// The response is read while it arrives.
    streaming_response: bool,
    /// Brings the body of the call, whose response comes by the RPC that is begun.
    upload: Option<Arc<Rpc>>,
    /// The set of calls to be told about the end. With one the request is sent with others, at the
    /// next flush.
    queue: Option<(Arc<CallQueue>, u64)>,
}

impl CallOptions {
    /// Room for a request of `bytes`, if there is some.
    #[inline]
    fn take_room(&mut self, handle: &Handle, server: SocketAddr, bytes: u64) -> Option<Charge> {
        #[cfg(feature = "tower")]
        if let Some(permit) = self.permit.take() {
            return permit.into_room(bytes);
        }
        handle.rooms.calls.try_enter(server, bytes).ok()
    }
}

#[derive(Debug)]
enum Stage {
    New(Content),
    /// The server's name is looked up.
    Resolving(Box<Unresolved>),
    /// There was no room.
    Waiting(Box<Request>),
    Sent(Arc<Rpc>),
    Failed(Box<CallError>),
    Over,
}

/// A request whose server has a name.
#[derive(Debug)]
struct Unresolved {
    resolving: Resolving,
    content: Content,
    /// When the call fails, and its alarm.
    deadline: Option<Instant>,
    alarm: Option<Alarm>,
}

/// A request that waits for room.
#[derive(Debug)]
struct Request {
    rpc: Arc<Rpc>,
    content: Content,
    options: RequestOptions,
    /// Sent with others, at the next flush.
    later: bool,
    /// Place among those who wait for room.
    place: Option<Place>,
}

impl PendingCall {
    #[inline]
    pub(crate) fn new(handle: Handle, server: Target, content: Content) -> Self {
        Self {
            handle,
            server,
            options: CallOptions::default(),
            pair: None,
            stage: Stage::New(content),
        }
    }

    pub(crate) fn options(&mut self) -> &mut CallOptions {
        &mut self.options
    }

    /// Says how many bytes the body of a call that has not begun will have.
    pub(crate) fn announce(&mut self, body_bytes: u32) {
        if let Stage::New(Content::Announced(length_bytes, _)) = &mut self.stage {
            *length_bytes = Some(body_bytes);
        }
    }

    /// What is to travel beside the body of a call that has not begun.
    pub(crate) fn metadata_mut(&mut self) -> Option<&mut Metadata> {
        match &mut self.stage {
            Stage::New(content) => content.metadata_mut(),
            _ => None,
        }
    }

    /// The server's address; `None` while only its name is known.
    pub(crate) fn server(&self) -> Option<SocketAddr> {
        self.server.address()
    }

    /// The call with what it has become; `self` is over.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            handle: self.handle.clone(),
            server: self.server.clone(),
            options: std::mem::take(&mut self.options),
            pair: self.pair,
            stage: std::mem::replace(&mut self.stage, Stage::Over),
        }
    }

    /// Begins the call if there is room and the server's address is known; otherwise polling begins
    /// it.
    #[inline]
    pub(crate) fn begin(&mut self) {
        if let Stage::New(_) = self.stage {
            if let Stage::New(content) = std::mem::replace(&mut self.stage, Stage::Over) {
                let deadline = deadline(&self.handle, &mut self.options);
                self.stage = match self.server.address() {
                    Some(server) => self.begin_at(server, content, deadline),
                    None => self.resolve(content, deadline),
                };
            }
        }
    }

    fn resolve(&self, content: Content, deadline: Option<Instant>) -> Stage {
        if let Err(error) = self.handle.check_open() {
            return Stage::Failed(Box::new(error));
        }
        let resolving = Resolving::begin(&self.server);
        Stage::Resolving(Box::new(Unresolved { resolving, content, deadline, alarm: None }))
    }

    /// Begins the call at an address.
    #[inline]
    fn begin_at(
        &mut self,
        server: SocketAddr,
        content: Content,
        deadline: Option<Instant>,
    ) -> Stage {
        let (handle, options) = (&self.handle, &mut self.options);
        let request_options = RequestOptions {
            deadline,
            streaming_response: options.streaming_response,
            priority_hint: options.priority_hint,
            ..RequestOptions::default()
        };
        // What ends one RPC of a call ends the other one where both are known.
        if options.upload.is_none() {
            if let Err(kind) = check(handle, server, &content, &request_options) {
                return Stage::Failed(Box::new(kind));
            }
        }
        let charge = options.take_room(handle, server, content.held_bytes());
        let queue = options.queue.take();
        let (has_room, later) = (charge.is_some(), queue.is_some());
        let mut state = RpcState { charge, queue, ..RpcState::default() };
        state.incoming.streaming = options.streaming_response;
        if let Content::Announced(request_bytes, frame) = &content {
            state.outgoing.length_bytes = *request_bytes;
            state.is_upload = frame.leg.is_some();
        }
        let rpc = Rpc::new(server, Role::Client, state);
        if let Some(upload) = options.upload.take() {
            Rpc::pair(&upload, &rpc);
        }
        let request = Request { rpc, content, options: request_options, later, place: None };
        if has_room {
            Stage::Sent(request.submit(handle))
        } else {
            Stage::Waiting(Box::new(request))
        }
    }

    /// Begins the call; the error known already, or the limit it would wait for.
    pub(crate) fn try_begin(&mut self) -> Result<(), CallError> {
        self.begin();
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Failed(error) => return Err(*error),
            Stage::Waiting(request) => {
                let (rooms, server) = (&self.handle.rooms, request.rpc.peer);
                let charge = match rooms.calls.try_enter(server, request.content.held_bytes()) {
                    Ok(charge) => charge,
                    Err(full) => return Err(limit_reached(server, full)),
                };
                request.rpc.lock().charge = Some(charge);
                self.stage = Stage::Sent(request.submit(&self.handle));
            }
            stage => self.stage = stage,
        }
        Ok(())
    }

    /// Tells `queue` when it is over, by that number. If it has not begun it will be sent with
    /// others, at the next flush.
    pub(crate) fn announce_end(&mut self, queue: &Arc<CallQueue>, id: u64) {
        let rpc = match &self.stage {
            Stage::New(_) | Stage::Resolving(_) => {
                self.options.queue = Some((Arc::clone(queue), id));
                return;
            }
            Stage::Waiting(request) => &request.rpc,
            Stage::Sent(rpc) => rpc,
            Stage::Failed(_) | Stage::Over => return,
        };
        if let Some(waiting) = rpc.lock().set_queue((Arc::clone(queue), id)) {
            waiting.wake();
        }
    }

    /// Makes it the member `id` of a set of the endpoint `handle`, if it is of the same endpoint,
    /// has not begun, needs no state of its own and there is room for it.
    #[inline]
    pub(crate) fn take_member(&mut self, handle: &Handle, id: u64) -> Option<Member> {
        if !self.handle.is_same(handle) {
            return None;
        }
        let server = self.server.address()?;
        let Stage::New(content @ Content::Whole(_)) = &self.stage else { return None };
        if self.options.streaming_response {
            return None;
        }
        let options = RequestOptions {
            deadline: deadline(&self.handle, &mut self.options),
            priority_hint: self.options.priority_hint,
            ..RequestOptions::default()
        };
        // Who polls it is told what is wrong.
        check(&self.handle, server, content, &options).ok()?;
        let charge = self.options.take_room(&self.handle, server, content.held_bytes())?;
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::New(Content::Whole(body)) => Some(Member { id, server, body, options, charge }),
            _ => None,
        }
    }

    /// Reads the response while it arrives.
    pub(crate) fn stream_response(&mut self) {
        self.options.streaming_response = true;
    }

    /// Ready when it is under way.
    #[inline]
    pub(crate) fn poll_started(&mut self, waker: &Waker) -> Poll<Result<(), CallError>> {
        if self.handle.is_forked() {
            return Poll::Ready(Err(CallErrorKind::Forked.into()));
        }
        self.begin();
        match &self.stage {
            Stage::Sent(_) => Poll::Ready(Ok(())),
            _ => self.poll_stage(waker),
        }
    }

    #[inline(never)]
    fn poll_stage(&mut self, waker: &Waker) -> Poll<Result<(), CallError>> {
        if let Stage::Resolving(unresolved) = &mut self.stage {
            let resolved = ready!(unresolved.poll(&self.handle, waker));
            self.stage = match (resolved, std::mem::replace(&mut self.stage, Stage::Over)) {
                (Ok(address), Stage::Resolving(unresolved)) => {
                    self.server = address.into();
                    self.begin_at(address, unresolved.content, unresolved.deadline)
                }
                (Ok(_), _) => Stage::Over,
                (Err(kind), _) => Stage::Failed(Box::new(kind.into())),
            };
        }
        match &mut self.stage {
            Stage::Failed(error) => Poll::Ready(Err(CallError::clone(error))),
            Stage::Waiting(request) => {
                match ready!(request.poll_room(&self.handle, waker)) {
                    Ok(()) => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
                if let Stage::Waiting(request) = std::mem::replace(&mut self.stage, Stage::Over) {
                    self.stage = Stage::Sent(request.submit(&self.handle));
                }
                Poll::Ready(Ok(()))
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Ready with the whole response. Not to be polled again then.
    #[inline]
    pub(crate) fn poll_message(&mut self, waker: &Waker) -> Poll<Result<Message, CallError>> {
        let ready = ready!(self.poll_rpc(waker, |state| state.incoming.take_whole()));
        Poll::Ready(ready.map(|(_, message)| message))
    }

    /// Ready with the beginning of the response.
    pub(crate) fn poll_stream(&mut self, waker: &Waker) -> Poll<Result<IncomingStream, CallError>> {
        let mut switch = false;
        let polled = self.poll_rpc(waker, |state| {
            if let Some(whole) = state.incoming.take_whole() {
                return Some(Some(whole));
            }
            switch = !std::mem::replace(&mut state.incoming.streaming, true);
            state.incoming.has_begun().then_some(None)
        });
        if switch {
            if let Stage::Sent(rpc) = &self.stage {
                self.handle.submit(Operation::Stream(Arc::clone(rpc)));
            }
        }
        let found = ready!(polled);
        Poll::Ready(found.map(|(rpc, whole)| {
            if switch {
                self.handle.submit(Operation::Stream(Arc::clone(&rpc)));
            }
            IncomingStream::new(self.handle.clone(), rpc, whole)
        }))
    }

    /// Ready with what supplies the body, and the call that gets the response. A body of unknown
    /// length goes by an RPC of its own.
    pub(crate) fn poll_open(
        &mut self,
        waker: &Waker,
    ) -> Poll<Result<(OutgoingStream, Self), CallError>> {
        let pair = self.begin_pair();
        if let Err(error) = ready!(self.poll_started(waker)) {
            return Poll::Ready(Err(error));
        }
        let Stage::Sent(rpc) = &self.stage else {
            return Poll::Ready(Err(CallErrorKind::Closed.into()));
        };
        let rpc = Arc::clone(rpc);
        let length_bytes = rpc.lock().outgoing.length_bytes;
        let writer = OutgoingStream::new(self.handle.clone(), Arc::clone(&rpc), length_bytes);
        let mut call = self.take();
        if let Some(pair) = pair {
            call.stage = Stage::New(Content::Download(pair));
            call.begin_anyway(rpc);
        }
        Poll::Ready(Ok((writer, call)))
    }

    /// The name of the pair of RPCs that a body of unknown length takes.
    fn begin_pair(&mut self) -> Option<u64> {
        if let Stage::New(Content::Announced(None, frame)) = &mut self.stage {
            frame.open = true;
            self.pair = Some(self.handle.next_pair());
            frame.leg = self.pair.map(|pair| (Leg::Upload, pair));
        }
        self.pair
    }

    /// Begins the RPC that gets the response of a call whose body goes by `upload`, whether there
    /// is room or not: the call has taken its place.
    fn begin_anyway(&mut self, upload: Arc<Rpc>) {
        self.options.upload = Some(upload);
        self.begin();
        if let Stage::Waiting(_) = &self.stage {
            if let Stage::Waiting(request) = std::mem::replace(&mut self.stage, Stage::Over) {
                let charge = self.handle.rooms.calls.enter_anyway(request.rpc.peer, 0);
                request.rpc.lock().charge = Some(charge);
                self.stage = Stage::Sent(request.submit(&self.handle));
            }
        }
    }

    /// Polls a call that is under way until `look` finds what is awaited.
    #[inline]
    fn poll_rpc<T>(
        &mut self,
        waker: &Waker,
        look: impl FnOnce(&mut RpcState) -> Option<T>,
    ) -> Poll<Result<(Arc<Rpc>, T), CallError>> {
        if let Err(error) = ready!(self.poll_started(waker)) {
            return Poll::Ready(Err(error));
        }
        let Stage::Sent(rpc) = &self.stage else {
            return Poll::Ready(Err(CallErrorKind::Closed.into()));
        };
        let mut state = rpc.lock();
        let found = match (look(&mut state), &state.failed) {
            (Some(found), _) => Ok(found),
            (None, Some(error)) => Err(CallError::clone(error)),
            (None, None) => {
                store_waker(&mut state.reader, waker);
                return Poll::Pending;
            }
        };
        drop(state);
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Sent(rpc) => Poll::Ready(found.map(|found| (rpc, found))),
            // Not reached: it was sent a moment ago.
            _ => Poll::Ready(Err(CallErrorKind::Closed.into())),
        }
    }
}

impl HasHandle for PendingCall {
    #[inline]
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for PendingCall {
    #[inline]
    fn drop(&mut self) {
        match &self.stage {
            Stage::Waiting(request) => {
                if let Some(place) = request.place.filter(|_| !self.handle.is_forked()) {
                    self.handle.rooms.calls.withdraw(place);
                }
            }
            Stage::Resolving(unresolved) => {
                if let Some(alarm) = unresolved.alarm.filter(|_| !self.handle.is_forked()) {
                    self.handle.rooms.alarms.withdraw(alarm);
                }
            }
            Stage::Sent(rpc) if !self.handle.is_forked() && !rpc.has_failed() => {
                self.handle.submit(Operation::Abort(Arc::clone(rpc)));
            }
            _ => {}
        }
    }
}

impl Unresolved {
    /// Ready with the address, or when the deadline has come.
    fn poll(&mut self, handle: &Handle, waker: &Waker) -> Poll<Result<SocketAddr, CallErrorKind>> {
        let local = handle.local_addr();
        if let Poll::Ready(resolved) = self.resolving.poll(local, waker) {
            return Poll::Ready(resolved.map_err(CallErrorKind::NotResolved));
        }
        let Some(deadline) = self.deadline else { return Poll::Pending };
        if handle.is_past(deadline.as_nanos()) {
            return Poll::Ready(Err(CallErrorKind::DeadlineExceeded { sent: false }));
        }
        if handle.rooms.alarms.set(deadline.as_nanos(), &mut self.alarm, waker) {
            handle.renew_deadline();
        }
        Poll::Pending
    }
}

impl Request {
    /// Begins the call, which has taken room.
    #[inline]
    fn submit(self, handle: &Handle) -> Arc<Rpc> {
        let rpc = Arc::clone(&self.rpc);
        let operation = Operation::Start(self.rpc, self.content, self.options);
        if self.later {
            handle.submit_later(operation);
        } else {
            handle.submit(operation);
        }
        rpc
    }

    /// Ready when it has taken room.
    fn poll_room(&mut self, handle: &Handle, waker: &Waker) -> Poll<Result<(), CallError>> {
        if let Err(error) = handle.check_open() {
            return Poll::Ready(Err(error));
        }
        let server = self.rpc.peer;
        let deadline_ns = self.options.deadline.map_or(NEVER_NS, Instant::as_nanos);
        if handle.is_past(deadline_ns) {
            let kind = CallErrorKind::DeadlineExceeded { sent: false };
            return Poll::Ready(Err(CallError::new(server, kind)));
        }
        let is_new = self.place.is_none();
        let (bytes, place) = (self.content.held_bytes(), &mut self.place);
        let entered = handle.rooms.calls.enter_or_wait(server, bytes, place, waker, deadline_ns);
        let Ok(charge) = entered else {
            if is_new && deadline_ns != NEVER_NS {
                handle.renew_deadline();
            }
            return Poll::Pending;
        };
        self.rpc.lock().charge = Some(charge);
        Poll::Ready(Ok(()))
    }
}

/// The earlier one of deadline and timeout, which count from the first time that it is asked for.
#[inline]
fn deadline(handle: &Handle, options: &mut CallOptions) -> Option<Instant> {
    let deadline_ns = options.deadline.take().map(|at| handle.time_ns(at));
    let timeout_ns = options.timeout.take().map(|timeout| handle.after_ns(timeout));
    if let Some(earlier_ns) = deadline_ns.into_iter().chain(timeout_ns).min() {
        options.fails_at = (earlier_ns != NEVER_NS).then(|| Instant::from_nanos(earlier_ns));
    }
    options.fails_at
}

fn check(
    handle: &Handle,
    server: SocketAddr,
    content: &Content,
    options: &RequestOptions,
) -> Result<(), CallError> {
    handle.check_open()?;
    let max_bytes = handle.facts.max_message_bytes;
    let length_bytes = match content {
        Content::Announced(body_bytes, _) => u64::from(body_bytes.unwrap_or(0)),
        content => content.held_bytes(),
    };
    let ip = server.ip();
    let is_wrong_family = matches!((handle.local_addr().ip(), ip), (IpAddr::V4(_), IpAddr::V6(_)));
    let kind = if server.port() == 0 || ip.is_unspecified() || ip.is_multicast() || is_wrong_family
    {
        CallErrorKind::BadAddress
    } else if content.metadata().is_some_and(|metadata| !metadata.is_valid()) {
        CallErrorKind::InvalidMetadata
    } else if length_bytes > u64::from(max_bytes) {
        CallErrorKind::TooLong { max_bytes: Some(max_bytes) }
    } else if options.deadline.is_some_and(|at| handle.is_past(at.as_nanos())) {
        CallErrorKind::DeadlineExceeded { sent: false }
    } else {
        return Ok(());
    };
    Err(CallError::new(server, kind))
}

fn limit_reached(server: SocketAddr, full: Full) -> CallError {
    let limit = match full {
        Full::Messages(max) => Limit::OutstandingCalls(max),
        Full::Bytes(max) => Limit::OutstandingBytes(max),
    };
    CallError::new(server, CallErrorKind::LimitReached(limit))
}
