//! The right to answer one request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};

use homa_io::{Body, Metadata};

use super::frame::Frame;
use super::given_up::GivenUp;
use super::handle::{Handle, HasHandle};
use super::ops::Operation;
use super::origin::{Answering, Origin, shared_state};
use super::room::{Charge, Place};
use super::rpc::{Content, Rpc};
use super::stream::OutgoingStream;
use super::wakes::store_waker;
use crate::{Rejection, ReplyError};

/// Answers a request once; dropped unused, it rejects the request.
#[derive(Debug)]
pub(crate) struct Replier {
    handle: Handle,
    origin: Origin,
    /// Boxed, since it is rarely there and the replier is moved a lot.
    wait: Option<Box<Wait>>,
    used: bool,
    /// It waits to be cancelled, without a state that is shared.
    awaits_end: bool,
}

/// Waiting for room for a response.
#[derive(Debug)]
struct Wait {
    place: Option<Place>,
    /// It ends then, unless the client takes other responses meanwhile.
    until_ns: u64,
    /// How many it had taken then; `None`: it is known to take none.
    taken: Option<u64>,
}

impl Replier {
    #[inline]
    pub(crate) fn new(handle: Handle, origin: Origin) -> Self {
        handle.rooms.service.enter();
        Self { handle, origin, wait: None, used: false, awaits_end: false }
    }

    /// When the client gives the call up, if it said so.
    pub(crate) fn deadline_ns(&self) -> Option<u64> {
        self.origin.deadline_ns()
    }

    /// The RPC that brought the request, which has a state that is shared from now on.
    pub(crate) fn shared_request(&mut self) -> Arc<Rpc> {
        match &self.origin {
            Origin::Shared { request, .. } => Arc::clone(request),
            Origin::Plain { key, client } => {
                let request = shared_state(*key, *client);
                self.withdraw_waker();
                self.handle.submit_later(Operation::Share(*key, Arc::clone(&request)));
                self.origin = Origin::Shared { request: Arc::clone(&request), answer: None };
                request
            }
        }
    }

    /// The RPC that is answered, which has a state that is shared from now on.
    fn shared_answer(&mut self) -> Arc<Rpc> {
        match self.origin.answering() {
            Answering::Shared(rpc) => Arc::clone(rpc),
            Answering::Plain(_) => self.shared_request(),
        }
    }

