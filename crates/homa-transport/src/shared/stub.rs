//! Signatures of the shared core.
#![allow(unused, dead_code, missing_docs, unreachable_pub)]
use std::net::SocketAddr;
use std::task::{Poll, Waker};
use std::time::Instant;

use bytes::Bytes;

use crate::*;

#[derive(Clone, Copy, Debug)]
pub(crate) enum CallMode {
    Whole,
    StreamResponse,
    StreamRequest { request_bytes: u32 },
}
#[derive(Clone, Copy, Debug)]
pub(crate) enum ServingMode {
    Whole,
    Streaming,
}

#[derive(Clone, Debug)]
pub(crate) struct Handle;
impl Handle {
    pub(crate) fn bind(
        b: EndpointBuilder,
        a: &[SocketAddr],
        serve: bool,
    ) -> Result<Self, BindError> {
        Ok(Self)
    }
    pub(crate) fn local_addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }
    pub(crate) fn stats(&self) -> Stats {
        Stats::default()
    }
    pub(crate) fn set_peer(&self, p: SocketAddr, s: PeerSettings) -> bool {
        false
    }
    pub(crate) fn start(
        &self,
        server: SocketAddr,
        body: Body,
        o: CallOptions,
        m: CallMode,
    ) -> PendingCall {
        PendingCall
    }
    pub(crate) fn try_start(
        &self,
        server: SocketAddr,
        body: Body,
        o: CallOptions,
        m: CallMode,
    ) -> Result<PendingCall, CallError> {
        Ok(PendingCall)
    }
    pub(crate) fn acceptor(&self, m: ServingMode) -> Result<Acceptor, AcceptError> {
        Ok(Acceptor)
    }
    pub(crate) fn close(&self) -> Closing {
        Closing
    }
    pub(crate) fn flush(&self) {}
    pub(crate) fn wait<T>(&self, mut p: impl FnMut(&Waker) -> Poll<T>) -> T {
        loop {
            if let Poll::Ready(t) = p(Waker::noop()) {
                return t;
            }
        }
    }
    pub(crate) fn wait_until<T>(
        &self,
        u: Instant,
        mut p: impl FnMut(&Waker) -> Poll<T>,
    ) -> Option<T> {
        None
    }
    pub(crate) fn look<T>(&self, mut p: impl FnMut(&Waker) -> Poll<T>) -> Option<T> {
        None
    }
}
#[derive(Debug)]
pub(crate) struct PendingCall;
impl PendingCall {
    pub(crate) fn server(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }
    pub(crate) fn poll_started(&mut self, w: &Waker) -> Poll<Result<(), CallError>> {
        Poll::Ready(Err(CallError::Closed))
    }
    pub(crate) fn poll_message(&mut self, w: &Waker) -> Poll<Result<Message, CallError>> {
        Poll::Ready(Err(CallError::Closed))
    }
    pub(crate) fn poll_stream(&mut self, w: &Waker) -> Poll<Result<Incoming, CallError>> {
        Poll::Ready(Err(CallError::Closed))
    }
    pub(crate) fn poll_body_sender(&mut self, w: &Waker) -> Poll<Result<Outgoing, CallError>> {
        Poll::Ready(Err(CallError::Closed))
    }
}
#[derive(Debug)]
pub(crate) struct Acceptor;
impl Acceptor {
    pub(crate) fn poll(&mut self, w: &Waker) -> Poll<Result<Option<Accepted>, AcceptError>> {
        Poll::Ready(Ok(None))
    }
}
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) body: Message,
    pub(crate) answer: Answer,
}
impl Accepted {
    pub(crate) fn into_stream(self) -> (Incoming, Answer) {
        (Incoming, self.answer)
    }
}
#[derive(Debug)]
pub(crate) struct Answer;
impl Answer {
    pub(crate) fn peer(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }
    pub(crate) fn is_cancelled(&self) -> bool {
        true
    }
    pub(crate) fn poll_cancelled(&mut self, w: &Waker) -> Poll<()> {
        Poll::Ready(())
    }
    pub(crate) fn poll_reply(
        &mut self,
        w: &Waker,
        b: &mut Option<Body>,
    ) -> Poll<Result<(), ReplyError>> {
        Poll::Ready(Err(ReplyError::Closed))
    }
    pub(crate) fn reply_streaming(self, n: u32) -> Result<Outgoing, ReplyError> {
        Err(ReplyError::Closed)
    }
}
#[derive(Debug)]
pub(crate) struct Incoming;
impl Incoming {
    pub(crate) fn peer(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }
    pub(crate) fn length_bytes(&self) -> u32 {
        0
    }
    pub(crate) fn poll_chunk(&mut self, w: &Waker) -> Poll<Result<Option<Bytes>, StreamError>> {
        Poll::Ready(Ok(None))
    }
    pub(crate) fn poll_rest(&mut self, w: &Waker) -> Poll<Result<Message, StreamError>> {
        Poll::Ready(Ok(Message::new()))
    }
}
#[derive(Debug)]
pub(crate) struct Outgoing;
impl Outgoing {
    pub(crate) fn peer(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }
    pub(crate) fn missing_bytes(&self) -> u32 {
        0
    }
    pub(crate) fn poll_send(
        &mut self,
        w: &Waker,
        b: &mut Option<Bytes>,
    ) -> Poll<Result<(), StreamError>> {
        Poll::Ready(Ok(()))
    }
    pub(crate) fn finish(self) -> Result<(), StreamError> {
        Ok(())
    }
}
#[derive(Debug)]
pub(crate) struct Closing;
impl Closing {
    pub(crate) fn poll(&mut self, w: &Waker) -> Poll<()> {
        Poll::Ready(())
    }
}
#[derive(Debug)]
pub(crate) struct Completions;
impl Completions {
    pub(crate) fn new(h: Handle) -> Self {
        Self
    }
    pub(crate) fn start(&mut self, s: SocketAddr, b: Body, o: CallOptions) -> CompletionStart {
        CompletionStart
    }
    pub(crate) fn len(&self) -> usize {
        0
    }
    pub(crate) fn abort(&mut self, id: u64) -> bool {
        false
    }
    pub(crate) fn poll_next(
        &mut self,
        w: &Waker,
    ) -> Poll<Option<(u64, Result<Message, CallError>)>> {
        Poll::Ready(None)
    }
}
pub(crate) struct CompletionStart;
impl CompletionStart {
    pub(crate) fn poll(&mut self, w: &Waker) -> Poll<Result<u64, CallError>> {
        Poll::Ready(Err(CallError::Closed))
    }
}
