//! What users ask of the engine, and how it is executed under the lock.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use homa_core::{FailReason, PeerSettings, RequestOptions, RpcError, SendError};
use homa_io::{Body, ShardView};

use super::context::{Context, length_u32};
use super::room::Charge;
use super::rpc::{EarlyAnswer, Rpc, RpcState};
use crate::drive::sync::MutexGuard;
use crate::{CallError, Limit};

/// One operation. Those about an RPC do nothing if it is over.
#[derive(Debug)]
pub(crate) enum Operation {
    /// Begin a call.
    Start(Arc<Rpc>, Body, RequestOptions),
    /// Begin a call whose body of so many bytes is supplied later.
    StartStreaming(Arc<Rpc>, u32, RequestOptions),
    /// Answer; the body has taken room.
    Reply(Arc<Rpc>, Body, Charge),
    /// Announce an answer of so many bytes.
    ReplyStreaming(Arc<Rpc>, u32, Charge),
    /// The next bytes of an announced message.
    Supply(Arc<Rpc>, Bytes),
    /// Read what comes in as a stream from now on.
    Stream(Arc<Rpc>),
    /// Move what has arrived of a stream to its reader.
    Take(Arc<Rpc>),
    /// Throw away what comes in.
    Discard(Arc<Rpc>),
    /// Give up: a call is cancelled, a request rejected.
    Abort(Arc<Rpc>),
    /// There is room in the accept queue again.
    RefillAccept,
    /// Change the settings of a peer.
    SetPeer(SocketAddr, PeerSettings),
}

/// Executes one operation.
pub(crate) fn execute(operation: Operation, shard: &mut ShardView<'_>, context: &mut Context<'_>) {
    match operation {
        Operation::Start(rpc, body, options) => {
            let path = context.path_to(rpc.peer);
            let begun = shard.send_request(path, body, 0, options);
            started(&rpc, begun, context);
        }
        Operation::StartStreaming(rpc, length_bytes, options) => {
            let path = context.path_to(rpc.peer);
            let begun = shard.send_request_streaming(path, length_bytes, 0, options);
            started(&rpc, begun, context);
        }
        Operation::Reply(rpc, body, charge) => {
            let mut state = rpc.lock();
            state.charge = Some(charge);
            reply(&rpc, state, EarlyAnswer::Whole(body), shard, context);
        }
        Operation::ReplyStreaming(rpc, length_bytes, charge) => {
            let answer = EarlyAnswer::Streaming { length_bytes, pieces: Vec::new() };
            let mut state = rpc.lock();
            state.charge = Some(charge);
            reply(&rpc, state, answer, shard, context);
        }
        Operation::Supply(rpc, bytes) => supply(&rpc, bytes, shard, context),
        Operation::Stream(rpc) => stream(&rpc, shard),
        Operation::Take(rpc) => take(&rpc, shard, context),
        Operation::Discard(rpc) => {
            rpc.lock().incoming.discarded = true;
            take(&rpc, shard, context);
        }
        Operation::Abort(rpc) => abort(&rpc, shard, context),
        Operation::RefillAccept => super::events::refill_accept(shard, context),
        Operation::SetPeer(peer, settings) => {
            let now = shard.now();
            let path = context.path_to(peer);
            // A full table of peers leaves the defaults in force.
            let _known = shard.engine_mut().set_peer(now, path, settings);
        }
    }
}

fn started(rpc: &Arc<Rpc>, begun: Result<homa_core::RpcKey, SendError>, context: &mut Context<'_>) {
    match begun {
        Ok(key) => {
            context.registry.insert(key, Arc::clone(rpc));
            rpc.lock().key = Some(key);
        }
        Err(error) => {
            let error = call_error(error, rpc.peer);
            context.release(rpc);
            rpc.fail(error, context.wakes);
        }
    }
}

fn call_error(error: SendError, server: SocketAddr) -> CallError {
    let limit = |limit| CallError::LimitReached { server, limit };
    match error {
        SendError::EmptyMessage => CallError::EmptyMessage { server },
        SendError::TooLong { max } | SendError::PeerLimit { max } => {
            CallError::TooLong { server, max_bytes: Some(max) }
        }
        SendError::RpcLimit => limit(Limit::LiveRpcs),
        SendError::PeersLimit => limit(Limit::Peers),
        SendError::OutOfMemory => limit(Limit::Memory),
        SendError::BadAddress => CallError::BadAddress { server },
        SendError::NoSuchPort => CallError::Closed,
        _ => CallError::TooLong { server, max_bytes: None },
    }
}

/// Answers, or keeps the answer until the request is complete.
pub(crate) fn reply(
    rpc: &Rpc,
    mut state: MutexGuard<'_, RpcState>,
    answer: EarlyAnswer,
    shard: &mut ShardView<'_>,
    context: &mut Context<'_>,
) {
    let Some(key) = state.key else {
        drop(state);
        return context.release(rpc);
    };
    if !state.incoming.complete {
        state.early_answer = Some(Box::new(answer));
        return;
    }
    drop(state);
    let sent = match answer {
        EarlyAnswer::Whole(body) => shard.send_response(key, body),
        EarlyAnswer::Streaming { length_bytes, pieces } => {
            let announced = shard.send_response_streaming(key, length_bytes);
            for piece in pieces {
                // A stale RPC needs no more bytes.
                let _ = shard.supply(key, piece);
            }
            announced
        }
    };
    if let Err(error) = sent {
        context.release(rpc);
        if error != SendError::Stale {
            // The client must not wait for an answer that will not come.
            let _ = shard.abort(key, FailReason::Rejected);
        }
    }
}

fn supply(rpc: &Arc<Rpc>, bytes: Bytes, shard: &mut ShardView<'_>, context: &mut Context<'_>) {
    let mut state = rpc.lock();
    if let Some(EarlyAnswer::Streaming { pieces, .. }) = state.early_answer.as_deref_mut() {
        pieces.push(bytes);
        return;
    }
    let Some(key) = state.key else { return };
    drop(state);
    match shard.supply(key, bytes) {
        Ok(()) | Err(RpcError::Stale) => {}
        // More than announced, which the sender has checked: give up rather than send garbage.
        Err(_) => abort(rpc, shard, context),
    }
}

fn stream(rpc: &Arc<Rpc>, shard: &mut ShardView<'_>) {
    let mut state = rpc.lock();
    state.incoming.streaming = true;
    if let Some(key) = state.key {
        drop(state);
        // Stale: the events about its end tell the reader.
        let _ = shard.set_streaming(key);
    }
}

/// Moves what has arrived of a stream from the store to its reader, or throws it away.
pub(crate) fn take(rpc: &Arc<Rpc>, shard: &mut ShardView<'_>, context: &mut Context<'_>) {
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
        context.wakes.add(state.reader.take());
    }
}

fn abort(rpc: &Arc<Rpc>, shard: &mut ShardView<'_>, context: &mut Context<'_>) {
    let key = rpc.lock().key;
    if let Some(key) = key {
        // Stale: it is over already, which is what was wanted.
        let _ = shard.abort(key, FailReason::Rejected);
    }
    context.release(rpc);
    rpc.fail(CallError::BodyIncomplete { server: rpc.peer }, context.wakes);
}
