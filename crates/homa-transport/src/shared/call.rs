//! A call from its user's side.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Poll, Waker};

use homa_core::{Instant, RequestOptions};
use homa_io::{Body, Message};

use super::completions::Queue;
use super::handle::Handle;
use super::ops::Operation;
use super::room::{Charge, Full, Place};
use super::rpc::{Role, Rpc, RpcState, store_waker};
use super::stream::{IncomingStream, OutgoingStream};
use crate::drive::seat::NEVER_NS;
use crate::{CallError, Limit};

/// What of a call is read or supplied piece by piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallMode {
    Whole,
    StreamResponse,
    StreamRequest { request_bytes: u32 },
}

/// How a call is brought to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    Now,
    /// With others, at the next flush.
    Later,
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
    Waiting(Box<Order>, Option<Place>),
    Sent(Arc<Rpc>),
    Failed(CallError),
    Over,
}

/// A call that has not begun.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) body: Body,
    pub(crate) mode: CallMode,
    pub(crate) sending: Sending,
    pub(crate) deadline_ns: u64,
    pub(crate) priority_hint: Option<u8>,
    pub(crate) queue: Option<(Arc<Queue>, u64)>,
}

impl Order {
    fn length_bytes(&self) -> u64 {
        match self.mode {
            CallMode::StreamRequest { request_bytes } => u64::from(request_bytes),
            _ => self.body.len() as u64,
        }
    }

    /// Streamed bodies are not held as a whole, so they take little room.
    fn charge_bytes(&self) -> u64 {
        match self.mode {
            CallMode::StreamRequest { .. } => 0,
            _ => self.body.len() as u64,
        }
    }
}

impl PendingCall {
    /// Begins the call if there is room; otherwise polling begins it.
    pub(crate) fn start(handle: Handle, server: SocketAddr, order: Order) -> Self {
        let server = SocketAddr::new(server.ip().to_canonical(), server.port());
        let stage = match check(&handle, server, &order) {
            Err(error) => Stage::Failed(error),
            Ok(()) => match handle.calls().try_enter(server, order.charge_bytes()) {
                Ok(charge) => Stage::Sent(begin(&handle, server, order, charge)),
                Err(_) => Stage::Waiting(Box::new(order), None),
            },
        };
        Self { handle, server, stage }
    }

    /// The error known already, or the limit it waits for.
    pub(crate) fn without_waiting(mut self) -> Result<Self, CallError> {
        let server = self.server;
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Failed(error) => Err(error),
            Stage::Waiting(order, _) => {
                let entered = self.handle.calls().try_enter(server, order.charge_bytes());
                match entered {
                    Ok(charge) => {
                        self.stage = Stage::Sent(begin(&self.handle, server, *order, charge));
                    }
                    Err(full) => return Err(limit_reached(server, full)),
                }
                Ok(self)
            }
            stage => {
                self.stage = stage;
                Ok(self)
            }
        }
    }

    pub(crate) fn server(&self) -> SocketAddr {
        self.server
    }

    /// Ready when it is under way.
    pub(crate) fn poll_started(&mut self, waker: &Waker) -> Poll<Result<(), CallError>> {
        if self.handle.is_forked() {
            return Poll::Ready(Err(CallError::Forked));
        }
        let charge = match &mut self.stage {
            Stage::Failed(error) => return Poll::Ready(Err(error.clone())),
            Stage::Sent(_) | Stage::Over => return Poll::Ready(Ok(())),
            Stage::Waiting(order, place) => {
                if let Err(error) = self.handle.check_open() {
                    return Poll::Ready(Err(error));
                }
                if self.handle.is_past(order.deadline_ns) {
                    return Poll::Ready(Err(CallError::DeadlineExceeded {
                        server: self.server,
                        sent: false,
                    }));
                }
                let (calls, bytes) = (self.handle.calls(), order.charge_bytes());
                let is_new = place.is_none();
                let entered =
                    calls.enter_or_wait(self.server, bytes, place, waker, order.deadline_ns);
                let Ok(charge) = entered else {
                    if is_new && order.deadline_ns != NEVER_NS {
                        self.handle.renew_deadline();
                    }
                    self.handle.drive_by_task();
                    return Poll::Pending;
                };
                charge
            }
        };
        if let Stage::Waiting(order, _) = std::mem::replace(&mut self.stage, Stage::Over) {
            self.stage = Stage::Sent(begin(&self.handle, self.server, *order, charge));
        }
        Poll::Ready(Ok(()))
    }

    /// Ready with the whole answer. Not to be polled again then.
    pub(crate) fn poll_message(&mut self, waker: &Waker) -> Poll<Result<Message, CallError>> {
        let ready = std::task::ready!(self.poll_rpc(waker, |state| state.incoming.take_whole()));
        Poll::Ready(ready.map(|(_, message)| message))
    }

    /// Ready with the beginning of the answer.
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
        let length_bytes = match &self.stage {
            Stage::Waiting(order, _) => order.length_bytes(),
            Stage::Sent(rpc) => u64::from(rpc.lock().outgoing.length_bytes),
            Stage::Failed(_) | Stage::Over => 0,
        };
        if let Err(error) = std::task::ready!(self.poll_started(waker)) {
            return Poll::Ready(Err(error));
        }
        let Stage::Sent(rpc) = &self.stage else { return Poll::Ready(Err(CallError::Closed)) };
        // The length was checked against `max_message_bytes`.
        let length_bytes = u32::try_from(length_bytes).unwrap_or(u32::MAX);
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
            (None, Some(error)) => Err(error.clone()),
            (None, None) => {
                store_waker(&mut state.reader, waker);
                drop(state);
                self.handle.drive_by_task();
                return Poll::Pending;
            }
        };
        drop(state);
        let rpc = Arc::clone(rpc);
        self.stage = Stage::Over;
        Poll::Ready(found.map(|found| (rpc, found)))
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        if self.handle.is_forked() {
            return;
        }
        match &self.stage {
            Stage::Waiting(_, Some(place)) => self.handle.calls().withdraw(*place),
            Stage::Sent(rpc) if !rpc.has_failed() => {
                self.handle.submit(Operation::Abort(Arc::clone(rpc)));
            }
            _ => {}
        }
    }
}

