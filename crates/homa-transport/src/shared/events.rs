//! Events of the engine, passed on to users.

use std::sync::Arc;

use homa_core::{Event, FailReason, Path, RpcKey};
use homa_io::{EventHandler, ShardView};

use super::context::Context;
use super::frame::Leg;
use super::rpc::{Role, Rpc, RpcState};
use crate::{CallError, CallErrorKind};

/// Pieces of a stream that wait unread outside the engine's memory, in bytes; more stay inside,
/// where they hold the sender back.
const STREAM_BUFFER_BYTES: usize = 256 << 10;

impl EventHandler for Context<'_> {
    fn event(&mut self, event: Event, shard: &mut ShardView<'_>) {
        match event {
            Event::RequestStarted { rpc, path, length, framed, .. } => {
                self.request_started(rpc, path, (length, framed));
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
            Event::Ended { rpc } => self.ended(rpc),
            _ => {}
        }
    }
}

impl Context<'_> {
    /// A request is accepted when it is complete; a streaming one when its frame or first byte is
    /// here.
    fn request_started(&mut self, key: RpcKey, path: Path, (length_bytes, framed): (u32, bool)) {
        let mut state = RpcState { key: Some(key), ..RpcState::default() };
        state.incoming.length_bytes = Some(length_bytes);
        state.incoming.framed = framed;
        state.incoming.streaming = self.rooms.requests.is_streaming();
        self.registry.insert(key, Rpc::new(path.remote, Role::Server, state));
    }

    fn response_started(&mut self, key: RpcKey, length_bytes: u32, framed: bool) {
        if let Some(rpc) = self.registry.get(key) {
            let mut state = rpc.lock();
            state.incoming.length_bytes = Some(length_bytes);
            state.incoming.framed = framed;
            if state.incoming.streaming {
                self.wakes.add(state.reader.take());
            }
        }
    }

    /// The incoming message is complete.
    fn arrived(&mut self, key: RpcKey, length_bytes: u32, shard: &mut ShardView<'_>) {
        let Some(rpc) = self.registry.get(key) else { return };
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
            if let Some(message) = shard.take(key) {
                state.take_response(rpc.peer, message);
            }
            state.wake_reader(self.wakes);
        } else if self.registry.not_queued.is_empty() && self.rooms.requests.has_room(rpc.peer) {
            drop(state);
            self.take_request(&Arc::clone(rpc), shard);
        } else {
            state.arrived_ns = Some(shard.now().as_nanos());
            drop(state);
            let rpc = Arc::clone(rpc);
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
        let Some(rpc) = self.registry.get(key).cloned() else { return };
        let error = CallError::from_reason(reason, rpc.peer);
        // A server that reads no more of a request may answer it all the same.
        if rpc.role == Role::Client && reason == FailReason::Rejected && rpc.lock().is_upload {
            rpc.lock().is_stopped = true;
            self.fail_one(&rpc, error);
        } else {
            self.fail(&rpc, error, shard);
        }
    }

    fn released(&mut self, key: RpcKey, upto: u32) {
        if let Some(rpc) = self.registry.get(key) {
            let mut state = rpc.lock();
            state.outgoing.released_upto = upto;
            self.wakes.add(state.writer.take());
        }
    }

    fn ended(&mut self, key: RpcKey) {
        let Some(rpc) = self.registry.remove(key) else { return };
        let mut state = rpc.lock();
        self.rooms.release(rpc.role, &mut state, self.wakes);
        state.key = None;
        // No waiter is left, whatever the engine reported before.
        self.wakes.add(state.writer.take());
        self.wakes.add(state.reader.take());
    }
}
