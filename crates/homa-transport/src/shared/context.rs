//! Context of operations and events besides the shard, and what both of them do.

use std::net::SocketAddr;
use std::sync::Arc;

use homa_core::{FailReason, Path, ResponseOptions, SendError};
use homa_io::ShardView;

use super::accept::Queued;
use super::facts::Facts;
use super::registry::Registry;
use super::rooms::Rooms;
use super::rpc::{Content, EarlyResponse, Rpc, RpcState};
use super::wakes::Wakes;
use crate::drive::sync::MutexGuard;

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
        response: EarlyResponse,
        shard: &mut ShardView<'_>,
    ) {
        let Some(key) = state.key else {
            drop(state);
            return self.release(rpc);
        };
        if !state.incoming.complete {
            state.early_response = Some(Box::new(response));
            return;
        }
        drop(state);
        let sent = match response.content {
            Content::Whole(body) => shard.send_response(key, body, ResponseOptions::default()),
            Content::Announced(length_bytes) => {
                let announced =
                    shard.send_response_streaming(key, length_bytes, ResponseOptions::default());
                for piece in response.pieces {
                    // A stale RPC needs no more bytes.
                    let _ = shard.supply(key, piece);
                }
                announced
            }
        };
        if let Err(error) = sent {
            self.release(rpc);
            if error != SendError::Stale {
                // The client must not wait for a response that will not come.
                let _ = shard.abort(key, FailReason::Rejected);
            }
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
        let upto = incoming.contiguous_upto;
        let Some(part) = shard.take_upto(key, upto) else { return };
        let incoming = &mut state.incoming;
        incoming.taken_upto = incoming.taken_upto.saturating_add(length_u32(part.len()));
        if !incoming.discarded {
            incoming.add_part(part);
            self.wakes.add(state.reader.take());
        }
    }

    /// Moves complete requests into the accept queue as long as it has room.
    pub(crate) fn refill_accept(&mut self, shard: &mut ShardView<'_>) {
        let requests = &self.rooms.requests;
        while let Some(rpc) = self.registry.not_queued.pop(|client| requests.has_room(client)) {
            let key = rpc.lock().key;
            // A request that was given up meanwhile has no body any more.
            if let Some(body) = key.and_then(|key| shard.take(key)) {
                self.wakes.add(requests.push(Queued { rpc, body }));
            }
        }
        requests.set_more(!self.registry.not_queued.is_empty());
    }
}

/// A length that the engine has already limited to 2^30.
pub(crate) fn length_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
