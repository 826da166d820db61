//! Accepted requests.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::pending::{Operation, Pending};
use crate::shared::{Accepted, HasHandle, Replier};
use crate::{Body, BodyReader, BodyWriter, Message, Metadata, Rejection, ReplyError, StreamError};

/// A complete request. Answer it with [`Request::reply`]; dropping it unanswered tells the client
/// so ([`Dropped`](crate::CallErrorKind::Dropped)).
#[derive(Debug)]
#[must_use = "dropping a request rejects it"]
pub struct Request {
    body: Message,
    responder: Responder,
}

impl Request {
    #[inline]
    pub(crate) fn new(accepted: Accepted) -> Self {
        Self { body: accepted.body, responder: Responder { replier: accepted.replier } }
    }

    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.responder.peer()
    }

    /// What travels beside the body.
    pub fn metadata(&self) -> &Metadata {
        self.body.metadata()
    }

    /// As [`Responder::deadline`].
    pub fn deadline(&self) -> Option<Instant> {
        self.responder.deadline()
    }

    /// The request's bytes.
    pub fn body(&self) -> &Message {
        &self.body
    }

    /// Takes the body out with its metadata; both are empty from then on.
    pub fn take_body(&mut self) -> Message {
        std::mem::take(&mut self.body)
    }

    /// The body, and the responder.
    pub fn into_parts(self) -> (Message, Responder) {
        (self.body, self.responder)
    }

    /// As [`Responder::is_cancelled`].
    pub fn is_cancelled(&self) -> bool {
        self.responder.is_cancelled()
    }

    /// As [`Responder::cancelled`].
    pub fn cancelled(&mut self) -> Pending<impl Operation<Output = ()>> {
        self.responder.cancelled()
    }

    /// As [`Responder::reply`].
    ///
    /// # Errors
    /// See [`ReplyError`].
    #[inline]
    pub fn reply(
        self,
        body: impl Into<Body>,
    ) -> Pending<impl Operation<Output = Result<(), ReplyError>>> {
        reply(self.responder.replier, body.into())
    }

    /// As [`Responder::refuse`].
    pub fn refuse(self) {
        self.responder.refuse();
    }

    /// As [`Responder::reject`].
    pub fn reject(self, code: u32, text: impl Into<String>) {
        self.responder.reject(code, text);
    }

    /// As [`Responder::reply_streaming`].
    ///
    /// # Errors
    /// See [`ReplyError`].
    pub fn reply_streaming(
        self,
        body_bytes: impl Into<Option<u32>>,
    ) -> Result<BodyWriter, ReplyError> {
        self.responder.reply_streaming(body_bytes)
    }
}

