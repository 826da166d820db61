//! Accepted requests.

use std::net::SocketAddr;
use std::task::{Poll, Waker};

use bytes::Bytes;

use super::BodySender;
use crate::shared::{Accepted, Incoming, Replier};
use crate::{Body, Message, ReplyError, StreamError};

/// A complete request. Answer it with [`Request::reply`]; dropping it unanswered rejects it (the
/// client's call fails with [`crate::CallError::Rejected`]).
#[derive(Debug)]
#[must_use = "dropping a request rejects it"]
pub struct Request {
    body: Message,
    responder: Responder,
}

impl Request {
    pub(crate) fn new(accepted: Accepted) -> Self {
        Self { body: accepted.body, responder: Responder { replier: accepted.replier } }
    }

    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.responder.peer()
    }

    /// The request's bytes.
    pub fn body(&self) -> &Message {
        &self.body
    }

    /// Takes the bytes out; the body is empty from then on.
    pub fn take_body(&mut self) -> Message {
        std::mem::take(&mut self.body)
    }

    /// The body, and the responder.
    pub fn into_parts(self) -> (Message, Responder) {
        (self.body, self.responder)
    }

    /// Whether the client gave the call up or is gone, so that a response would be lost. Known only
    /// as far as packets were looked at; while all threads work, the guard thread does that.
    pub fn is_cancelled(&self) -> bool {
        self.responder.is_cancelled()
    }

    /// As [`Responder::reply`].
    ///
    /// # Errors
    /// See [`ReplyError`].
    pub fn reply(self, body: impl Into<Body>) -> Result<(), ReplyError> {
        self.responder.reply(body)
    }

    /// As [`Responder::reply_streaming`].
    ///
    /// # Errors
    /// See [`ReplyError`].
    pub fn reply_streaming(self, response_bytes: u32) -> Result<BodySender, ReplyError> {
        self.responder.reply_streaming(response_bytes)
    }
}

/// Answers one request. Dropping it unused rejects the request.
#[derive(Debug)]
#[must_use = "dropping a responder rejects the request"]
pub struct Responder {
    replier: Replier,
}

impl Responder {
    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.replier.peer()
    }

    /// Whether the client gave the call up or is gone.
    pub fn is_cancelled(&self) -> bool {
        self.replier.is_cancelled()
    }

    /// Sends the response; waits only if its client has too many others to take
    /// ([`crate::EndpointBuilder::outstanding_bytes_max`]). Returns when the response is accepted
    /// for sending, not when the client has it.
    ///
    /// # Errors
    /// See [`ReplyError`].
    pub fn reply(mut self, body: impl Into<Body>) -> Result<(), ReplyError> {
        let mut body = Some(body.into());
        // There nearly always is room.
        if let Poll::Ready(done) = self.replier.poll_reply(Waker::noop(), &mut body) {
            return done;
        }
        let handle = self.replier.handle().clone();
        handle.wait(|waker| self.replier.poll_reply(waker, &mut body))
    }

    /// Announces a response of `response_bytes` whose bytes are supplied piece by piece.
    ///
    /// # Errors
    /// See [`ReplyError`].
    pub fn reply_streaming(self, response_bytes: u32) -> Result<BodySender, ReplyError> {
        let handle = self.replier.handle().clone();
        Ok(BodySender::new(handle, self.replier.reply_streaming(response_bytes)?))
    }
}

/// A request whose body may still be arriving.
#[derive(Debug)]
#[must_use = "dropping a request rejects it"]
pub struct RequestStream {
    incoming: Incoming,
    responder: Responder,
}

impl RequestStream {
    pub(crate) fn new(accepted: Accepted) -> Self {
        let (incoming, replier) = accepted.into_stream();
        Self { incoming, responder: Responder { replier } }
    }

    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.responder.peer()
    }

    /// Bytes of the whole body.
    pub fn body_bytes(&self) -> u32 {
        self.incoming.length_bytes()
    }

    /// Whether the client gave the call up or is gone.
    pub fn is_cancelled(&self) -> bool {
        self.responder.is_cancelled()
    }

    /// Waits for the next bytes of the body; `None` after the last.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub fn chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        self.incoming.handle().clone().wait(|waker| self.incoming.poll_chunk(waker))
    }

    /// Waits for the rest of the body and makes an ordinary request of it.
    ///
    /// # Errors
    /// See [`StreamError`]; the request is rejected then.
    pub fn collect(mut self) -> Result<Request, StreamError> {
        let body = self.incoming.handle().clone().wait(|waker| self.incoming.poll_rest(waker))?;
        Ok(Request { body, responder: self.responder })
    }

    /// Answers; allowed before the body was read, whose rest is then discarded as it comes. See
    /// [`Responder::reply`].
    ///
    /// # Errors
    /// See [`ReplyError`].
    pub fn reply(self, body: impl Into<Body>) -> Result<(), ReplyError> {
        drop(self.incoming);
        self.responder.reply(body)
    }

    /// The responder; the rest of the body is discarded as it comes.
    pub fn into_responder(self) -> Responder {
        drop(self.incoming);
        self.responder
    }
}
