//! A call from its user's side.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Poll, Waker};

use homa_core::{Instant, RequestOptions};
use homa_io::{Body, Message};

use super::handle::Handle;
use super::ops::Operation;
use super::ready::ReadyQueue;
use super::room::{Full, Place};
use super::rpc::{Content, Role, Rpc, RpcState};
use super::stream::{IncomingStream, OutgoingStream};
use super::wakes::store_waker;
use crate::drive::seat::NEVER_NS;
use crate::{CallError, CallOptions, Limit};

/// Request of a call, and which parts are read or supplied piece by piece.
#[derive(Debug)]
pub(crate) enum CallMode {
    Whole(Body),
    StreamResponse(Body),
    StreamRequest { request_bytes: u32 },
}

/// A call: waiting for room, under way, or failed. Dropping it aborts it.
#[derive(Debug)]
pub(crate) struct PendingCall {
    handle: Handle,
    server: SocketAddr,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Waiting(Box<Request>),
    Sent(Arc<Rpc>),
    Failed(Box<CallError>),
    Over,
}

/// A call that has not begun.
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
    /// Begins the call if there is room; otherwise polling begins it. With a queue it is sent with
    /// others, at the next flush, and the queue is told its number when it is over.
    pub(crate) fn start(
        handle: &Handle,
        server: SocketAddr,
        mode: CallMode,
        options: CallOptions,
        queue: Option<(Arc<ReadyQueue>, u64)>,
    ) -> Self {
        let server = SocketAddr::new(server.ip().to_canonical(), server.port());
        let (content, streaming_response) = match mode {
            CallMode::Whole(body) => (Content::Whole(body), false),
            CallMode::StreamResponse(body) => (Content::Whole(body), true),
            CallMode::StreamRequest { request_bytes } => (Content::Announced(request_bytes), false),
        };
        let options = RequestOptions {
            deadline: deadline(handle, &options),
            streaming_body: false,
            streaming_response,
            priority_hint: options.priority_hint,
            framed: false,
            open: false,
        };
        let stage = match check(handle, server, &content, &options) {
            Err(error) => Stage::Failed(Box::new(error)),
            Ok(()) => {
                let charge = handle.rooms.calls.try_enter(server, content.held_bytes()).ok();
                let (has_room, later) = (charge.is_some(), queue.is_some());
                let mut state = RpcState { charge, queue, ..RpcState::default() };
                state.incoming.streaming = streaming_response;
                if let Content::Announced(request_bytes) = content {
                    state.outgoing.length_bytes = request_bytes;
                }
                let rpc = Rpc::new(server, Role::Client, state);
                let request = Request { rpc, content, options, later, place: None };
                if has_room {
                    Stage::Sent(request.submit(handle))
                } else {
                    Stage::Waiting(Box::new(request))
                }
            }
        };
        Self { handle: handle.clone(), server, stage }
    }

    /// The error known already, or the limit it waits for.
    pub(crate) fn without_waiting(mut self) -> Result<Self, CallError> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Failed(error) => return Err(*error),
            Stage::Waiting(request) => {
                let entered =
                    self.handle.rooms.calls.try_enter(self.server, request.content.held_bytes());
                let charge = entered.map_err(|full| limit_reached(self.server, full))?;
                request.rpc.lock().charge = Some(charge);
                self.stage = Stage::Sent(request.submit(&self.handle));
            }
            stage => self.stage = stage,
        }
        Ok(self)
    }

    pub(crate) fn server(&self) -> SocketAddr {
        self.server
    }

    /// Ready when it is under way.
    pub(crate) fn poll_started(&mut self, waker: &Waker) -> Poll<Result<(), CallError>> {
        if self.handle.is_forked() {
            return Poll::Ready(Err(CallError::Forked));
        }
        match &mut self.stage {
            Stage::Failed(error) => return Poll::Ready(Err(CallError::clone(error))),
            Stage::Sent(_) | Stage::Over => return Poll::Ready(Ok(())),
            Stage::Waiting(request) => {
                if let Err(error) = self.handle.check_open() {
                    return Poll::Ready(Err(error));
                }
                let deadline_ns = request.options.deadline.map_or(NEVER_NS, Instant::as_nanos);
                if self.handle.is_past(deadline_ns) {
                    return Poll::Ready(Err(CallError::DeadlineExceeded {
                        server: self.server,
                        sent: false,
                    }));
                }
                let (calls, bytes) = (&self.handle.rooms.calls, request.content.held_bytes());
                let place = &mut request.place;
                let is_new = place.is_none();
                let entered = calls.enter_or_wait(self.server, bytes, place, waker, deadline_ns);
                let Ok(charge) = entered else {
                    if is_new && deadline_ns != NEVER_NS {
                        self.handle.renew_deadline();
                    }
                    self.handle.drive_by_task();
                    return Poll::Pending;
                };
                request.rpc.lock().charge = Some(charge);
            }
        }
        if let Stage::Waiting(request) = std::mem::replace(&mut self.stage, Stage::Over) {
            self.stage = Stage::Sent(request.submit(&self.handle));
        }
        Poll::Ready(Ok(()))
    }

    /// Ready with the whole response. Not to be polled again then.
    pub(crate) fn poll_message(&mut self, waker: &Waker) -> Poll<Result<Message, CallError>> {
        let ready = std::task::ready!(self.poll_rpc(waker, |state| state.incoming.take_whole()));
        Poll::Ready(ready.map(|(_, message)| message))
    }

    /// Ready with the beginning of the response.
    pub(crate) fn poll_stream(&mut self, waker: &Waker) -> Poll<Result<IncomingStream, CallError>> {
        let mut switch = false;
        let polled = self.poll_rpc(waker, |state| {
            if let Some(whole) = state.incoming.take_whole() {
                return Some(whole);
            }
            switch = !std::mem::replace(&mut state.incoming.streaming, true);
            state.incoming.length_bytes.map(|_| Message::new())
        });
        if switch {
            if let Stage::Sent(rpc) = &self.stage {
                self.handle.submit(Operation::Stream(Arc::clone(rpc)));
            }
        }
        let found = std::task::ready!(polled);
        Poll::Ready(found.map(|(rpc, ready)| {
            if switch {
                self.handle.submit(Operation::Stream(Arc::clone(&rpc)));
            }
            IncomingStream::new(self.handle.clone(), rpc, ready)
        }))
    }

    /// Ready with what supplies the body.
    pub(crate) fn poll_body_sender(
        &mut self,
        waker: &Waker,
    ) -> Poll<Result<OutgoingStream, CallError>> {
        if let Err(error) = std::task::ready!(self.poll_started(waker)) {
            return Poll::Ready(Err(error));
        }
        let Stage::Sent(rpc) = &self.stage else { return Poll::Ready(Err(CallError::Closed)) };
        let length_bytes = rpc.lock().outgoing.length_bytes;
        let rpc = Arc::clone(rpc);
        Poll::Ready(Ok(OutgoingStream::new(self.handle.clone(), rpc, length_bytes)))
    }

    /// Polls a call that is under way until `look` finds what is awaited.
    fn poll_rpc<T>(
        &mut self,
        waker: &Waker,
        look: impl FnOnce(&mut RpcState) -> Option<T>,
    ) -> Poll<Result<(Arc<Rpc>, T), CallError>> {
        if let Err(error) = std::task::ready!(self.poll_started(waker)) {
            return Poll::Ready(Err(error));
        }
        let Stage::Sent(rpc) = &self.stage else { return Poll::Ready(Err(CallError::Closed)) };
        let mut state = rpc.lock();
        let found = match (look(&mut state), &state.failed) {
            (Some(found), _) => Ok(found),
            (None, Some(error)) => Err(CallError::clone(error)),
            (None, None) => {
                store_waker(&mut state.reader, waker);
                drop(state);
                self.handle.drive_by_task();
                return Poll::Pending;
            }
        };
        drop(state);
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Sent(rpc) => Poll::Ready(found.map(|found| (rpc, found))),
            // Not reached: it was sent a moment ago.
            _ => Poll::Ready(Err(CallError::Closed)),
        }
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        if self.handle.is_forked() {
            return;
        }
        match &self.stage {
            Stage::Waiting(request) => {
                if let Some(place) = request.place {
                    self.handle.rooms.calls.withdraw(place);
                }
            }
            Stage::Sent(rpc) if !rpc.has_failed() => {
                self.handle.submit(Operation::Abort(Arc::clone(rpc)));
            }
            _ => {}
        }
    }
}

