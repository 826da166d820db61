//! Events of the engine, passed on to users.

use std::sync::Arc;

use homa_core::{Event, FailReason, Path, RpcKey};
use homa_io::{EventHandler, Message, ShardView};

use super::context::Context;
use super::frame::Leg;
use super::registry::Entry;
use super::rpc::{Incoming, Role, Rpc, RpcState};
use super::sets::Started;
use crate::{CallError, CallErrorKind};

/// Pieces of a stream that wait unread outside the engine's memory, in bytes; more stay inside,
/// where they hold the sender back.
const STREAM_BUFFER_BYTES: usize = 256 << 10;

impl EventHandler for Context<'_> {
    fn event(&mut self, event: Event, shard: &mut ShardView<'_>) {
        match event {
            Event::RequestWhole { rpc, path, length, framed, .. } => {
                self.request_whole(rpc, path, (length, framed), shard);
            }
            Event::ResponseWhole { rpc, length, framed, released_upto, .. } => {
                self.response_whole(rpc, (length, framed), released_upto, shard);
            }
            Event::ResponseDelivered { rpc, released_upto } => {
                self.ended(rpc, Some(released_upto));
            }
            Event::RequestStarted { rpc, path, length, framed, .. } => {
                let _known = self.request_started(rpc, path, (length, framed), false);
            }
            Event::RequestArrived { rpc, length } => self.arrived(rpc, length, shard),
            Event::ResponseStarted { rpc, length, framed, .. } => {
                self.response_started(rpc, length, framed);
            }
            Event::ResponseArrived { rpc, length, .. } => self.arrived(rpc, length, shard),
            Event::BodyProgress { rpc, contiguous_upto, length } => {
                if let Some(rpc) = self.registry.get(rpc).cloned() {
                    self.progress(&rpc, (contiguous_upto, length), shard);
                }
            }
            Event::Failed { rpc, reason, .. } => self.failed(rpc, reason, shard),
            Event::Released { rpc, upto } => self.released(rpc, upto),
            Event::Ended { rpc } => self.ended(rpc, None),
            _ => {}
        }
    }
}

