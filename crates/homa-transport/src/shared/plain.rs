//! Requests that came whole, and have no state that is shared.

use std::net::SocketAddr;
use std::sync::Arc;

use homa_core::{FailReason, RpcKey, SendError};
use homa_io::ShardView;

use super::accept::Queued;
use super::context::Context;
use super::origin::Origin;
use super::registry::Entry;
use super::room::Charge;
use super::rpc::{Content, Rpc};
use super::send;
use crate::{CallError, CallErrorKind};

impl Context<'_> {
    /// Queues a request that is here for those who accept.
    pub(crate) fn queue_plain(
        &mut self,
        key: RpcKey,
        client: SocketAddr,
        shard: &mut ShardView<'_>,
    ) {
        let Some(body) = shard.take(key) else { return };
        self.registry.insert(key, Entry::Plain(None));
        let requests = &self.rooms.requests;
        let refuse_at_ns = requests.refuse_at_ns(shard.now().as_nanos(), None);
        let origin = Origin::Plain { key, client };
        match requests.push(Queued { origin, body, refuse_at_ns }) {
            Ok(waiter) => self.wakes.add(waiter),
            Err(_refused) => self.end_plain(key, FailReason::NotExecuted, shard),
        }
    }

    /// Answers a request with what has taken that room.
    #[inline]
    pub(crate) fn answer_plain(
        &mut self,
        key: RpcKey,
        response: Content,
        charge: Charge,
        shard: &mut ShardView<'_>,
    ) {
        let Some(room) = self.registry.plain_mut(key) else {
            self.rooms.requests.given_up().take(key);
            return self.rooms.leave_responses(charge, self.wakes);
        };
        *room = Some(charge);
        if let Err(error) = send::response(key, response, shard) {
            self.response_failed(key, error, shard);
        }
    }

    /// The client must not wait for a response that will not come.
    #[cold]
    fn response_failed(&mut self, key: RpcKey, error: SendError, shard: &mut ShardView<'_>) {
        self.plain_over(key);
        if error != SendError::Stale {
            let _ = shard.abort(key, FailReason::Rejected);
        }
    }

    /// Ends a request for `why` that was not answered.
    pub(crate) fn end_plain(&mut self, key: RpcKey, why: FailReason, shard: &mut ShardView<'_>) {
        self.plain_over(key);
        self.rooms.requests.given_up().take(key);
        // Stale: it is over already, which is what was wanted.
        let _ = shard.abort(key, why);
    }

    /// Gives a request a state that is shared from now on.
    pub(crate) fn share_plain(&mut self, key: RpcKey, rpc: Arc<Rpc>) {
        let is_known = self.registry.plain_mut(key).is_some();
        if self.rooms.requests.given_up().take(key) {
            self.fail_one(&rpc, CallError::new(rpc.peer, CallErrorKind::Dropped));
        }
        match is_known {
            true => self.registry.insert(key, Entry::Rpc(rpc)),
            false => rpc.lock().key = None,
        }
    }

    /// A request without an answer is given up; one with an answer is over.
    pub(crate) fn plain_failed(&mut self, key: RpcKey, charge: Option<Charge>) {
        match charge {
            Some(charge) => self.rooms.leave_responses(charge, self.wakes),
            None => self.wakes.add(self.rooms.requests.given_up().add(key)),
        }
    }

    /// Gives back the room of responses that ended in this turn.
    #[inline]
    pub(crate) fn hand_back(&mut self) {
        if !self.registry.ended.is_empty() {
            self.rooms.leave_all_responses(&mut self.registry.ended, self.wakes);
        }
    }

    /// Forgets a request, and gives back the room of its response.
    fn plain_over(&mut self, key: RpcKey) {
        if let Some(Entry::Plain(Some(charge))) = self.registry.remove(key) {
            self.rooms.leave_responses(charge, self.wakes);
        }
    }
}
