//! Context of operations and events besides the shard, and what both of them do.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use homa_core::{FailReason, Path, SendError};
use homa_io::{Message, ShardView};

use super::accept::Queued;
use super::facts::Facts;
use super::frame::{Malformed, length_u32};
use super::origin::Origin;
use super::registry::{Entry, Registry};
use super::rooms::Rooms;
use super::rpc::{Content, EarlyResponse, Role, Rpc, RpcState};
use super::send;
use super::singles::{Meeting, Single};
use super::wakes::Wakes;
use crate::drive::sync::MutexGuard;
use crate::{CallError, CallErrorKind};

/// Borrowed for the length of one turn.
pub(crate) struct Context<'a> {
    pub(crate) registry: &'a mut Registry,
    /// Woken after the lock is released.
    pub(crate) wakes: &'a mut Wakes,
    pub(crate) rooms: &'a Rooms,
    pub(crate) facts: &'a Facts,
}

impl Context<'_> {
    /// Gives back the room that an RPC's outgoing message took.
    pub(crate) fn release(&mut self, rpc: &Rpc) {
        self.rooms.release(rpc.role, &mut rpc.lock(), self.wakes);
    }

    pub(crate) fn path_to(&self, remote: SocketAddr) -> Path {
        Path {
            remote,
            local_ip: None,
            local_port: self.facts.address.port(),
            interface: 0,
            carriage: self.facts.carriage,
        }
    }

    /// Answers, or keeps the response until the request is complete.
    pub(crate) fn reply(
        &mut self,
        rpc: &Rpc,
        mut state: MutexGuard<'_, RpcState>,
        response: Content,
        shard: &mut ShardView<'_>,
    ) {
        let Some(key) = state.key else {
            drop(state);
            return self.release(rpc);
        };
        if !state.incoming.complete {
            state.early_response = Some(Box::new(EarlyResponse::new(response)));
            return;
        }
        drop(state);
        if let Err(error) = send::response(key, response, shard) {
            self.release(rpc);
            if error != SendError::Stale {
                // The client must not wait for a response that will not come.
                let _ = shard.abort(key, FailReason::Rejected);
            }
        }
    }

    /// Answers a request that is complete with what was kept for it.
    pub(crate) fn reply_at_last(
        &mut self,
        rpc: &Rpc,
        response: EarlyResponse,
        shard: &mut ShardView<'_>,
    ) {
        let state = rpc.lock();
        let key = state.key;
        self.reply(rpc, state, response.content, shard);
        let Some(key) = key else { return };
        for piece in response.pieces {
            send::supply(key, piece, shard);
        }
        if response.finished {
            // A stale RPC needs no end.
            let _ = shard.finish(key);
        }
    }

    /// Moves what has arrived of a stream from the store to its reader, or throws it away.
    pub(crate) fn take(&mut self, rpc: &Arc<Rpc>, shard: &mut ShardView<'_>) {
        let mut state = rpc.lock();
        let Some(key) = state.key else { return };
        let incoming = &mut state.incoming;
        if incoming.contiguous_upto <= incoming.taken_upto {
            return;
        }
        let Some(part) = shard.take_upto(key, incoming.contiguous_upto) else { return };
        let incoming = &mut state.incoming;
        if incoming.discarded {
            incoming.taken_upto = incoming.taken_upto.saturating_add(length_u32(part.len()));
            return;
        }
        let begins = incoming.framed || incoming.taken_upto == 0;
        match incoming.add_part(part) {
            Ok(true) if begins && rpc.role == Role::Server => {
                drop(state);
                self.accept(rpc, Message::new(), shard);
            }
            Ok(_) => self.wakes.add(state.reader.take()),
            Err(Malformed) => {
                drop(state);
                self.fail_malformed(rpc, shard);
            }
        }
    }

    /// A message whose frame cannot be read ends its RPC.
    pub(crate) fn fail_malformed(&mut self, rpc: &Rpc, shard: &mut ShardView<'_>) {
        self.end(rpc, FailReason::Rejected, CallErrorKind::Malformed, shard);
    }

    /// Ends an RPC that has failed, and its partner, whose users are told the same. It fails first:
    /// who makes it known to its partner then looks whether it has.
    pub(crate) fn fail(&mut self, rpc: &Rpc, error: CallError, shard: &mut ShardView<'_>) {
        let kind = error.kind_of_partner();
        // What a client that was silent learns when it asks for the RPC that failed.
        let why = match kind {
            CallErrorKind::Timeout => FailReason::Forgotten,
            _ => FailReason::Rejected,
        };
        self.fail_one(rpc, error);
        if let Some(partner) = rpc.partner() {
            self.end_one(&partner, why, kind, shard);
        }
    }

    /// Ends an RPC that has failed but not its partner.
    pub(crate) fn fail_one(&mut self, rpc: &Rpc, error: CallError) {
        self.release(rpc);
        rpc.fail(error, self.wakes);
    }

    /// Ends all RPCs without a word to their other ends.
    #[cold]
    pub(crate) fn fail_all(&mut self, error: &CallError) {
        for key in self.registry.keys() {
            match self.registry.remove(key) {
                Some(Entry::Rpc(rpc)) => self.fail_one(&rpc, error.clone()),
                Some(Entry::Member(member)) => {
                    self.registry.sets.finish(member, Err(error.clone()));
                }
                Some(Entry::Plain(charge)) => self.plain_failed(key, charge),
                None => {}
            }
        }
    }

    /// Ends an RPC for `why` at the other end, and for `kind` here; its partner too.
    pub(crate) fn end(
        &mut self,
        rpc: &Rpc,
        why: FailReason,
        kind: CallErrorKind,
        shard: &mut ShardView<'_>,
    ) {
        let partner = rpc.partner();
        for rpc in [Some(rpc), partner.as_deref()].into_iter().flatten() {
            self.end_one(rpc, why, kind.clone(), shard);
        }
    }

    /// Ends an RPC but not its partner.
    pub(crate) fn end_one(
        &mut self,
        rpc: &Rpc,
        why: FailReason,
        kind: CallErrorKind,
        shard: &mut ShardView<'_>,
    ) {
        let key = rpc.lock().key;
        if let Some(key) = key {
            // Stale: it is over already, which is what was wanted.
            let _ = shard.abort(key, why);
        }
        self.fail_one(rpc, CallError::new(rpc.peer, kind));
    }

    /// Moves complete requests into the accept queue as long as it has room.
    pub(crate) fn refill_accept(&mut self, shard: &mut ShardView<'_>) {
        let requests = &self.rooms.requests;
        while let Some(rpc) = self.registry.not_queued.pop(|client| requests.has_room(client)) {
            self.take_request(&rpc, shard);
        }
        requests.set_more(!self.registry.not_queued.is_empty());
    }

    /// Moves a complete request into the accept queue.
    pub(crate) fn take_request(&mut self, rpc: &Arc<Rpc>, shard: &mut ShardView<'_>) {
        let mut state = rpc.lock();
        // A request that was given up meanwhile has no body any more.
        let Some(message) = state.key.and_then(|key| shard.take(key)) else { return };
        if !state.incoming.framed {
            return self.queue((rpc, None), message, state, shard);
        }
        let body = state.incoming.body_of(message);
        drop(state);
        match body {
            Ok(body) => self.accept(rpc, body, shard),
            Err(Malformed) => self.fail_malformed(rpc, shard),
        }
    }

    /// Queues a request for those who accept, when both of its RPCs are here if it has two.
    pub(crate) fn accept(&mut self, rpc: &Arc<Rpc>, body: Message, shard: &mut ShardView<'_>) {
        let mut state = rpc.lock();
        let Some((leg, pair)) = state.incoming.leg() else {
            return self.queue((rpc, None), body, state, shard);
        };
        let now_ns = shard.now().as_nanos();
        state.note_deadline(now_ns);
        drop(state);
        let old_at_ns = now_ns.saturating_add(self.facts.timeout_ns);
        let single = Single { rpc: Arc::clone(rpc), body, leg, old_at_ns };
        match self.registry.single.meet(pair, single) {
            Meeting::Waits => {}
            Meeting::Refused => self.refuse(rpc, FailReason::Overloaded, shard),
            Meeting::Failed => self.refuse(rpc, FailReason::Rejected, shard),
            Meeting::Complete { upload, download } => {
                Rpc::pair(&upload.rpc, &download.rpc);
                download.rpc.lock().queued = true;
                self.answer_upload(&upload.rpc, shard);
                let rpcs = (&upload.rpc, Some(download.rpc));
                self.queue(rpcs, upload.body, upload.rpc.lock(), shard);
            }
        }
    }

    /// Queues a request, whose `state` this is, or refuses it if nobody accepts any more.
    #[inline]
    fn queue(
        &mut self,
        (rpc, answer): (&Arc<Rpc>, Option<Arc<Rpc>>),
        body: Message,
        mut state: MutexGuard<'_, RpcState>,
        shard: &mut ShardView<'_>,
    ) {
        let arrived_ns = state.note_deadline(shard.now().as_nanos());
        let refuse_at_ns = self.rooms.requests.refuse_at_ns(arrived_ns, state.deadline_ns);
        state.queued = true;
        drop(state);
        let origin = Origin::Shared { request: Arc::clone(rpc), answer };
        match self.rooms.requests.push(Queued { origin, body, refuse_at_ns }) {
            Ok(waiter) => self.wakes.add(waiter),
            Err(request) => self.refuse_unseen(&request.origin, FailReason::NotExecuted, shard),
        }
    }

    /// Answers the RPC that brings the body of a call, when all of it is here.
    pub(crate) fn answer_upload(&mut self, upload: &Rpc, shard: &mut ShardView<'_>) {
        let state = upload.lock();
        if let Some(key) = state.key.filter(|_| state.incoming.complete) {
            drop(state);
            // Stale: its client does not need it any more.
            let _ = send::response(key, Content::Whole(Message::new()), shard);
        }
    }

    /// Refuses requests that waited for too long, also while nobody accepts.
    pub(crate) fn refuse_overdue(&mut self, shard: &mut ShardView<'_>) {
        for request in self.rooms.requests.take_overdue(shard.now().as_nanos()) {
            self.refuse_unseen(&request.origin, FailReason::Overloaded, shard);
        }
        self.refill_accept(shard);
    }

    /// Refuses RPCs of calls that go both ways at once whose partner does not come. It may be what
    /// has not come so far that its frame was read: bodies that are accepted whole can take long.
    pub(crate) fn refuse_lone(&mut self, shard: &mut ShardView<'_>) {
        let is_unread = |rpc: &&Arc<Rpc>| rpc.role == Role::Server && rpc.lock().incoming.framed;
        let clients: HashSet<SocketAddr> =
            self.registry.rpcs().filter(is_unread).map(|rpc| rpc.peer).collect();
        let (now_ns, more_ns) = (shard.now().as_nanos(), self.facts.timeout_ns);
        let may_come = |rpc: &Rpc| clients.contains(&rpc.peer);
        for lone in self.registry.single.take_old(now_ns, more_ns, may_come) {
            self.refuse(&lone, FailReason::Overloaded, shard);
        }
    }

    /// Refuses a request that no handler has seen, by its origin.
    pub(crate) fn refuse_unseen(
        &mut self,
        origin: &Origin,
        why: FailReason,
        shard: &mut ShardView<'_>,
    ) {
        match origin {
            Origin::Plain { key, .. } => self.end_plain(*key, why, shard),
            Origin::Shared { request, .. } => self.refuse(request, why, shard),
        }
    }

    /// Refuses a request that no handler has seen.
    pub(crate) fn refuse(&mut self, rpc: &Rpc, why: FailReason, shard: &mut ShardView<'_>) {
        self.end(rpc, why, CallErrorKind::Closed, shard);
    }
}
