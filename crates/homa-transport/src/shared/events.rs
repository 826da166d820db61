//! Events of the engine, passed on to users.

use std::sync::Arc;

use homa_core::{Event, FailReason, Path, RpcKey};
use homa_io::{EventHandler, ShardView};

use super::accept::Queued;
use super::context::Context;
use super::rpc::{Role, Rpc, RpcState};
use crate::CallError;

/// Pieces of a stream that wait unread outside the engine's memory, in bytes; more stay inside,
/// where they hold the sender back.
const STREAM_BUFFER_BYTES: usize = 256 << 10;

impl EventHandler for Context<'_> {
    fn event(&mut self, event: Event, shard: &mut ShardView<'_>) {
        match event {
            Event::RequestStarted { rpc, path, length, .. } => {
                self.request_started(rpc, path, length)
            }
            Event::RequestArrived { rpc, .. } => self.arrived(rpc, shard),
            Event::ResponseStarted { rpc, length, .. } => self.response_started(rpc, length),
            Event::ResponseArrived { rpc, .. } => self.arrived(rpc, shard),
            Event::BodyProgress { rpc, contiguous_upto } => {
                if let Some(rpc) = self.registry.get(rpc).cloned() {
                    self.progress(&rpc, contiguous_upto, shard);
                }
            }
            Event::Failed { rpc, reason, .. } => self.failed(rpc, reason),
            Event::Released { rpc, upto } => self.released(rpc, upto),
            Event::Ended { rpc } => self.ended(rpc),
            _ => {}
        }
    }
}

impl Context<'_> {
    fn request_started(&mut self, key: RpcKey, path: Path, length_bytes: u32) {
        let streaming = self.rooms.requests.is_streaming();
        let mut state = RpcState { key: Some(key), ..RpcState::default() };
        state.incoming.length_bytes = Some(length_bytes);
        state.incoming.streaming = streaming;
        let rpc = Rpc::new(path.remote, Role::Server, state);
        self.registry.insert(key, Arc::clone(&rpc));
        if streaming {
            self.wakes.add(self.rooms.requests.push(Queued { rpc, body: homa_io::Message::new() }));
        }
    }

    fn response_started(&mut self, key: RpcKey, length_bytes: u32) {
        if let Some(rpc) = self.registry.get(key) {
            let mut state = rpc.lock();
            state.incoming.length_bytes = Some(length_bytes);
            if state.incoming.streaming {
                self.wakes.add(state.reader.take());
            }
        }
    }

    /// The incoming message is complete.
    fn arrived(&mut self, key: RpcKey, shard: &mut ShardView<'_>) {
        let Some(rpc) = self.registry.get(key) else { return };
        let mut state = rpc.lock();
        state.incoming.complete = true;
        if state.incoming.streaming {
            let rpc = Arc::clone(rpc);
            let length_bytes = state.incoming.length_bytes.unwrap_or(0);
            let early_response = state.early_response.take();
            drop(state);
            self.progress(&rpc, length_bytes, shard);
            self.release_answered_call(&rpc);
            if let Some(response) = early_response {
                self.reply(&rpc, rpc.lock(), *response, shard);
            }
        } else if rpc.role == Role::Client {
            self.rooms.release(rpc.role, &mut state, self.wakes);
            if let Some(message) = shard.take(key) {
                state.incoming.set_whole(message);
            }
            state.wake_reader(self.wakes);
        } else if self.registry.not_queued.is_empty() && self.rooms.requests.has_room(rpc.peer) {
            drop(state);
            let rpc = Arc::clone(rpc);
            // A request that was given up meanwhile has no body any more.
            if let Some(body) = shard.take(key) {
                self.wakes.add(self.rooms.requests.push(Queued { rpc, body }));
            }
        } else {
            drop(state);
            let rpc = Arc::clone(rpc);
            self.registry.not_queued.push(rpc.peer, rpc, 0);
            self.refill_accept(shard);
        }
    }

    /// More of a stream is here.
    fn progress(&mut self, rpc: &Arc<Rpc>, contiguous_upto: u32, shard: &mut ShardView<'_>) {
        let mut state = rpc.lock();
        let incoming = &mut state.incoming;
        incoming.contiguous_upto = incoming.contiguous_upto.max(contiguous_upto);
        if incoming.discarded || incoming.unread_bytes() < STREAM_BUFFER_BYTES {
            drop(state);
            self.take(rpc, shard);
        }
    }

    /// A call whose answer is complete takes no room any more.
    fn release_answered_call(&mut self, rpc: &Rpc) {
        if rpc.role == Role::Client {
            self.release(rpc);
        }
    }

    fn failed(&mut self, key: RpcKey, reason: FailReason) {
        let Some(rpc) = self.registry.get(key).cloned() else { return };
        self.release(&rpc);
        rpc.fail(CallError::from_reason(reason, rpc.peer), self.wakes);
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
