//! Accepted requests.

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::shared::{Accepted, Incoming, Replier};
use crate::{Body, BodySender, Message, ReplyError, StreamError};

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

    /// Whether the client gave the call up or is gone, so that a response would be lost.
    pub fn is_cancelled(&self) -> bool {
        self.responder.is_cancelled()
    }

    /// Waits until the client gives the call up. Cancel-safe.
    pub async fn cancelled(&mut self) {
        self.responder.cancelled().await;
    }

    /// As [`Responder::reply`].
    ///
    /// # Errors
    /// See [`ReplyError`].
    pub async fn reply(self, body: impl Into<Body>) -> Result<(), ReplyError> {
        self.responder.reply(body).await
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

    /// Whether the client gave the call up or is gone, so that a response would be lost.
    pub fn is_cancelled(&self) -> bool {
        self.replier.is_cancelled()
    }

    /// Waits until the client gives the call up. Cancel-safe.
    pub async fn cancelled(&mut self) {
        poll_fn(|context| self.replier.poll_cancelled(context.waker())).await;
    }

    /// Sends the response; waits only if its client has too many others to take
    /// ([`crate::EndpointBuilder::outstanding_bytes_max`]). Returns when the response is accepted
    /// for sending, not when the client has it.
    ///
    /// If the future is dropped while it waits, the request is rejected.
    ///
    /// # Errors
    /// See [`ReplyError`].
    pub async fn reply(mut self, body: impl Into<Body>) -> Result<(), ReplyError> {
        let mut body = Some(body.into());
        poll_fn(|context| self.replier.poll_reply(context.waker(), &mut body)).await
    }

    /// Announces a response of `response_bytes` whose bytes are supplied piece by piece.
    ///
    /// # Errors
    /// See [`ReplyError`].
    pub fn reply_streaming(self, response_bytes: u32) -> Result<BodySender, ReplyError> {
        Ok(BodySender::new(self.replier.reply_streaming(response_bytes)?))
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

    /// The next bytes of the body, as soon as there are some; `None` after the last.
    ///
    /// Cancel-safe: no byte is lost if the future is dropped.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        poll_fn(|context| self.incoming.poll_chunk(context.waker())).await
    }

    /// Waits for the rest of the body and makes an ordinary request of it. Dropping the future
    /// rejects the request.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn collect(mut self) -> Result<Request, StreamError> {
        let body = poll_fn(|context| self.incoming.poll_rest(context.waker())).await?;
        Ok(Request { body, responder: self.responder })
    }

    /// Answers; allowed before the body was read, whose rest is then discarded as it comes. See
    /// [`Responder::reply`].
    ///
    /// # Errors
    /// See [`ReplyError`].
    pub async fn reply(self, body: impl Into<Body>) -> Result<(), ReplyError> {
        drop(self.incoming);
        self.responder.reply(body).await
    }

    /// Splits it into what reads the body and what answers: `chunk` on the first and `reply` on
    /// the second can go on at the same time.
    pub fn into_responder(self) -> Responder {
        drop(self.incoming);
        self.responder
    }
}
