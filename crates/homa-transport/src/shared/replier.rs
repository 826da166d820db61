//! The right to answer one request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};

use homa_io::{Body, Metadata};

use super::frame::Frame;
use super::handle::{Handle, HasHandle};
use super::ops::Operation;
use super::room::{Charge, Place};
use super::rpc::{Content, Rpc};
use super::stream::OutgoingStream;
use super::wakes::store_waker;
use crate::{Rejection, ReplyError};

/// Answers a request once; dropped unused, it rejects the request.
#[derive(Debug)]
pub(crate) struct Replier {
    handle: Handle,
    /// Brought the request.
    request: Arc<Rpc>,
    /// Is answered, if it is another one.
    answer: Option<Arc<Rpc>>,
    /// Boxed, since it is rarely there and the replier is moved a lot.
    wait: Option<Box<Wait>>,
    used: bool,
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
    pub(crate) fn new(handle: Handle, request: Arc<Rpc>, answer: Option<Arc<Rpc>>) -> Self {
        handle.rooms.service.enter();
        Self { handle, request, answer, wait: None, used: false }
    }

    /// The RPC that is answered.
    fn rpc(&self) -> &Arc<Rpc> {
        self.answer.as_ref().unwrap_or(&self.request)
    }

    /// When the client gives the call up, if it said so.
    pub(crate) fn deadline_ns(&self) -> Option<u64> {
        self.request.lock().deadline_ns
    }

    /// The RPC that brought the request.
    pub(crate) fn request(&self) -> &Arc<Rpc> {
        &self.request
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.rpc().peer
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.handle.is_forked() || self.rpc().has_failed()
    }

    pub(crate) fn poll_cancelled(&mut self, waker: &Waker) -> Poll<()> {
        if self.is_cancelled() {
            return Poll::Ready(());
        }
        store_waker(&mut self.rpc().lock().writer, waker);
        // It may have failed before the waker was there.
        if self.is_cancelled() { Poll::Ready(()) } else { Poll::Pending }
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
            None => self.handle.rooms.responses.try_enter(self.rpc().peer, bytes).ok(),
            Some(_) => None,
        };
        let charge = match charge {
            Some(charge) => charge,
            None => match std::task::ready!(self.poll_room(waker, bytes)) {
                Some(charge) => charge,
                None => return Poll::Ready(Err(ReplyError::NoRoom { client: self.rpc().peer })),
            },
        };
        self.used = true;
        let content = Content::Whole(body.take().unwrap_or_default());
        self.handle.submit_reply(Operation::Reply(Arc::clone(self.rpc()), content, charge));
        Poll::Ready(Ok(()))
    }

    /// Ready with room, or with nothing when the client takes no responses.
    fn poll_room(&mut self, waker: &Waker, bytes: u64) -> Poll<Option<Charge>> {
        let (responses, client) = (&self.handle.rooms.responses, self.rpc().peer);
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
        self.submit(Content::Announced(body_bytes, frame));
        Ok(OutgoingStream::new(self.handle.clone(), Arc::clone(self.rpc()), body_bytes))
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
            self.handle.submit(Operation::Refuse(Arc::clone(self.rpc())));
        }
    }

    /// Answers whether there is room or not. It counts as a response on its way.
    fn submit(&mut self, content: Content) {
        self.used = true;
        let charge =
            self.handle.rooms.responses.enter_anyway(self.rpc().peer, content.held_bytes());
        self.handle.submit_reply(Operation::Reply(Arc::clone(self.rpc()), content, charge));
    }

    fn check(&self, bytes: u64, metadata: Option<&Metadata>) -> Result<(), ReplyError> {
        let client = self.rpc().peer;
        let max_bytes = self.handle.facts.max_message_bytes;
        if self.handle.is_forked() {
            Err(ReplyError::Forked)
        } else if self.handle.life.is_closed() {
            Err(ReplyError::Closed)
        } else if self.rpc().has_failed() {
            Err(ReplyError::Cancelled { client })
        } else if bytes > u64::from(max_bytes) {
            Err(ReplyError::TooLong { client, max_bytes })
        } else if metadata.is_some_and(|metadata| !metadata.is_valid()) {
            Err(ReplyError::InvalidMetadata { client })
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
        if !self.used && !self.rpc().has_failed() {
            self.handle.submit(Operation::Abort(Arc::clone(self.rpc())));
        }
        self.handle.leave_service();
    }
}