/// Answers one request. Dropping it unused tells the client so.
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

    /// When the client gives the call up, if it said so: work that takes longer is in vain, and
    /// calls made for it should have this deadline.
    pub fn deadline(&self) -> Option<Instant> {
        let handle = self.replier.handle();
        let left_ns = self.replier.deadline_ns()?.saturating_sub(handle.now_ns());
        Instant::now().checked_add(Duration::from_nanos(left_ns))
    }

    /// Whether the client gave the call up or is gone, so that a response would be lost. Known only
    /// as far as packets were looked at; while all threads work, a thread of the endpoint does it.
    pub fn is_cancelled(&self) -> bool {
        self.replier.is_cancelled()
    }

    /// Waits until the client gives the call up. Cancel-safe.
    pub fn cancelled(&mut self) -> Pending<impl Operation<Output = ()>> {
        Pending::new(&mut self.replier, |replier: &mut &mut Replier, waker| {
            replier.poll_cancelled(waker)
        })
    }

    /// Sends the response; waits only if its client has too many others to take
    /// ([`crate::EndpointBuilder::outstanding_bytes_max`]). Ready when the response is accepted for
    /// sending, not when the client has it.
    ///
    /// If the future is dropped while it waits, the client is told that the request was dropped.
    ///
    /// # Errors
    /// See [`ReplyError`].
    #[inline]
    pub fn reply(
        self,
        body: impl Into<Body>,
    ) -> Pending<impl Operation<Output = Result<(), ReplyError>>> {
        reply(self.replier, body.into())
    }

    /// Answers that nothing of the request was executed, for want of capacity: the call fails with
    /// [`Overloaded`](crate::CallErrorKind::Overloaded), and its client may call again or
    /// elsewhere. Linux hosts cannot be told, and count the request as lost.
    pub fn refuse(self) {
        self.replier.refuse();
    }

    /// Answers that the request is not served, and why: the call fails with
    /// [`Rejected`](crate::CallErrorKind::Rejected). What a code means is up to the service. Linux
    /// hosts cannot be told, and count the request as lost.
    pub fn reject(self, code: u32, text: impl Into<String>) {
        self.replier.reject(Rejection { code, text: text.into() });
    }

    /// Begins a response whose bytes are written piece by piece: `body_bytes`, or as many as there
    /// will be (`None`), which Linux hosts do not take.
    ///
    /// # Errors
    /// See [`ReplyError`].
    pub fn reply_streaming(
        self,
        body_bytes: impl Into<Option<u32>>,
    ) -> Result<BodyWriter, ReplyError> {
        self.reply_streaming_with(body_bytes, Metadata::new())
    }

    /// As [`Responder::reply_streaming`], with something beside the body.
    ///
    /// # Errors
    /// See [`ReplyError`].
    pub fn reply_streaming_with(
        self,
        body_bytes: impl Into<Option<u32>>,
        metadata: Metadata,
    ) -> Result<BodyWriter, ReplyError> {
        Ok(BodyWriter::new(self.replier.reply_streaming(body_bytes.into(), metadata)?))
    }
}

#[inline]
fn reply(replier: Replier, body: Body) -> Pending<impl Operation<Output = Result<(), ReplyError>>> {
    let mut body = Some(body);
    Pending::hasty(replier, move |replier: &mut Replier, waker| {
        replier.poll_reply(waker, &mut body)
    })
}

/// A request whose body may still be arriving.
#[derive(Debug)]
#[must_use = "dropping a request rejects it"]
pub struct RequestStream {
    reader: BodyReader,
    responder: Responder,
}

impl RequestStream {
    pub(crate) fn new(accepted: Accepted) -> Self {
        let (incoming, replier) = accepted.into_stream();
        Self { reader: BodyReader::new(incoming), responder: Responder { replier } }
    }

    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.responder.peer()
    }

    /// What travels beside the body.
    pub fn metadata(&self) -> &Metadata {
        self.reader.metadata()
    }

    /// As [`Responder::deadline`].
    pub fn deadline(&self) -> Option<Instant> {
        self.responder.deadline()
    }

    /// Bytes of the whole body, if its client knew.
    pub fn body_bytes(&self) -> Option<u32> {
        self.reader.body_bytes()
    }

    /// What reads the body and what answers, in any tasks and threads. A call that was opened
    /// without a length is answered while its body is read; dropping the reader tells its client
    /// ([`StreamError::Stopped`]).
    ///
    /// The response of other calls leaves when all of the body is here: what is written before
    /// waits, and what was not read then is kept in memory. So a reader that is not used is to be
    /// dropped, which discards the rest of the body as it comes.
    pub fn split(self) -> (BodyReader, Responder) {
        (self.reader, self.responder)
    }

    /// Waits for the rest of the body and makes an ordinary request of it. Dropping the future
    /// rejects the request.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub fn collect(self) -> Pending<impl Operation<Output = Result<Request, StreamError>>> {
        let mut responder = Some(self.responder);
        Pending::new(self.reader, move |reader: &mut BodyReader, waker| {
            let body = std::task::ready!(reader.poll_rest(waker));
            std::task::Poll::Ready(match (body, responder.take()) {
                (Ok(body), Some(responder)) => Ok(Request { body, responder }),
                (Ok(_), None) => Err(crate::CallError::from(crate::CallErrorKind::Closed).into()),
                (Err(error), _) => Err(error),
            })
        })
    }
}