impl Request {
    /// Begins the call, which has taken room.
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
}

/// The earlier one of deadline and timeout.
fn deadline(handle: &Handle, options: &CallOptions) -> Option<Instant> {
    let deadline_ns = options.deadline.map(|at| handle.time_ns(at));
    let timeout_ns = options.timeout.map(|timeout| handle.after_ns(timeout));
    let earlier_ns = deadline_ns.into_iter().chain(timeout_ns).min()?;
    (earlier_ns != NEVER_NS).then(|| Instant::from_nanos(earlier_ns))
}

fn check(
    handle: &Handle,
    server: SocketAddr,
    content: &Content,
    options: &RequestOptions,
) -> Result<(), CallError> {
    handle.check_open()?;
    let max_bytes = handle.facts.max_message_bytes;
    let length_bytes = content.length_bytes();
    let ip = server.ip();
    let is_wrong_family = matches!((handle.local_addr().ip(), ip), (IpAddr::V4(_), IpAddr::V6(_)));
    if server.port() == 0 || ip.is_unspecified() || ip.is_multicast() || is_wrong_family {
        Err(CallError::BadAddress { server })
    } else if length_bytes == 0 {
        Err(CallError::EmptyMessage { server })
    } else if length_bytes > u64::from(max_bytes) {
        Err(CallError::TooLong { server, max_bytes: Some(max_bytes) })
    } else if options.deadline.is_some_and(|at| handle.is_past(at.as_nanos())) {
        Err(CallError::DeadlineExceeded { server, sent: false })
    } else {
        Ok(())
    }
}

fn limit_reached(server: SocketAddr, full: Full) -> CallError {
    let limit = match full {
        Full::Messages(max) => Limit::OutstandingCalls(max),
        Full::Bytes(max) => Limit::OutstandingBytes(max),
    };
    CallError::LimitReached { server, limit }
}