impl Context<'_> {
    /// A request is accepted when it is complete; a streaming one when its frame or first byte is
    /// here.
    fn request_started(
        &mut self,
        key: RpcKey,
        path: Path,
        (length_bytes, framed): (u32, bool),
        complete: bool,
    ) -> Arc<Rpc> {
        let mut state = RpcState { key: Some(key), ..RpcState::default() };
        state.incoming.length_bytes = Some(length_bytes);
        state.incoming.framed = framed;
        state.incoming.complete = complete;
        state.incoming.streaming = self.rooms.requests.is_streaming();
        let rpc = Rpc::new(path.remote, Role::Server, state);
        self.registry.insert(key, Entry::Rpc(Arc::clone(&rpc)));
        rpc
    }

    fn request_whole(
        &mut self,
        key: RpcKey,
        path: Path,
        (length_bytes, framed): (u32, bool),
        shard: &mut ShardView<'_>,
    ) {
        let requests = &self.rooms.requests;
        let is_plain = !framed && !requests.is_streaming();
        if is_plain && self.registry.not_queued.is_empty() && requests.has_room(path.remote) {
            return self.queue_plain(key, path.remote, shard);
        }
        let rpc = self.request_started(key, path, (length_bytes, framed), true);
        match self.rooms.requests.is_streaming() {
            true => self.arrived(key, length_bytes, shard),
            false => self.queue_or_keep(rpc, shard),
        }
    }

    fn response_started(&mut self, key: RpcKey, length_bytes: u32, framed: bool) {
        if let Some(rpc) = self.registry.get(key) {
            let mut state = rpc.lock();
            state.incoming.length_bytes = Some(length_bytes);
            state.incoming.framed = framed;
            if state.incoming.streaming {
                self.wakes.add(state.reader.take());
            }
        } else if let Some(member) = self.registry.member_mut(key) {
            member.framed = framed;
        }
    }

    fn response_whole(
        &mut self,
        key: RpcKey,
        (length_bytes, framed): (u32, bool),
        released_upto: u32,
        shard: &mut ShardView<'_>,
    ) {
        let rpc = match self.registry.remove(key) {
            Some(Entry::Rpc(rpc)) => rpc,
            Some(Entry::Member(member)) => {
                let response = shard.take_response(key).unwrap_or_default();
                return self.member_answered(member, framed, response);
            }
            // Requests have no response that comes in.
            Some(Entry::Plain(_)) | None => return,
        };
        let mut state = rpc.lock();
        state.outgoing.released_upto = released_upto;
        self.wakes.add(state.writer.take());
        state.incoming.length_bytes = Some(length_bytes);
        state.incoming.framed = framed;
        if state.incoming.streaming {
            self.wakes.add(state.reader.take());
            drop(state);
            self.registry.insert(key, Entry::Rpc(rpc));
            return self.arrived(key, length_bytes, shard);
        }
        state.incoming.complete = true;
        state.key = None;
        self.rooms.release(rpc.role, &mut state, self.wakes);
        state.deliver(rpc.peer, shard.take_response(key), self.wakes);
    }

    /// The whole response to a member of a set.
    fn member_answered(&mut self, member: Started, framed: bool, response: Message) {
        let result = Incoming::whole_response(framed, response);
        let result = result.map_err(|kind| CallError::new(member.server, kind));
        self.registry.sets.finish(member, result);
    }

    /// The incoming message is complete.
    fn arrived(&mut self, key: RpcKey, length_bytes: u32, shard: &mut ShardView<'_>) {
        let Some(rpc) = self.registry.get(key) else {
            return self.member_arrived(key, shard);
        };
        let mut state = rpc.lock();
        state.incoming.complete = true;
        if state.incoming.streaming {
            let rpc = Arc::clone(rpc);
            let early_response = state.early_response.take();
            // What was not read is kept, so that the RPC can end.
            let is_upload = matches!(state.incoming.leg(), Some((Leg::Upload, _)));
            state.incoming.read_ahead |= is_upload;
            drop(state);
            self.progress(&rpc, (length_bytes, length_bytes), shard);
            self.stream_arrived(&rpc);
            if is_upload && rpc.lock().partner.is_some() {
                self.answer_upload(&rpc, shard);
            }
            if let Some(response) = early_response {
                self.reply_at_last(&rpc, *response, shard);
            }
        } else if rpc.role == Role::Client {
            self.rooms.release(rpc.role, &mut state, self.wakes);
            state.deliver(rpc.peer, shard.take(key), self.wakes);
        } else {
            drop(state);
            self.queue_or_keep(Arc::clone(rpc), shard);
        }
    }

    /// The response to a member of a set, if it is one, is complete.
    fn member_arrived(&mut self, key: RpcKey, shard: &mut ShardView<'_>) {
        if self.registry.member(key).is_none() {
            return;
        }
        // Without a message it has failed, which an event of its own says.
        let Some(response) = shard.take(key) else { return };
        if let Some(Entry::Member(member)) = self.registry.remove(key) {
            let framed = member.framed;
            self.member_answered(member, framed, response);
        }
    }

    /// Queues a request for those who accept, or keeps it until they have room.
    fn queue_or_keep(&mut self, rpc: Arc<Rpc>, shard: &mut ShardView<'_>) {
        if self.registry.not_queued.is_empty() && self.rooms.requests.has_room(rpc.peer) {
            self.take_request(&rpc, shard);
        } else {
            rpc.lock().arrived_ns = Some(shard.now().as_nanos());
            self.registry.not_queued.push(rpc.peer, rpc, 0);
            self.refill_accept(shard);
        }
    }

    /// More of a stream is here.
    fn progress(
        &mut self,
        rpc: &Arc<Rpc>,
        (contiguous_upto, length_bytes): (u32, u32),
        shard: &mut ShardView<'_>,
    ) {
        let mut state = rpc.lock();
        let incoming = &mut state.incoming;
        incoming.length_bytes = Some(length_bytes);
        incoming.contiguous_upto = incoming.contiguous_upto.max(contiguous_upto);
        let may_take = incoming.unread_bytes() < STREAM_BUFFER_BYTES;
        if may_take || incoming.discarded || incoming.read_ahead {
            drop(state);
            self.take(rpc, shard);
        }
    }

    /// A stream is complete: a call takes no room any more, and may have been rejected.
    fn stream_arrived(&mut self, rpc: &Rpc) {
        if rpc.role == Role::Client {
            self.release(rpc);
            let rejection = rpc.lock().incoming.take_rejection();
            if let Some(rejection) = rejection {
                let kind = CallErrorKind::Rejected(rejection);
                rpc.fail(CallError::new(rpc.peer, kind), self.wakes);
            }
        }
    }

    fn failed(&mut self, key: RpcKey, reason: FailReason, shard: &mut ShardView<'_>) {
        let Some(rpc) = self.registry.get(key).cloned() else {
            match self.registry.remove(key) {
                Some(Entry::Member(member)) => {
                    let error = CallError::from_reason(reason, member.server);
                    self.registry.sets.finish(member, Err(error));
                }
                Some(Entry::Plain(charge)) => self.plain_failed(key, charge),
                Some(Entry::Rpc(_)) | None => {}
            }
            return;
        };
        let error = CallError::from_reason(reason, rpc.peer);
        // A server that reads no more of a request may answer it all the same.
        let mut state = rpc.lock();
        state.is_stopped = state.is_upload && reason == FailReason::Rejected;
        let is_stopped = state.is_stopped;
        drop(state);
        match is_stopped {
            true => self.fail_one(&rpc, error),
            false => self.fail(&rpc, error, shard),
        }
    }

    fn released(&mut self, key: RpcKey, upto: u32) {
        if let Some(rpc) = self.registry.get(key) {
            let mut state = rpc.lock();
            state.outgoing.released_upto = upto;
            self.wakes.add(state.writer.take());
        }
    }

    /// The RPC is over; its outgoing message may have been released until now.
    fn ended(&mut self, key: RpcKey, released_upto: Option<u32>) {
        let rpc = match self.registry.remove(key) {
            Some(Entry::Rpc(rpc)) => rpc,
            // It ends only after its response or its failure; without either nothing else would.
            Some(Entry::Member(member)) => {
                let error = CallError::new(member.server, CallErrorKind::Closed);
                return self.registry.sets.finish(member, Err(error));
            }
            Some(Entry::Plain(Some(charge))) => return self.registry.ended.add(charge),
            Some(Entry::Plain(None)) | None => return,
        };
        let mut state = rpc.lock();
        state.outgoing.released_upto = released_upto.unwrap_or(state.outgoing.released_upto);
        self.rooms.release(rpc.role, &mut state, self.wakes);
        state.key = None;
        // No waiter is left, whatever the engine reported before.
        self.wakes.add(state.writer.take());
        self.wakes.add(state.reader.take());
    }
}