fn check(handle: &Handle, server: SocketAddr, order: &Order) -> Result<(), CallError> {
    handle.check_open()?;
    let max_bytes = handle.max_message_bytes();
    let length_bytes = order.length_bytes();
    let ip = server.ip();
    let is_wrong_family = matches!((handle.local_addr().ip(), ip), (IpAddr::V4(_), IpAddr::V6(_)));
    if server.port() == 0 || ip.is_unspecified() || ip.is_multicast() || is_wrong_family {
        Err(CallError::BadAddress { server })
    } else if length_bytes == 0 {
        Err(CallError::EmptyMessage { server })
    } else if length_bytes > u64::from(max_bytes) {
        Err(CallError::TooLong { server, max_bytes: Some(max_bytes) })
    } else if handle.is_past(order.deadline_ns) {
        Err(CallError::DeadlineExceeded { server, sent: false })
    } else {
        Ok(())
    }
}

fn begin(handle: &Handle, server: SocketAddr, order: Order, charge: Charge) -> Arc<Rpc> {
    let streaming = order.mode == CallMode::StreamResponse;
    let mut state = RpcState { charge: Some(charge), queue: order.queue, ..RpcState::default() };
    state.incoming.streaming = streaming;
    if let CallMode::StreamRequest { request_bytes } = order.mode {
        state.outgoing.length_bytes = request_bytes;
    }
    let rpc = Rpc::new(server, Role::Client, state);
    let options = RequestOptions {
        deadline: (order.deadline_ns != NEVER_NS).then(|| Instant::from_nanos(order.deadline_ns)),
        streaming_body: false,
        streaming_response: streaming,
        priority_hint: order.priority_hint,
    };
    let operation = match order.mode {
        CallMode::StreamRequest { request_bytes } => {
            Operation::StartStreaming(Arc::clone(&rpc), request_bytes, options)
        }
        _ => Operation::Start(Arc::clone(&rpc), order.body, options),
    };
    match order.sending {
        Sending::Now => handle.submit(operation),
        Sending::Later => handle.submit_later(operation),
    }
    rpc
}

fn limit_reached(server: SocketAddr, full: Full) -> CallError {
    let limit = match full {
        Full::Messages(max) => Limit::OutstandingCalls(max),
        Full::Bytes(max) => Limit::OutstandingBytes(max),
    };
    CallError::LimitReached { server, limit }
}