    #[cfg(test)]
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.origin.client()
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.handle.is_forked() || self.is_given_up()
    }

    pub(crate) fn poll_cancelled(&mut self, waker: &Waker) -> Poll<()> {
        if self.is_cancelled() {
            return Poll::Ready(());
        }
        let is_given_up = match self.origin.answering() {
            Answering::Plain(key) => {
                self.awaits_end = true;
                self.given_up().contains_or_wait(key, waker)
            }
            Answering::Shared(rpc) => {
                store_waker(&mut rpc.lock().writer, waker);
                // It may have failed before the waker was there.
                rpc.has_failed()
            }
        };
        if is_given_up { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Takes `body` when there is room for it. Its client has to take other responses meanwhile:
    /// otherwise it would keep the handler from answering others.
    pub(crate) fn poll_reply(
        &mut self,
        waker: &Waker,
        body: &mut Option<Body>,
    ) -> Poll<Result<(), ReplyError>> {
        let bytes = body.as_ref().map_or(0, Body::len) as u64;
        let metadata = body.as_ref().map(Body::metadata);
        if let Err(error) = self.check(bytes, metadata) {
            return Poll::Ready(Err(error));
        }
        let charge = match &self.wait {
            None => self.handle.rooms.responses.try_enter(self.peer(), bytes).ok(),
            Some(_) => None,
        };
        let charge = match charge {
            Some(charge) => charge,
            None => match std::task::ready!(self.poll_room(waker, bytes)) {
                Some(charge) => charge,
                None => return Poll::Ready(Err(ReplyError::NoRoom { client: self.peer() })),
            },
        };
        self.used = true;
        let content = Content::Whole(body.take().unwrap_or_default());
        self.submit_reply(content, charge);
        Poll::Ready(Ok(()))
    }

    /// Ready with room, or with nothing when the client takes no responses.
    fn poll_room(&mut self, waker: &Waker, bytes: u64) -> Poll<Option<Charge>> {
        let (responses, client) = (&self.handle.rooms.responses, self.peer());
        let until_ns = self.handle.now_ns().saturating_add(self.handle.facts.timeout_ns);
        let taken = responses.given_back(client);
        let wait = self.wait.get_or_insert_with(|| Box::new(Wait { place: None, until_ns, taken }));
        if taken.is_some() && taken != wait.taken {
            (wait.until_ns, wait.taken) = (until_ns, taken);
        }
        if taken.is_none() || self.handle.is_past(wait.until_ns) {
            return Poll::Ready(responses.enter_at_last(client, bytes));
        }
        let before = wait.place;
        let entered = responses.enter_or_wait(client, bytes, &mut wait.place, waker, wait.until_ns);
        if let Ok(charge) = entered {
            return Poll::Ready(Some(charge));
        }
        if wait.place != before {
            self.handle.renew_deadline();
        }
        Poll::Pending
    }

    /// Announces a response. Its bytes take no room here: their sender holds little at a time, and
    /// the engine limits what all hold together.
    pub(crate) fn reply_streaming(
        mut self,
        body_bytes: Option<u32>,
        metadata: Metadata,
    ) -> Result<OutgoingStream, ReplyError> {
        self.check(u64::from(body_bytes.unwrap_or(0)), Some(&metadata))?;
        let frame = Box::new(Frame { open: body_bytes.is_none(), metadata, ..Frame::default() });
        let rpc = self.shared_answer();
        self.submit(Content::Announced(body_bytes, frame));
        Ok(OutgoingStream::new(self.handle.clone(), rpc, body_bytes))
    }

    /// Tells the client that its request is not served. A short text takes no room.
    pub(crate) fn reject(mut self, rejection: Rejection) {
        if self.check(0, None).is_ok() {
            self.submit(Content::Rejection(Box::new(rejection)));
        }
    }

    /// Tells the client that its request was not executed, for want of capacity.
    pub(crate) fn refuse(mut self) {
        if self.check(0, None).is_ok() {
            self.used = true;
            self.handle.submit(match self.origin.answering() {
                Answering::Plain(key) => Operation::RefusePlain(key),
                Answering::Shared(rpc) => Operation::Refuse(Arc::clone(rpc)),
            });
        }
    }

    /// Answers whether there is room or not. It counts as a response on its way.
    fn submit(&mut self, content: Content) {
        self.used = true;
        let charge = self.handle.rooms.responses.enter_anyway(self.peer(), content.held_bytes());
        self.submit_reply(content, charge);
    }

    /// Answers with what has taken room.
    fn submit_reply(&self, content: Content, charge: Charge) {
        self.handle.submit_reply(match self.origin.answering() {
            Answering::Plain(key) => Operation::ReplyPlain(key, content, charge),
            Answering::Shared(rpc) => Operation::Reply(Arc::clone(rpc), content, charge),
        });
    }

    /// Whether the client gave the call up.
    fn is_given_up(&self) -> bool {
        self.origin.is_given_up(self.given_up())
    }

    fn given_up(&self) -> &GivenUp {
        self.handle.rooms.requests.given_up()
    }

    /// Ends the wait for the end of a request without a state that is shared.
    #[inline]
    fn withdraw_waker(&self) {
        if let (true, Answering::Plain(key)) = (self.awaits_end, self.origin.answering()) {
            self.given_up().withdraw(key);
        }
    }

    /// Rejects the request, unless it was given up.
    #[cold]
    fn drop_unanswered(&self) {
        match self.origin.answering() {
            Answering::Plain(key) if self.given_up().take(key) => {}
            Answering::Plain(key) => self.handle.submit(Operation::AbortPlain(key)),
            Answering::Shared(rpc) if rpc.has_failed() => {}
            Answering::Shared(rpc) => self.handle.submit(Operation::Abort(Arc::clone(rpc))),
        }
    }

    fn check(&self, bytes: u64, metadata: Option<&Metadata>) -> Result<(), ReplyError> {
        let client = || self.peer();
        let max_bytes = self.handle.facts.max_message_bytes;
        if self.handle.is_forked() {
            Err(ReplyError::Forked)
        } else if self.handle.life.is_closed() {
            Err(ReplyError::Closed)
        } else if self.is_given_up() {
            Err(ReplyError::Cancelled { client: client() })
        } else if bytes > u64::from(max_bytes) {
            Err(ReplyError::TooLong { client: client(), max_bytes })
        } else if metadata.is_some_and(|metadata| !metadata.is_valid()) {
            Err(ReplyError::InvalidMetadata { client: client() })
        } else {
            Ok(())
        }
    }
}

impl HasHandle for Replier {
    #[inline]
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Replier {
    fn drop(&mut self) {
        if self.handle.is_forked() {
            return;
        }
        if let Some(place) = self.wait.as_ref().and_then(|wait| wait.place) {
            self.handle.rooms.responses.withdraw(place);
        }
        self.withdraw_waker();
        if !self.used {
            self.drop_unanswered();
        }
        self.handle.leave_service();
    }
}
